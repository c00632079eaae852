"""Which of a prompt's answers are compared with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from constitution.generate.chain import chain_of
from constitution.generate.outcomes import last_answer
from constitution.identity import row_id
from constitution.judge.groups import Totals
from constitution.records import REPEATS, DropReason, PairKind, Prompt, Response


@dataclass(frozen=True, slots=True)
class Pair:
    id: str
    kind: PairKind
    a: Response
    """The earlier one; of a contrast, the one that is not meant to be better."""
    b: Response
    flaw: DropReason | None = None
    """What became of one of the texts where it was written, a's first: cut, refused, filtered, copied; of one that did
    not come, before the other's. None: both are whole."""
    gold_id: str | None = None
    reward_a: float | None = None
    """What a has by the first source of [reward], with the length penalty; None: nothing."""
    reward_b: float | None = None
    rewarded: bool = True
    """False: a reward of one of its answers may still come."""

    @property
    def votable(self) -> bool:
        """False where a vote would say nothing: the same text twice, or no text."""
        return bool(self.a.text and self.b.text) and self.a.text != self.b.text

    @property
    def place(self) -> tuple[str | int, ...]:
        """Its place in its prompt, for seeds: the same in every run of the same seed."""
        place: tuple[str | int, ...] = (self.kind, self.a.round, self.b.round)
        if self.a.sampler and self.b.sampler:
            place = (*place, self.a.sampler, self.b.sampler)
        return (*place, self.b.perturbation) if self.b.perturbation else place

    def shown(self, order: str) -> tuple[Response, Response]:
        return (self.a, self.b) if order == "ab" else (self.b, self.a)


def pairs(
    run_id: str,
    prompt: Prompt,
    answers: Iterable[Response],
    kinds: Sequence[PairKind],
    known: Totals | None = None,
    of_samples: Iterable[tuple[PairKind, tuple[str, str]]] = (),
) -> list[Pair]:
    """The pairs of one prompt's answers, of the kinds that are asked for; perturbations always have theirs. Where two
    kinds choose the same two answers, it is one pair, of the kind that comes first in `CHOICES`, and then in groups.py.

    known: rewards of answers (groups.py); None: the recipe has none. of_samples: those of samples (groups.py)."""
    by_id = {answer.id: answer for answer in answers}
    gold = {answer.id for answer in by_id.values() if answer.kind == "given" and answer.round in prompt.better}
    chosen: dict[tuple[str, str], PairKind] = {}
    for kind, choose in CHOICES.items():
        if kind in kinds or kind == "perturbation":
            several = kind == "given" and prompt.golds
            for a, b in _sides(by_id, gold) if several else choose(by_id):
                chosen.setdefault((a, b), kind)
    for kind, ids in of_samples:
        if ids[::-1] not in chosen:
            chosen.setdefault(ids, kind)
    return [
        Pair(
            row_id(run_id, by_id[a].prompt_id, "pair", kind, a, b),
            kind,
            by_id[a],
            by_id[b],
            _flaw(by_id[a], by_id[b], by_id),
            _gold({a, b} & gold) if kind == "given" else None,
            reward_a=known.get(a) if known else None,
            reward_b=known.get(b) if known else None,
            rewarded=known is None or all(id in known or by_id[id].kind == "perturbation" for id in (a, b)),
        )
        for (a, b), kind in chosen.items()
    ]


def _gold(found: set[str]) -> str | None:
    """The pair's gold answer; None where both are, or neither is."""
    return found.pop() if len(found) == 1 else None


Answers = Mapping[str, Response]
"""Answers of one prompt, by id."""
Chosen = Iterable[tuple[str, str]]
"""Ids of the earlier and of the later answer."""


def _first_last(answers: Answers) -> Chosen:
    """What the chain started from against the last revision that has text, one that the server held back only where
    there is no other. An initial answer without text is paired with itself, so that the prompt has its (dropped) row;
    one with text that an engine failed to go on from has no pair."""
    chain = chain_of(answers.values())
    if chain and (len(chain) > 1 or not chain[0].text):
        yield chain[0].id, (last_answer(chain[1:]) or chain[-1]).id


def _parent(answers: Answers) -> Chosen:
    """Every revision against the answer that it was made from."""
    return [(a.parent_id, a.id) for a in answers.values() if a.kind == "revision" and a.parent_id is not None]


def _given(answers: Answers) -> Chosen:
    """Every two of the prompt's own answers."""
    return combinations([answer.id for answer in answers.values() if answer.kind == "given"], 2)


def _sides(answers: Answers, gold: set[str]) -> Chosen:
    """A better answer and another, as few pairs as have every answer: of one and three all three, of three and five
    five. A judge that grades answers alone has then graded each, and no pair is of two that nothing ranks."""
    given = [answer.id for answer in answers.values() if answer.kind == "given"]
    better, others = [id for id in given if id in gold], [id for id in given if id not in gold]
    for place in range(max(len(better), len(others))):
        pair = better[place % len(better)], others[place % len(others)]
        first, second = sorted(pair, key=given.index)
        yield first, second


def _perturbation(answers: Answers) -> Chosen:
    """Every spoiled answer against what it was made from."""
    return [(a.parent_id, a.id) for a in answers.values() if a.kind == "perturbation" and a.parent_id is not None]


CHOICES: Mapping[PairKind, Callable[[Answers], Chosen]] = {
    "first-last": _first_last,
    "parent": _parent,
    "given": _given,
    "perturbation": _perturbation,
}


def _flaw(a: Response, b: Response, by_id: Mapping[str, Response]) -> DropReason | None:
    for side in sorted((a, b), key=lambda answer: bool(answer.text)):
        written = _written(side, by_id)
        if written.outcome in ("cut", "refused", "filtered"):
            return written.outcome
        if written.copied_from:
            return "copied"
    return None


def _written(answer: Response, by_id: Mapping[str, Response]) -> Response:
    """The answer that the text was written in, as the view `written` finds it."""
    while answer.outcome in REPEATS and answer.parent_id is not None:
        answer = by_id[answer.parent_id]
    return answer
