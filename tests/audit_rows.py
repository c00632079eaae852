"""A run written by hand, pair by pair, whose audit can be worked out on paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution.audit import audit
from constitution.identity import row_id
from constitution.records import (
    Annotation,
    Constitution,
    Figure,
    Judgement,
    Message,
    PairKind,
    Perturbation,
    Preference,
    Principle,
    Prompt,
    Response,
    Row,
    Run,
)
from constitution.warehouse import Warehouse, convert

RUN = "hand-0123456789ab"
PRINCIPLES = tuple(Principle(id, "Is it?", "Make it so.", f"Which is more {id}?") for id in ("kind", "true", "calm"))

Votes = Mapping[tuple[str, str], tuple[float, float]]
"""(judge, principle) → P(b is better) as voted where a was shown first, and where b was."""


@dataclass(frozen=True)
class Pair:
    """One prompt, its two answers and the votes on them."""

    number: int
    votes: Votes
    kind: PairKind = "first-last"
    texts: tuple[str, str] = ("one two three", "one two four")
    gold: str = ""
    """a, b, or nothing."""
    families: tuple[str | None, str | None] = (None, None)
    perturbation: Perturbation | None = None
    revised_by: str = "kind"
    outcome: str = "ok"
    p_mean: float | None = None
    """None: as the label."""

    def id(self, run_id: str = RUN) -> str:
        return row_id(run_id, "pair", self.number)

    @property
    def prompt(self) -> Prompt:
        return Prompt((Message("user", f"question {self.number}"),))

    def rows(self, run_id: str = RUN) -> list[Row]:
        pair, prompt = self.id(run_id), self.prompt.id
        a, b = self._answers(run_id, prompt)
        votes: list[Row] = []
        for (judge, principle), (ab, ba) in self.votes.items():
            for first, second, p_first in ((a, b, 1 - ab), (b, a, ba)):
                votes.append(
                    Judgement(
                        row_id(pair, judge, principle, first.id), run_id, prompt, pair, first.id, second.id, judge,
                        principle, "d" * 64, "label", p_first, 0.9, "t" * 64,
                    )
                )  # fmt: skip
        means = [sum(p) / 2 for p in self.votes.values()]
        p_b = sum(means) / len(means) if means else None
        gold = {"a": a.id, "b": b.id}.get(self.gold)
        preference = Preference(
            pair, run_id, prompt, self.kind, a.id, b.id, p_b, len(votes), 0, 1.0, 1.0, 0.9,
            "perturbation" if self.perturbation else None, gold, p_b if self.p_mean is None else self.p_mean,
        )  # fmt: skip
        return [a, b, *votes, preference]

    def _answers(self, run_id: str, prompt: str) -> tuple[Response, Response]:
        given = self.kind == "given"
        a_id, b_id = row_id(run_id, self.number, "a"), row_id(run_id, self.number, "b")
        a = Response(
            a_id, run_id, prompt, "given" if given else "initial", 0, self.texts[0], "ok", "m", family=self.families[0]
        )
        made: dict[str, Any] = {"perturbation": self.perturbation, "family": self.families[1]}
        if not given:
            made |= {"parent_id": a_id, "principle_id": self.revised_by}
        kind = "given" if given else "perturbation" if self.perturbation else "revision"
        b = Response(b_id, run_id, prompt, kind, 1, self.texts[1], self.outcome, "m", **made)  # type: ignore[arg-type]
        return a, b


def label(pair: Pair, value: float, rater: str = "ann", principle: str | None = None) -> Annotation:
    id = row_id(RUN, rater, pair.number, principle)
    return Annotation(id, RUN, pair.prompt.id, rater, value, "labels.csv", pair_id=pair.id(), principle_id=principle)


def store(
    root: Path,
    pairs: Iterable[Pair],
    *,
    run_id: str = RUN,
    version: str = "1.0.0",
    labels: Sequence[Annotation] = (),
    **recipe: Any,
) -> Warehouse:
    """The run, finished, in the warehouse at `root`; recipe: sections beside revise and judge."""
    pairs = list(pairs)
    warehouse = Warehouse(root)
    constitution = Constitution("hand", version, "", PRINCIPLES)
    warehouse.write_principles(run_id, constitution)
    warehouse.write_prompts(run_id, 0, [pair.prompt for pair in pairs])
    rows = [row for pair in pairs for row in pair.rows(run_id)]
    for kind, table in convert.TABLE_OF.items():
        if found := [row for row in rows if isinstance(row, kind)]:
            warehouse.write_part(table, run_id, found)
    if labels:
        warehouse.write_annotations(run_id, labels)
    sections = {"name": "hand", "revise": {"rounds": 1}, "judge": {"pairs": ["first-last"]}} | recipe
    models = {"policy": {"name": "m"}, "judge": {"name": "one"}}
    started, finished = "2026-11-22T10:00:00+00:00", "2026-11-22T10:05:00+00:00"
    warehouse.write_run(
        Run(run_id, sections, constitution.label, constitution.digest, {}, models, "0.1.0", {}, started, finished)
    )
    return warehouse


class Audited:
    """A run's figures, to be asked for one by one."""

    def __init__(self, root: Path, run_id: str = RUN) -> None:
        self.figures = audit(root, run_id, replicates=200)

    def __call__(self, name: str, judge: str = "", principle_id: str = "", subject: str = "") -> Figure:
        wanted = (name, judge, principle_id, subject)
        found = [f for f in self.figures if (f.figure, f.judge, f.principle_id, f.subject) == wanted]
        assert len(found) == 1, f"{wanted}: {found or [f for f in self.figures if f.figure == name]}"
        return found[0]

    def value(self, name: str, judge: str = "", principle_id: str = "", subject: str = "") -> float:
        value = self(name, judge, principle_id, subject).value
        assert value is not None, self(name, judge, principle_id, subject).note
        return value
