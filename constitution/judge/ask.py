"""The votes on a pair: which they are, and their rows, each cast once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from constitution.engines.base import Engine
from constitution.generate.base import Emit
from constitution.generate.failures import answered, failed, final_failure
from constitution.generate.outcomes import clean
from constitution.identity import digest, row_id, seed
from constitution.judge.methods import METHODS, repeats, templates_of
from constitution.judge.pairs import Pair
from constitution.judge.question import PartFailed, Question, ask
from constitution.judge.units import Unit, at_once
from constitution.principles.selection import digest_of
from constitution.recipe import JudgeSection
from constitution.records import Failure, Judgement, Principle, Prompt, Row
from constitution.templates.wording import ENGLISH, Wording


@dataclass(frozen=True, slots=True)
class Judge:
    """What one engine's votes in a run have in common."""

    run_id: str
    seed: int
    attempt: int
    engine: Engine
    name: str
    """What its votes bear: the name in the jury, or of a judge alone its model's."""
    principles: tuple[Principle, ...]
    """All that may vote."""
    section: JudgeSection
    """With its own method, as the recipe may give a member of a jury."""
    wording: Wording = ENGLISH


@dataclass(frozen=True, slots=True)
class Votes:
    """One judge's votes on one pair."""

    judgements: tuple[Judgement, ...]
    expected: int
    """Votes that should have been cast."""
    failures: tuple[Failure, ...] = ()
    voices: frozenset[tuple[str, str]] = frozenset()
    """Principle and order of each."""

    def __add__(self, more: Votes) -> Votes:
        """With those of further units."""
        return Votes(
            self.judgements + more.judgements,
            self.expected + more.expected,
            self.failures + more.failures,
            self.voices | more.voices,
        )

    @property
    def open(self) -> bool:
        """True while a restart may still bring a missing vote."""
        return any(failure.retryable for failure in self.failures)

    @property
    def heard(self) -> bool:
        """Whether the judge has voted by each principle in each order, and nothing is left to come."""
        return len(self.judgements) == self.expected or (not self.open and self.spoken)

    @property
    def spoken(self) -> bool:
        """Whether there is a vote by each principle that was asked, in each order."""
        return len({(vote.principle_id, vote.first_id) for vote in self.judgements}) == len(self.voices)


def draw_principles(judge: Judge, pair: Pair) -> tuple[Principle, ...]:
    """All that compare, or a number of them drawn for this pair without replacement, each with equal chance; the
    same for all judges of a run.

    Weights are the votes' and do not change the draw, or they would count twice.
    """
    wanted = judge.section.principles
    if wanted == "all" or wanted >= len(judge.principles):
        return judge.principles
    generator = random.Random(seed(judge.seed, pair.a.prompt_id, "judge-principles", *pair.place))
    drawn = set(generator.sample(range(len(judge.principles)), wanted))
    return tuple(principle for index, principle in enumerate(judge.principles) if index in drawn)


def all_units(judge: Judge, pair: Pair) -> tuple[Unit, ...]:
    """All that is to be asked of the pair, at once."""
    return at_once([principle.id for principle in draw_principles(judge, pair)]) if pair.votable else ()


def expected(judge: Judge, asked: Sequence[Unit]) -> int:
    """Votes of one judge by these units."""
    each = sum(repeats(judge.section) if unit.repeat is None else 1 for unit in asked)
    return each * len(METHODS[judge.section.method].orders)


def known(judge: Judge, pair: Pair, have: Mapping[str, Row], asked: Sequence[Unit]) -> Votes:
    """The judge's votes on the pair that are in `have`, of those that were asked for. Failures are left out."""
    cast = (row for row in have.values() if isinstance(row, Judgement))
    own = tuple(row for row in cast if row.pair_id == pair.id and row.judge == judge.name)
    return Votes(own, expected(judge, asked), voices=_voices(judge, asked))


async def vote(
    judge: Judge, prompt: Prompt, pair: Pair, have: Mapping[str, Row], emit: Emit, asked: Sequence[Unit] | None = None
) -> Votes:
    """The votes on one pair by the units `asked` (None: all); those in `have` are not asked for again. An engine's
    error is a Failure of that vote.

    All go out together, those of one order, which differ in the question at the end alone, one after the other. Engines
    that batch read the shared beginning once all the same (vLLM has a prompt's blocks in its cache from the moment it
    is scheduled); to send one vote ahead and wait for it cost time and found not one token more there.
    """
    asked = all_units(judge, pair) if asked is None else asked
    cast = await _cast(votes_of(judge, pair, asked), prompt, have, emit)
    judgements = tuple(row for row in cast if isinstance(row, Judgement))
    failures = tuple(row for row in cast if isinstance(row, Failure))
    return Votes(judgements, len(cast), failures, _voices(judge, asked))


