"""What a warehouse knows of the things that annotations are about, and what each row says of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from constitution.errors import WarehouseError
from constitution.identity import row_id
from constitution.records import Annotation
from constitution.warehouse.annotations.said import Refused
from constitution.warehouse.query import connect

PROMPTS_RATER = "prompts"
"""The rater under whose name the view `rated` has the gold that came with the prompts."""

_PAIR = "SELECT {} AS key, id, run_id, prompt_id, a_id, b_id FROM preferences WHERE run_id = coalesce($run, run_id)"
_PAIRS = f"{_PAIR.format('id')} AND id IN (SELECT unnest($ids))"
_PAIRS_OF = f"{_PAIR.format('a_id')} AND a_id IN (SELECT unnest($ids)) AND b_id IN (SELECT unnest($ids))"
_RESPONSES = """
SELECT id, run_id, prompt_id FROM responses WHERE id IN (SELECT unnest($ids)) AND run_id = coalesce($run, run_id)
"""
_PRINCIPLES = "SELECT run_id, principle_id FROM principles UNION SELECT run_id, principle_id FROM scores"
"""The run's own, and those of the scorecards that it was asked."""

Row = Mapping[str, str]
"""The columns of a row that say something."""
Pair = tuple[str, str, str, str, str]
"""Id, run, prompt, response a, response b."""

ON_A_SHEET = {"first": "first_id", "second": "second_id", "a": "first_id", "b": "second_id"}
WITH_IDS = {"a": "first_id", "b": "second_id"}
"""In a table with a_id and b_id."""
IN_A_TABLE = {"a": "a", "b": "b"}


@dataclass(frozen=True, slots=True)
class Known:
    """What a row may be about, and what it may say."""

    pairs: dict[str, Pair]
    between: dict[frozenset[str], list[str]]
    """The pairs of two responses."""
    responses: dict[str, tuple[str, str]]
    """Run and prompt of each response."""
    principles: set[tuple[str, str]]
    """Run and id of each principle, those of its scorecards too."""

    @classmethod
    def of(cls, root: Path, rows: Sequence[Row], run_id: str | None) -> Known:
        """What the warehouse knows of the ids in `rows`. run_id: of this run alone; None: of all."""
        with connect(root) as connection:

            def ask(query: str, ids: Iterable[str]) -> list[tuple[Any, ...]]:
                wanted = list(dict.fromkeys(ids))
                return connection.execute(query, {"ids": wanted, "run": run_id}).fetchall() if wanted else []

            try:
                sides = [row[name] for row in rows if "pair_id" not in row for name in _SHOWN if name in row]
                found = ask(_PAIRS, (row["pair_id"] for row in rows if "pair_id" in row)) + ask(_PAIRS_OF, sides)
                answers = ask(_RESPONSES, (row["response_id"] for row in rows if "response_id" in row))
                principles = {(str(run), str(id)) for run, id in connection.execute(_PRINCIPLES).fetchall()}
            except duckdb.Error as error:
                raise WarehouseError(f"{root}: cannot be read: {str(error).splitlines()[0]}") from None
        pairs: dict[str, Pair] = {pair[0]: pair for _, *about in found if (pair := _pair(about))}
        between: dict[frozenset[str], list[str]] = {}
        for id, _, _, *two in pairs.values():
            between.setdefault(frozenset(two), []).append(id)
        return cls(pairs, between, {id: (run, prompt) for id, run, prompt in answers}, principles)

    def annotation(self, row: Row, rater: str, source: str, words: Mapping[str, str]) -> Annotation:
        """words: for an answer, and what each names: `a`, `b`, or the column that has its id. Raises Refused."""
        if rater == PROMPTS_RATER:
            hint = "name another rater"
            raise Refused(f"the rater is {rater!r}, which is the gold that came with the prompts", hint)
        if "pair_id" in row and "response_id" in row:
            raise Refused("has a pair_id and a response_id", "make two rows of it")
        pair_id = None
        if "response_id" in row:
            run_id, prompt_id = _look_up(self.responses, row["response_id"], "response", "responses")
            if "preferred" in row:
                raise Refused("has `preferred`, which is said of a pair", "give the response a `value`")
            value = _number(row["value"], {"true": 1.0, "false": 0.0}, "a number, true or false", math.isfinite)
        else:
            pair_id, run_id, prompt_id, *answers = self._pair(row)
            value = _side(row, words, *answers)
        principle_id = row.get("principle_id")
        if principle_id is not None and (run_id, principle_id) not in self.principles:
            hint = "correct the id, or add --skip-unknown"
            raise Refused(f"run {run_id} has no principle {principle_id!r}", hint, unknown=True)
        target = pair_id, row.get("response_id")
        id = row_id(run_id, rater, *target, principle_id)
        return Annotation(id, run_id, prompt_id, rater, value, source, *target, principle_id)

    def _pair(self, row: Row) -> Pair:
        if "pair_id" in row:
            found: Pair = _look_up(self.pairs, row["pair_id"], "pair", "preferences")
            return found
        if not row.keys() >= set(_SHOWN):
            raise Refused("has neither a pair_id nor a response_id", "say which pair or response it is about")
        shown = [row[name] for name in _SHOWN]
        pairs = self.between.get(frozenset(shown), [])
        if len(pairs) > 1:
            raise Refused(f"the responses {' and '.join(shown)} are in {len(pairs)} pairs", "give the pair_id too")
        return self.pairs[_look_up({" and ".join(shown): pairs[0]} if pairs else {}, " and ".join(shown),
                                   "pair of the responses", "preferences")]  # fmt: skip


