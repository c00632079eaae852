"""An export's candidates laid by hand, as constitution.export.work describes them, for the tests of cleaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from constitution.export.clean import clean
from constitution.export.settings import Cleaning, Settings
from constitution.export.work import Work
from constitution.records import Run

RUN = Run(
    "hand-0123456789ab", {}, "hand@1.0.0", "d", {}, {}, "0.1.0", {}, "2026-11-22T10:00:00+00:00",
    "2026-11-22T10:05:00+00:00",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One candidate. Its id is its place, as r0, r1, …, and its prompt's p0, p1, … unless `prompt_id` says so."""

    prompt: str | Sequence[tuple[str, str]] = "How do I bake bread?"
    """The user's turn, or pairs of role and text."""
    answer: str | None = "Mix flour and water, wait, and bake it."
    other: str | None = "No idea."
    tags: tuple[str, ...] = ()
    prompt_id: str | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        turns = [("user", self.prompt)] if isinstance(self.prompt, str) else self.prompt
        return [{"role": role, "content": content} for role, content in turns]

    def values(self, place: int) -> tuple[Any, ...]:
        users = "\n\n".join(turn["content"] for turn in self.messages if turn["role"] == "user")
        prompt_id = self.prompt_id or f"p{place}"
        sides = [None if text is None else f"{side}{place}" for side, text in (("a", self.answer), ("b", self.other))]
        return (
            *(f"r{place}", prompt_id, place, str(self.messages), list(self.tags), *sides),
            *(self.messages, users, self.answer, self.other),
        )


def lay(rows: Iterable[Row], format: str = "dpo", good: float = 0.5, **cleaning: Any) -> Work:
    """The tables of work.py with these rows; cleaning: its fields. All steps but those that are asked for are off."""
    connection = duckdb.connect()
    connection.execute("ATTACH ':memory:' AS warehouse")  # where the views are; here are none
    connection.execute(
        """
        CREATE SCHEMA export;
        CREATE TABLE export.given (
            id VARCHAR, prompt_id VARCHAR, place BIGINT, conversation VARCHAR, tags VARCHAR[], answer_id VARCHAR,
            other_id VARCHAR, messages STRUCT(role VARCHAR, content VARCHAR)[], user_text VARCHAR, answer VARCHAR,
            other VARCHAR
        );
        CREATE TABLE export.dropped (id VARCHAR, drop_reason VARCHAR, drop_detail VARCHAR);
        CREATE VIEW export.candidates AS
            SELECT id, prompt_id, place, conversation, tags, answer_id, other_id, 0.9::DOUBLE AS p FROM export.given;
        CREATE VIEW export.alive AS SELECT * FROM export.candidates ANTI JOIN export.dropped USING (id);
        CREATE VIEW export.texts AS
            SELECT id, place, prompt_id, messages, user_text, answer, other
            FROM export.given SEMI JOIN export.alive USING (id);
        """
    )
    for place, row in enumerate(rows):
        connection.execute(f"INSERT INTO export.given VALUES ({', '.join('?' * 11)})", row.values(place))
    settings = Settings(format=format, good=good, cleaning=Cleaning(**({"dedupe": "off"} | cleaning)))
    return Work(Path(), RUN, settings, connection)


def dropped_of(work: Work) -> dict[str, tuple[str, str | None]]:
    """Reason and detail of the rows that were dropped, by id. Fails unless kept + dropped = all, each once."""
    rows = work.connection.execute("SELECT id, drop_reason, drop_detail FROM export.dropped").fetchall()
    found = {id: (reason, detail) for id, reason, detail in rows}
    assert len(found) == len(rows), "a row was dropped twice"
    kept = {id for (id,) in work.connection.execute("SELECT id FROM export.alive").fetchall()}
    everything = {id for (id,) in work.connection.execute("SELECT id FROM export.candidates").fetchall()}
    assert kept | found.keys() == everything
    assert not kept & found.keys()
    return found


def dropped(
    rows: Iterable[Row], format: str = "dpo", good: float = 0.5, **cleaning: Any
) -> dict[str, tuple[str, str | None]]:
    """What cleaning drops of these rows. cleaning: its fields; all steps but those that are asked for are off."""
    work = lay(rows, format, good, **cleaning)
    clean(work)
    return dropped_of(work)
