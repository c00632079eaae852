"""What the tests of chains, votes and runs share: a small constitution and an engine that says what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from constitution.engines.base import Completion, Request
from constitution.generate import Answers, Setup
from constitution.generate.revise import Revise
from constitution.judge.ask import Judge
from constitution.labels import Rules
from constitution.pipeline.label import Labeller
from constitution.recipe import JudgeSection, Recipe
from constitution.records import UNSAID, Constitution, Exemplar, Message, Principle, Prompt, Response, Row


def principle(id: str, weight: float = 1.0, tags: tuple[str, ...] = ()) -> Principle:
    return Principle(
        id=id,
        critique_request=f"Critique by {id}.",
        revision_request=f"Revise by {id}.",
        comparison_question=f"Which answer is better by {id}?",
        weight=weight,
        tags=tags,
    )


PRINCIPLES = (principle("calm"), principle("honest", weight=3.0, tags=("core",)), principle("kind"))
EXEMPLAR = Exemplar((Message("user", "Exemplar?"),), "An answer.", "", "A critique.", "", "A better answer.")
CONSTITUTION = Constitution("test", "1.0.0", "", PRINCIPLES, exemplars=(EXEMPLAR,))


def prompt(text: str = "Why?", **fields: object) -> Prompt:
    return Prompt((Message("user", text),), **fields)  # type: ignore[arg-type]


Reply = str | Completion | Exception


class Scripted:
    """An `Engine` whose answer is a function of the request; `delay` makes the order of completion another one."""

    def __init__(
        self,
        reply: Callable[[Request], Reply],
        name: str = "scripted",
        delay: Callable[[Request], float] | None = None,
    ) -> None:
        self._reply, self._name, self._delay = reply, name, delay
        self.requests: list[Request] = []

    @property
    def model(self) -> str:
        return self._name

    def describe(self) -> Mapping[str, str]:
        return {"name": self._name, "engine": "scripted"}

    def stats(self) -> Mapping[str, Any]:
        return {}

    async def generate(self, request: Request) -> Completion:
        self.requests.append(request)
        if self._delay:
            await asyncio.sleep(self._delay(request))
        reply = self._reply(request)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, Completion) else said(reply)

    async def close(self) -> None:
        return None


def setup(engine: Scripted, start: int = 1, seed: int = 7, **sections: object) -> Setup:
    """What generators are made from; the policy's family is `family`."""
    recipe: dict[str, object] = {
        "name": "test",
        "constitution": CONSTITUTION.label,
        "seed": seed,
        "prompts": {"path": "prompts.jsonl"},
        "model": {"policy": {"engine": "fake", "family": "family"}},
    }
    return Setup("run-1", Recipe.model_validate(recipe | sections), CONSTITUTION, start, engine)


def reviser(engine: Scripted, rounds: int = 2, start: int = 1, **section: object) -> Revise:
    made = Revise.of(setup(engine, start, revise={"rounds": rounds, **section}))
    assert made is not None
    return made


def stopped(answers: Answers) -> bool:
    """Whether an engine failed."""
    return any(failure.error not in UNSAID for failure in answers.failures)


def labeller(section: JudgeSection, *judges: Scripted, quorum: int = 1, run_id: str = "run-1") -> Labeller:
    """Each judge votes under its engine's name, by all principles."""
    voters = tuple(Judge(run_id, 1, 1, engine, engine.model, PRINCIPLES, section) for engine in judges)
    weights = {principle.id: principle.weight for principle in PRINCIPLES}
    return Labeller(run_id, section, voters, quorum, weights, Rules.of(section))


def said(text: str, finish_reason: str = "stop", logprobs: Mapping[str, float] | None = None) -> Completion:
    return Completion(text, finish_reason, 10, len(text.split()), choice_logprobs=logprobs)


def step(request: Request) -> str:
    """initial · critique · revision · vote, told by the request's last words."""
    if request.choices:
        return "vote"
    last = request.messages[-1].content
    if "Critique by " in last:
        return "critique"
    return "revision" if "Revise by " in last else "initial"


def answer(round: int, text: str = "", **fields: object) -> Response:
    """A response of round `round` with the id r<round>, made from the round before."""
    kind = "initial" if round == 0 else "revision"
    outcome = "ok" if text else "empty"
    values = {"parent_id": f"r{round - 1}" if round else None, "outcome": outcome, **fields}
    return Response(f"r{round}", "run-1", "p1", kind, round, text, model="m", **values)  # type: ignore[arg-type]


class Rows:
    """Keeps what is emitted."""

    def __init__(self) -> None:
        self.all: list[Row] = []

    async def put(self, rows: Sequence[Row]) -> None:
        self.all += rows

    @property
    def have(self) -> dict[str, Row]:
        return {row.id: row for row in self.all}