_SHOWN = ("first_id", "second_id")


def _pair(about: Sequence[Any]) -> Pair:
    id, run_id, prompt_id, a_id, b_id = map(str, about)
    return id, run_id, prompt_id, a_id, b_id


def _side(row: Row, words: Mapping[str, str], a_id: str, b_id: str) -> float:
    """0 for a, 1 for b, 0.5 for neither, or what lies between."""
    shown = {name: row[name] for name in _SHOWN if name in row}
    if shown and (len(shown) < 2 or set(shown.values()) != {a_id, b_id}):
        hint = "keep them as the annotation sheet has them"
        raise Refused("first_id and second_id are not the pair's two responses", hint)
    if "preferred" not in row:
        value = _number(row["value"], {}, "a number from 0 (a is better) to 1 (b is)", lambda value: 0 <= value <= 1)
        if value != 0.5 and ("first" in words or shown.get("first_id", a_id) != a_id):
            hint = "write first, second or tie into `preferred`, or take the columns first_id and second_id out"
            raise Refused("`value` is of a and b, and the file shows a first and a second", hint)
        return value
    if "value" in row:
        raise Refused("has `preferred` and `value`", "keep one of them")
    said = row["preferred"]
    if said.lower() == "tie":
        return 0.5
    better = {"a": a_id, "b": b_id, **shown}.get(words.get(said.lower(), ""), said)
    if better not in (a_id, b_id):
        known = ", ".join([*words, "tie"])
        hint = f"expected are {known}, or the id of one of the pair's two responses"
        if not words:
            hint += "; first_id and second_id beside it would say which was the first and which the second"
        raise Refused(f"preferred is {said!r}", hint)
    return float(better == b_id)


def _look_up(known: Mapping[str, Any], id: str, what: str, table: str) -> Any:
    if id not in known:
        hint = f'correct the id (`constitution sql "SELECT id FROM {table}"` has them), name another run or none with '
        hint += "--run, or drop such rows with --skip-unknown"
        raise Refused(f"there is no {what} {id!r}", hint, unknown=True)
    return known[id]


def _number(text: str, words: Mapping[str, float], expected: str, allowed: Callable[[float], bool]) -> float:
    try:
        value = words[text.lower()] if text.lower() in words else float(text)
    except ValueError:
        value = math.nan
    if not allowed(value):
        raise Refused(f"value is {text!r}", f"expected is {expected}")
    return value
