"""Pairs of one prompt's answers, and the votes on them: principles × both orders (arXiv 2212.08073, 2309.00267).

    for pair in pairs(run_id, prompt, chain.responses, given, section.pairs):
        ballot = await vote(judge, prompt, pair, have={}, emit=writer.put)

A vote is P(A) / (P(A) + P(B)), read from the model's raw log-probabilities after "The answer is: (". A reply without
them is a Failure, never a vote of one half.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from constitution import templates
from constitution.engines.base import Engine, Request
from constitution.errors import EngineError, MalformedReply
from constitution.identity import digest, row_id, seed
from constitution.recipe import JudgeSection
from constitution.records import Failure, Judgement, Principle, Prompt, Response, Row, Sampling
from constitution.revise import Emit, digest_of, failed, failure_id

TEMPLATES = templates.JUDGE.digest
SAMPLING = Sampling(temperature=0.0, max_tokens=1)
"""The text is not used: the label's probabilities are, which no temperature changes."""

PairKind = Literal["first-last", "parent", "given"]
ORDERS = ("ab", "ba")
"""Which of the pair's answers is shown first."""


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

    def shown(self, order: str) -> tuple[Response, Response]:
        return (self.a, self.b) if order == "ab" else (self.b, self.a)


@dataclass(frozen=True, slots=True)
class Judge:
    """What the votes of a run have in common."""

    run_id: str
    seed: int
    attempt: int
    engine: Engine
    principles: tuple[Principle, ...]
    """All that may vote."""
    section: JudgeSection


@dataclass(frozen=True, slots=True)
class Ballot:
    """What became of one pair's votes."""

    judgements: tuple[Judgement, ...]
    expected: int
    """Votes that should have been cast."""
    failures: tuple[Failure, ...] = ()

    @property
    def open(self) -> bool:
        """True while a restart may still bring a missing vote."""
        return any(failure.retryable for failure in self.failures)


# --- pairs


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


# --- votes


def draw_principles(judge: Judge, pair: Pair) -> tuple[Principle, ...]:
    """All that compare, or so many of them drawn for this pair without replacement, each with equal chance.

    Weights are the votes' and do not change the draw, or they would count twice.
    """
    wanted = judge.section.principles
    if wanted == "all" or wanted >= len(judge.principles):
        return judge.principles
    generator = random.Random(seed(judge.seed, pair.a.prompt_id, "judge-principles", *_place(pair)))
    drawn = set(generator.sample(range(len(judge.principles)), wanted))
    return tuple(principle for index, principle in enumerate(judge.principles) if index in drawn)


async def vote(judge: Judge, prompt: Prompt, pair: Pair, have: Mapping[str, Row], emit: Emit) -> Ballot:
    """All votes on one pair; those in `have` are not asked for again. An engine's error is a Failure of that vote.

    All go out together, those of one order, which differ in the question at the end alone, one after the other. Engines
    that batch read the shared beginning once all the same (vLLM has a prompt's blocks in its cache from the moment it
    is scheduled); to send one vote ahead and wait for it cost time and found not one token more there.
    """
    if not pair.votable:
        return Ballot((), 0)
    principles = draw_principles(judge, pair)
    votes = [_Vote(judge, pair, principle, order) for order in ORDERS for principle in principles]
    cast = await _cast(votes, prompt, have, emit)
    judgements = tuple(row for row in cast if isinstance(row, Judgement))
    failures = tuple(row for row in cast if isinstance(row, Failure))
    return Ballot(judgements, len(cast), failures)


def read_labels(logprobs: Mapping[str, float] | None) -> tuple[float, float]:
    """P(first) renormalised over the two labels, and the probability on both together.

    Raises MalformedReply where there is none to read: no log-probabilities, NaN, or no probability on either label.
    """
    if logprobs is None or any(label not in logprobs for label in templates.LABELS):
        raise MalformedReply("the reply has no log-probabilities of the labels")
    first, second = (math.exp(min(logprobs[label], 0.0)) for label in templates.LABELS)
    mass = first + second
    if not mass > 0:
        raise MalformedReply("the judge gave neither label any probability")
    return first / mass, min(mass, 1.0)


