"""Pairs of one prompt's answers: who is compared with whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from constitution.engines.reasoning import split
from constitution.generate.outcomes import last_answer
from constitution.identity import row_id
from constitution.records import REPEATS, DropReason, Prompt, Response

PairKind = Literal["first-last", "parent", "given", "perturbation"]


@dataclass(frozen=True, slots=True)
class Pair:
    id: str
    kind: PairKind
    a: Response
    """The earlier one."""
    b: Response
    flaw: DropReason | None = None
    """What became of one of the texts where it was written, a's first: cut, refused, filtered; of one that did not
    come, before the other's. None: both are whole."""
    gold_id: str | None = None

    @property
    def votable(self) -> bool:
        """False where a vote would say nothing: the same text twice, or no text."""
        return bool(self.a.text and self.b.text) and self.a.text != self.b.text

    @property
    def place(self) -> tuple[str | int, ...]:
        """Its place in its prompt, for seeds: the same in every run of the same seed."""
        place = self.kind, self.a.round, self.b.round
        return (*place, self.b.perturbation) if self.b.perturbation else place

    def shown(self, order: str) -> tuple[Response, Response]:
        return (self.a, self.b) if order == "ab" else (self.b, self.a)


def given_answers(run_id: str, prompt: Prompt) -> tuple[Response, ...]:
    """The answers that came with the prompt, as responses of kind `given`, round = their place among the answers. What
    a model thought before one, between tags, is its reasoning; one that ends in its thought is cut."""
    prompt_id = prompt.id
    thoughts = map(split, prompt.answers)
    return tuple(
        Response(
            id=row_id(run_id, prompt_id, "given", index),
            run_id=run_id,
            prompt_id=prompt_id,
            kind="given",
            round=index,
            text=thought.text,
            outcome="ok" if thought.text else "empty" if thought.closed else "cut",
            model="given",
            reasoning=thought.reasoning,
        )
        for index, thought in enumerate(thoughts)
    )


def pairs(
    run_id: str, prompt: Prompt, chain: Sequence[Response], given: Sequence[Response], kinds: Sequence[PairKind]
) -> list[Pair]:
    """The pairs of one prompt. `chain`: initial answer and revisions, by round, as far as it got; empty while it may
    get further.

    first-last: the initial answer against the last revision that has text, one that the server held back only where
    there is no other. An initial answer without text is paired with itself, so that the prompt has its (dropped) row;
    one with text that an engine failed to go on from has no pair. parent: every revision against the answer it was made
    from; where both kinds would make the same couple, it is one pair, of kind first-last.
    given: every two of the prompt's own answers.
    """
    by_id = {answer.id: answer for answer in chain}
    couples: dict[tuple[str, str], PairKind] = {}
    if "first-last" in kinds and chain and (len(chain) > 1 or not chain[0].text):
        last = last_answer(chain[1:]) or chain[-1]
        couples[chain[0].id, last.id] = "first-last"
    if "parent" in kinds:
        for answer in chain:
            if answer.parent_id is not None:
                couples.setdefault((answer.parent_id, answer.id), "parent")
    found = [
        replace(_pair(run_id, kind, by_id[a], by_id[b]), flaw=_flaw(by_id[a], by_id[b], by_id))
        for (a, b), kind in couples.items()
    ]
    if "given" in kinds:
        gold = given[prompt.gold].id if prompt.gold is not None else None
        for a, b in combinations(given, 2):
            pair = replace(_pair(run_id, "given", a, b), flaw=_flaw(a, b, by_id))
            found.append(replace(pair, gold_id=gold) if gold in (a.id, b.id) else pair)
    return found


def pairs_of(answer: Response, perturbations: Sequence[Response]) -> list[Pair]:
    """The pairs to be voted on: a is the answer, b its perturbation."""
    return [
        Pair(
            id=row_id(answer.run_id, answer.prompt_id, "pair", "perturbation", answer.id, perturbation.id),
            kind="perturbation",
            a=answer,
            b=perturbation,
        )
        for perturbation in perturbations
    ]


def _pair(run_id: str, kind: PairKind, a: Response, b: Response) -> Pair:
    return Pair(row_id(run_id, a.prompt_id, "pair", kind, a.id, b.id), kind, a, b)


def _flaw(a: Response, b: Response, by_id: Mapping[str, Response]) -> DropReason | None:
    for side in sorted((a, b), key=lambda answer: bool(answer.text)):
        outcome = _written(side, by_id).outcome
        if outcome in ("cut", "refused", "filtered"):
            return outcome
    return None


def _written(answer: Response, by_id: Mapping[str, Response]) -> Response:
    """The answer that the text was written in, as the view `written` finds it."""
    while answer.outcome in REPEATS and answer.parent_id is not None:
        answer = by_id[answer.parent_id]
    return answer
