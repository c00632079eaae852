"""The seam: whatever makes answers to a prompt is a `Generator`, and neither judge nor pipeline knows which one.

    class Echo(Generator):
        async def answers(self, prompt, have, emit): ...

A further one is a file here, a line in the table `GENERATORS`, and its section in constitution/recipe/sections.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, Self

from constitution.engines.base import Engine
from constitution.recipe import Recipe
from constitution.records import Constitution, Failure, Prompt, Response, Row
from constitution.templates import TemplateSet

Emit = Callable[[Sequence[Row]], Awaitable[None]]
"""Takes finished rows; returns when they are accepted for writing."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one generator has of one prompt."""

    responses: tuple[Response, ...] = ()
    failures: tuple[Failure, ...] = ()
    """What an engine failed, and what a model did not say."""

    @property
    def complete(self) -> bool:
        """False: a restart may still add an answer."""
        return not any(failure.retryable for failure in self.failures)


def final(made: Iterable[Answers]) -> list[Response]:
    """Those to which no restart adds any; each once, and without the reference, which is none of them."""
    found = {answer.id: answer for answers in made if answers.complete for answer in answers.responses}
    return [answer for answer in found.values() if answer.kind != "reference"]


class Unread(Protocol):
    """What rewards came to."""

    @property
    def failures(self) -> Sequence[Failure]:
        """That left a reward without value, or to be made."""
        ...


Reach = Literal["some", "first", "all"]
"""How many of a prompt's answers there are. some: a restart may add one. first: all but those that are made from them.
all: no other comes."""
Rewards = Callable[[Prompt, Sequence[Response], Mapping[str, Row], Emit, Reach], Awaitable[Unread]]
"""Makes the rewards of these answers that `have` lacks (judge/reward.py), and is told how many there are."""

Check = Callable[[Prompt, Mapping[str, Row], Emit], Awaitable[Sequence[Failure]]]
"""Says whether anything may be made from the reference (judge/reference.py); returns what left that open, or out."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the generators of one start of a run are made from."""

    run_id: str
    recipe: Recipe
    constitution: Constitution
    start: int
    """How often the run was started: tells the failures of one start from those of the next."""
    policy: Engine
    pool: Mapping[str, Engine] = field(default_factory=dict)
    """Further models, by their names in the recipe."""
    judge: Engine | None = None
    """The judge, where there is one alone."""

    @property
    def family(self) -> str | None:
        """Family of the policy; None: not known."""
        return self.family_of("policy")

    def engine(self, model: str) -> Engine:
        """The engine of `policy`, of `judge`, who judges alone, or of a member of the pool."""
        if model == "judge" and self.judge is not None:
            return self.judge
        return self.policy if model == "policy" else self.pool[model]

    def family_of(self, model: str) -> str | None:
        return self.recipe.model.generator(model).family or None


class Generator(Protocol):
    """Makes answers to one prompt. Every row has an id that follows from the run, the prompt and its place, is looked
    up in `have` before a model is asked, and is emitted as soon as it exists."""

    builds_on_others: ClassVar[bool] = False
    """True: it is asked once the answers of those before it in the table are complete."""

    @property
    def builds_on_rewards(self) -> bool:
        """True: it is asked once these answers are complete and rewarded."""
        return False

    @classmethod
    def of(cls, setup: Setup) -> Self | None:
        """None: the recipe does not ask for it."""
        return None

    @classmethod
    def templates(cls, recipe: Recipe) -> tuple[TemplateSet, ...]:
        """Those that its rows are rendered with: they are in the run's id."""
        return ()

    async def answers(self, prompt: Prompt, have: Mapping[str, Row], emit: Emit) -> Answers:
        """have: the prompt's rows by id, of earlier starts and emitted in this one. An engine's error is a Failure and
        is never raised; what `emit` raises is."""
        ...