def nonce(judge: Judge, prompt_id: str) -> str:
    """Six hex digits for the marks of the vote template: the same for all votes on a prompt's answers, so that those of
    one order share conversation and answers in the engine's cache, and both orders the conversation."""
    return digest([judge.seed, prompt_id])[:6]


@dataclass(frozen=True, slots=True)
class _Vote:
    """One vote to be cast."""

    judge: Judge
    pair: Pair
    principle: Principle
    order: str

    @property
    def id(self) -> str:
        return row_id(self.judge.run_id, self.pair.id, self.judge.engine.model, self.principle.id, self.order)

    async def cast(self, id: str, prompt: Prompt) -> Judgement | Failure:
        judge, pair, principle = self.judge, self.pair, self.principle
        first, second = pair.shown(self.order)
        mark = nonce(judge, pair.a.prompt_id)
        messages = templates.vote_messages(prompt.messages, first.text, second.text, principle, mark)
        chosen = seed(judge.seed, pair.a.prompt_id, "vote", *_place(pair), principle.id, self.order)
        try:
            request = Request(messages, SAMPLING, chosen, choices=templates.LABELS, affinity=pair.a.prompt_id)
            done = await judge.engine.generate(request)
        except EngineError as error:
            return failed(judge.run_id, pair.a.prompt_id, "vote", id, error, judge.attempt)
        try:
            p_first, mass = read_labels(done.choice_logprobs)
        except MalformedReply as error:
            # Final, although its class may be tried again: the labels' probabilities depend on no seed.
            target = failure_id(judge.run_id, pair.a.prompt_id, "vote", id)
            return Failure(target, judge.run_id, pair.a.prompt_id, "vote", "MalformedReply", str(error), False)
        return Judgement(
            id=id,
            run_id=judge.run_id,
            prompt_id=pair.a.prompt_id,
            pair_id=pair.id,
            first_id=first.id,
            second_id=second.id,
            judge=judge.engine.model,
            principle_id=principle.id,
            principle_digest=digest_of(principle),
            method=judge.section.method,
            p_first=p_first,
            label_mass=mass,
            template_digest=TEMPLATES,
            seed=chosen,
            prompt_tokens=done.prompt_tokens,
            cached_tokens=done.cached_tokens,
            completion_tokens=done.completion_tokens,
        )


async def _cast(
    votes: Sequence[_Vote], prompt: Prompt, have: Mapping[str, Row], emit: Emit
) -> list[Judgement | Failure]:
    """The votes' rows, in their order, from `have` or cast together and emitted as they come.

    When one raises (the disk is full), the others are cancelled before it goes on.
    """

    async def cast(vote: _Vote, id: str) -> Judgement | Failure:
        row = await vote.cast(id, prompt)
        await emit([row])
        return row

    rows: dict[str, Judgement | Failure] = {}
    tasks: dict[str, asyncio.Task[Judgement | Failure]] = {}
    ids = [vote.id for vote in votes]
    async with asyncio.TaskGroup() as group:
        for vote, id in zip(votes, ids, strict=True):
            known = have and (
                have.get(id) or have.get(failure_id(vote.judge.run_id, vote.pair.a.prompt_id, "vote", id))
            )
            if isinstance(known, Judgement | Failure):
                rows[id] = known
            else:
                tasks[id] = group.create_task(cast(vote, id))
    return [rows[id] if id in rows else tasks[id].result() for id in ids]


def _place(pair: Pair) -> tuple[str, int, int]:
    """The pair's place in its prompt, for seeds: the same in every run of the same seed."""
    return pair.kind, pair.a.round, pair.b.round
