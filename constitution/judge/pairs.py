"""Pairs of one prompt's answers: who is compared with whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from constitution.identity import row_id
from constitution.records import Prompt, Response

PairKind = Literal["first-last", "parent", "given", "infraction"]


@dataclass(frozen=True, slots=True)
class Pair:
    id: str
    kind: PairKind
    a: Response
    """The earlier one."""
    b: Response
    cut: bool = False
    """One of the texts was cut by max_tokens."""
    gold_id: str | None = None

    @property
    def votable(self) -> bool:
        """False where a vote would say nothing: the same text twice, or no text."""
        return bool(self.a.text and self.b.text) and self.a.text != self.b.text

    @property
    def place(self) -> tuple[str, int, int]:
        """Its place in its prompt, for seeds: the same in every run of the same seed."""
        return self.kind, self.a.round, self.b.round

    def shown(self, order: str) -> tuple[Response, Response]:
        return (self.a, self.b) if order == "ab" else (self.b, self.a)


def given_answers(run_id: str, prompt: Prompt) -> tuple[Response, ...]:
    """The answers that came with the prompt, as responses of kind `sample`, round = their place among the answers."""
    prompt_id = prompt.id
    return tuple(
        Response(
            id=row_id(run_id, prompt_id, "given", index),
            run_id=run_id,
            prompt_id=prompt_id,
            kind="sample",
            round=index,
            text=text,
            outcome="ok" if text else "empty",
            model="given",
        )
        for index, text in enumerate(prompt.answers)
    )


def pairs(
    run_id: str, prompt: Prompt, chain: Sequence[Response], given: Sequence[Response], kinds: Sequence[PairKind]
) -> list[Pair]:
    """The pairs of one prompt. `chain`: initial answer and revisions, by round; empty where the chain did not finish.

    first-last: the initial answer against the last revision that has text. An initial answer without text is paired
    with itself, so that the prompt has its (dropped) row. parent: every revision against the answer it was made from;
    where both kinds would make the same couple, it is one pair, of kind first-last.
    given: every two of the prompt's own answers.
    """
    by_id = {answer.id: answer for answer in chain}
    couples: dict[tuple[str, str], PairKind] = {}
    if "first-last" in kinds and chain:
        last = next((answer for answer in reversed(chain[1:]) if answer.text), chain[-1])
        couples[chain[0].id, last.id] = "first-last"
    if "parent" in kinds:
        for answer in chain:
            if answer.parent_id is not None:
                couples.setdefault((answer.parent_id, answer.id), "parent")
    found = [
        _pair(run_id, prompt, kind, by_id[a], by_id[b], _was_cut(by_id[a], by_id) or _was_cut(by_id[b], by_id))
        for (a, b), kind in couples.items()
    ]
    if "given" in kinds:
        gold = given[prompt.gold].id if prompt.gold is not None else None
        for a, b in combinations(given, 2):
            pair = _pair(run_id, prompt, "given", a, b, False)
            found.append(replace(pair, gold_id=gold) if gold in (a.id, b.id) else pair)
    return found


def _pair(run_id: str, prompt: Prompt, kind: PairKind, a: Response, b: Response, cut: bool) -> Pair:
    return Pair(row_id(run_id, a.prompt_id, "pair", kind, a.id, b.id), kind, a, b, cut)


def _was_cut(answer: Response, by_id: Mapping[str, Response]) -> bool:
    """A skipped or unchanged revision has its parent's text, cut or not."""
    while answer.outcome in ("skipped", "unchanged") and answer.parent_id is not None:
        answer = by_id[answer.parent_id]
    return answer.outcome == "cut"