def votes_of(judge: Judge, pair: Pair, asked: Sequence[Unit] | None = None) -> list[Vote]:
    """Those of one judge on a pair by the units `asked` (None: all), in the order in which they are cast."""
    asked = all_units(judge, pair) if asked is None else asked
    wave = {(unit.principle_id, unit.repeat): unit.wave for unit in asked}
    principles, mark = draw_principles(judge, pair), nonce(judge.seed, pair.a.prompt_id)
    return [
        Vote(judge, pair, principle, order, repeat, wave[key], mark)
        for repeat in range(repeats(judge.section))
        for order in METHODS[judge.section.method].orders
        for principle in principles
        for key in ((principle.id, None), (principle.id, repeat))
        if key in wave
    ]


def _voices(judge: Judge, asked: Sequence[Unit]) -> frozenset[tuple[str, str]]:
    return frozenset((unit.principle_id, order) for unit in asked for order in METHODS[judge.section.method].orders)


def nonce(run_seed: int, prompt_id: str) -> str:
    """Six hex digits for the marks of a template that shows answers: the same for all of one prompt, so that votes of
    one order share conversation and answers in the engine's cache, and both orders the conversation."""
    return digest([run_seed, prompt_id])[:6]


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote to be cast."""

    judge: Judge
    pair: Pair
    principle: Principle
    order: str
    repeat: int
    wave: int
    nonce: str

    @property
    def id(self) -> str:
        judge = self.judge
        return row_id(judge.run_id, self.pair.id, judge.name, self.principle.id, self.order, *self._again)

    @property
    def _again(self) -> tuple[int, ...]:
        """What tells a repeat from the first vote, in ids and seeds."""
        return (self.repeat,) if self.repeat else ()

    async def cast(self, id: str, prompt: Prompt, used: int) -> Judgement | Failure:
        """used: replies to it that earlier starts could not use."""
        judge, pair, principle, method = self.judge, self.pair, self.principle, self.judge.section.method
        prompt_id = pair.a.prompt_id
        first, second = pair.shown(self.order)
        texts = templates_of(judge.section, judge.wording)
        chosen = seed(judge.seed, prompt_id, "vote", *pair.place, principle.id, self.order, *self._again)
        question = Question(
            judge.engine,
            judge.section,
            prompt.messages,
            first.text,
            second.text,
            principle,
            self.nonce,
            texts,
            chosen,
            affinity=prompt.first_id or prompt_id,
            answered=used,
        )
        try:
            verdict = await ask(question)
        except PartFailed as failure:
            row = failed(judge.run_id, prompt_id, "vote", id, failure.error, judge.attempt)
            return replace(row, message=clean(str(failure)), judge=judge.name)
        return Judgement(
            id=id,
            run_id=judge.run_id,
            prompt_id=prompt_id,
            pair_id=pair.id,
            first_id=first.id,
            second_id=second.id,
            judge=judge.name,
            principle_id=principle.id,
            principle_digest=digest_of(principle),
            method=method,
            template_digest=texts.digest,
            seed=chosen if verdict.seeded else None,
            repeat=self.repeat,
            wave=self.wave,
            p_first=verdict.p_first,
            label_mass=verdict.label_mass,
            rationale=verdict.rationale,
            prompt_tokens=verdict.prompt_tokens,
            cached_tokens=verdict.cached_tokens,
            completion_tokens=verdict.completion_tokens,
            rationale_reasoning=verdict.rationale_reasoning,
            reasoning_tokens=verdict.reasoning_tokens,
            calls=verdict.calls,
            read_first=verdict.read_first,
            read_second=verdict.read_second,
            censored=verdict.censored,
        )


async def _cast(
    votes: Sequence[Vote], prompt: Prompt, have: Mapping[str, Row], emit: Emit
) -> list[Judgement | Failure]:
    """The votes' rows, in their order, from `have` or cast together and emitted as they come.

    When one raises (the disk is full), the others are cancelled first.
    """

    async def cast(vote: Vote, id: str) -> Judgement | Failure:
        used = answered(have, vote.judge.run_id, prompt.id, "vote", id, vote.judge.attempt)
        row = await vote.cast(id, prompt, used)
        await emit([row])
        return row

    rows: dict[str, Judgement | Failure] = {}
    tasks: dict[str, asyncio.Task[Judgement | Failure]] = {}
    ids = [vote.id for vote in votes]
    async with asyncio.TaskGroup() as group:
        for vote, id in zip(votes, ids, strict=True):
            known = have.get(id) or final_failure(have, vote.judge.run_id, vote.pair.a.prompt_id, id, "vote")
            if isinstance(known, Judgement | Failure):
                rows[id] = known
            else:
                tasks[id] = group.create_task(cast(vote, id))
    return [rows[id] if id in rows else tasks[id].result() for id in ids]
