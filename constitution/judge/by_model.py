"""Rewards by a scalar reward model: a raw number for each answer, and its place among the prompt's answers.

Two models' raw numbers have neither zero nor unit in common, so `value` is the normal distribution function of z, the
raw number less the group's mean over its standard deviation (n - 1): 0.5 is the mean, 0.84 one deviation above it. The
group is the prompt's answers that are neither revision nor reference: what is made from others is placed among them and
moves none. It is complete before any is placed, whatever was killed or tried again: a placed reward never moves.

Where there is no spread there is no place: one answer alone has no value (`no-spread`), nor has a revision of answers
that are all equal; answers that are all equal are each at their mean, 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from constitution.errors import RecipeError
from constitution.generate.base import Emit
from constitution.judge.raw import Number, Readings
from constitution.judge.sources import Reads
from constitution.recipe import Recipe, RewardSection
from constitution.records import Constitution, Failure, Message, Messages, Prompt, Response, Reward, Row, Score

STEP = "reward-model"
OUTSIDE = ("revision", "reference")
"""Kinds of answers that are placed in their prompt's group and are not of it."""
ROUNDING = 1e-6
"""Scores whose deviation is less than this part of their size are equal: rounding makes such differences."""


class Scores(Protocol):
    """As `Metered` has it."""

    @property
    def model(self) -> str: ...

    async def score(self, messages: Messages, *, step: str = "", affinity: str = "") -> float: ...


class Group(NamedTuple):
    """A prompt's raw scores, one an answer."""

    answers: int
    mean: float
    deviation: float
    """0: there is one answer, or all are equal."""

    @classmethod
    def of(cls, scores: Sequence[float]) -> Group:
        """The same in whatever order they come. scores: at least one."""
        mean = math.fsum(scores) / len(scores)
        spread = math.fsum((score - mean) ** 2 for score in scores)
        deviation = math.sqrt(spread / (len(scores) - 1)) if len(scores) > 1 else 0.0
        return cls(len(scores), mean, deviation if deviation > ROUNDING * max(1.0, abs(mean)) else 0.0)

    def place(self, score: float, member: bool) -> float | None:
        """From 0 to 1; None: there is no spread to place it in."""
        if self.deviation:
            return 0.5 * math.erfc((self.mean - score) / self.deviation / math.sqrt(2))
        return 0.5 if member and self.answers > 1 else None


def reads(section: RewardSection, constitution: Constitution) -> Reads:
    """No judge is asked and no rule is looked at."""
    return Reads()


def check_group(recipe: Recipe) -> None:
    """Raises RecipeError where no prompt of the recipe has two answers to be placed among."""
    several = recipe.prompts.lists_answers or recipe.prompts.benchmark
    initial = recipe.chain and recipe.start_by is None
    if not several and recipe.samples + len(recipe.prompts.answers) + initial < 2:
        raise RecipeError(
            "reward.by: a reward model's score says something beside those of the prompt's other answers, and there is "
            "one answer of a prompt that is no revision",
            hint="add [sample.NAME] with n = 2 or more, or prompts.answers",
        )


@dataclass(frozen=True, slots=True)
class Scalar:
    """What the rewards by the reward model of one start of a run have in common."""

    run_id: str
    attempt: int
    section: RewardSection
    engine: Scores

    @property
    def readings(self) -> Readings:
        return Readings(self.run_id, self.attempt, self.section, "model", self.engine.model, self._ask)

    async def rewards(
        self, prompt: Prompt, answers: Sequence[Response], have: Mapping[str, Row], emit: Emit, complete: bool
    ) -> tuple[list[Reward], list[Failure]]:
        """Those of the answers, and the failures that left one without value, or to be made. complete: no restart adds
        an answer to the group."""
        readings = self.readings
        found = await readings.made(prompt, answers, have, emit)
        failures = [read for read in found.values() if isinstance(read, Failure)]
        inside = [found[answer.text] for answer in answers if answer.text and answer.kind not in OUTSIDE]
        pending = not complete or any(isinstance(read, Failure) and read.retryable for read in inside)
        scores = [read.raw for read in inside if isinstance(read, Score) and read.raw is not None]
        place = Group.of(scores) if scores else None
        made: list[Reward] = []
        for answer in answers:
            there, read = have.get(readings.reward_id(answer)), found.get(answer.text)
            if isinstance(there, Reward):
                made.append(there)
            elif read is None or not (pending or (isinstance(read, Failure) and read.retryable)):
                made.append(_placed(readings, answer, read, place))
        await emit([reward for reward in made if reward.id not in have])
        return made, failures

    async def _ask(self, prompt: Prompt, text: str) -> Number:
        messages = (*prompt.messages, Message("assistant", text))
        return Number(await self.engine.score(messages, step=STEP, affinity=prompt.first_id or prompt.id))


def _placed(readings: Readings, answer: Response, read: Score | Failure | None, group: Group | None) -> Reward:
    raw = read.raw if isinstance(read, Score) else None
    member = answer.kind not in OUTSIDE
    value = group.place(raw, member) if group is not None and raw is not None else None
    return readings.reward(answer, read, value, raw, "no-spread" if raw is not None else "readings-missing")
