"""A run of judged pairs for the tests of judging.sql: each test says what was answered and voted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import warehouse_rows

from constitution.identity import row_id
from constitution.records import (
    Annotation,
    Constitution,
    Judgement,
    Message,
    PairKind,
    Preference,
    Principle,
    Prompt,
    Response,
    Row,
)
from constitution.warehouse import Warehouse, ask, connect, convert

RUN = "judged-0123456789ab"
NAMES = ("kind", "true", "plain")
PRINCIPLES = tuple(Principle(name, "Critique.", "Revise.", f"Which is more {name}?") for name in NAMES)
CONSTITUTION = Constitution("judged", "1.0.0", "Three principles.", PRINCIPLES)


@dataclass
class Scene:
    """Rows in the making. Pairs are named by their number."""

    rows: list[Row] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    labels: list[Annotation] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=lambda: {"judge": {}})
    models: dict[str, dict[str, str]] = field(default_factory=lambda: {"judge": {"name": "judge"}})

    def pair(self, a: str = "one", b: str = "two", kind: PairKind = "parent", **given: Any) -> int:
        """The next prompt, with two answers, the second a revision of the first by `principle_id`; given: fields of the
        preference, and `perturbation`."""
        number = len(self.prompts)
        prompt = Prompt((Message("user", f"question {number}"),), f"p.jsonl#{number}")
        self.prompts.append(prompt)
        principle, perturbation = given.pop("principle_id", "kind"), given.pop("perturbation", None)
        first = Response(f"a{number}", RUN, prompt.id, "initial", 0, a, "ok", "m")
        second = Response(
            f"b{number}", RUN, prompt.id, "perturbation" if perturbation else "revision", 1, b,
            "unchanged" if a == b else "ok", "m", parent_id=first.id,
            principle_id=None if perturbation else principle, perturbation=perturbation,
        )  # fmt: skip
        made = Preference(f"pair{number}", RUN, prompt.id, kind, first.id, second.id, 0.5, 0, 0, None, None, None, None)
        self.rows += [first, second, replace(made, **given)]
        return number

    def vote(
        self, pair: int, principle: str, ab: float | None, ba: float | None, judge: str = "judge", **given: Any
    ) -> None:
        """Votes for b: where a was shown first, and where b was; None: not cast. given: fields of the judgement."""
        for order, p_b in (("ab", ab), ("ba", ba)):
            if p_b is None:
                continue
            first, second = (f"a{pair}", f"b{pair}") if order == "ab" else (f"b{pair}", f"a{pair}")
            vote = Judgement(
                row_id(pair, principle, judge, order, given.get("repeat", 0)), RUN, self.prompts[pair].id,
                f"pair{pair}", first, second, judge, principle, "d", "label", 1 - p_b if order == "ab" else p_b, 0.9,
                "t",
            )  # fmt: skip
            self.rows.append(replace(vote, **given))

    def say(
        self, rater: str, value: float, pair: int | None = None, response: str | None = None, about: str = ""
    ) -> None:
        """A label by `rater` on a pair or a response, under the principle `about`."""
        target = None if pair is None else f"pair{pair}"
        number = int(response[1:]) if response else pair or 0
        self.labels.append(
            Annotation(
                row_id(rater, target, response, about), RUN, self.prompts[number].id, rater, value, "f.csv", target,
                response, about or None,
            )
        )  # fmt: skip

    def write(self, root: Path) -> Warehouse:
        warehouse = Warehouse(root)
        warehouse.write_principles(RUN, CONSTITUTION)
        warehouse.write_prompts(RUN, 0, self.prompts)
        for kind, table in convert.TABLE_OF.items():
            if rows := [row for row in self.rows if isinstance(row, kind)]:
                warehouse.write_part(table, RUN, rows)
        warehouse.write_annotations(RUN, self.labels)
        warehouse.write_run(replace(warehouse_rows.run(RUN), recipe=self.recipe, models=self.models))
        return warehouse


def answer(root: Path, sql: str) -> list[dict[str, Any]]:
    with connect(root) as connection:
        found = ask(connection, sql)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def column(rows: Iterable[dict[str, Any]], *names: str) -> Sequence[Any]:
    """The values of one column, or tuples of several."""
    return [row[names[0]] if len(names) == 1 else tuple(row[name] for name in names) for row in rows]
