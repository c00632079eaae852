"""What Prometheus and OpenTelemetry get of a run, and where they read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from constitution.engines import Engines
from constitution.engines.meter import Call, Listener
from constitution.records import Failure, Prompt, Run
from constitution.telemetry.metrics import (
    ERROR,
    MODEL,
    OF_RUN,
    OPERATION,
    PROVIDER,
    ROLE,
    STEP,
    TOKEN_TYPE,
    WORKFLOW_NAME,
    Reading,
    readings,
)

READ_SECONDS = 5.0
"""A thread that reads waits for the run's loop at most as long."""


class Source:
    """A run at work, to be read from any thread."""

    def __init__(self, now: Callable[[], Run], engines: Engines, shard: str) -> None:
        """now: the run's record as of now. Made on the loop that works the run."""
        run = now()
        self.of_run: Mapping[str, str] = dict(zip(OF_RUN, (run.run_id, shard), strict=True))
        self.recipe = str(run.recipe.get("name", ""))
        self.providers = {role: facts.get("engine", "") for role, facts in run.models.items()}
        """By role; an engine that people gave is named by its class."""
        self._now = now
        self._engines = engines
        self._loop = asyncio.get_running_loop()

    def read(self) -> list[Reading]:
        """Everything but what is observed one by one. From another thread than the loop's, which counts while this is
        read. Empty: the loop was too busy to tell."""
        try:
            return asyncio.run_coroutine_threadsafe(self._read(), self._loop).result(READ_SECONDS)
        except TimeoutError:
            return []

    async def _read(self) -> list[Reading]:
        in_flight = {role: engine.in_flight for role, engine in self._engines.distinct.items()}
        return list(readings(self._now(), in_flight))

    def of_call(self, call: Call) -> dict[str, str]:
        """A call's attributes, without how it ended."""
        operation = "score" if call.request.closed and not call.request.choices else "chat"
        return {OPERATION: operation, PROVIDER: self.providers.get(call.role, ""), MODEL: call.model,
                ROLE: call.role, STEP: call.request.step}  # fmt: skip

    def of_prompt(self) -> dict[str, str]:
        return {WORKFLOW_NAME: self.recipe}


def ended_by(call: Call) -> dict[str, str]:
    """The class of what a call failed by, never its words, which may quote the data; empty: it was answered."""
    return {ERROR: type(call.error).__name__ if call.error else ""}


def tokens_of(call: Call) -> list[tuple[dict[str, str], int]]:
    """Input and output of an answered call; none of a score, whose engine tells none."""
    done = call.completion
    if done is None:
        return []
    return [({TOKEN_TYPE: "input"}, done.prompt_tokens), ({TOKEN_TYPE: "output"}, done.completion_tokens)]


class Exporter(Listener, Protocol):
    """One way out. All but `close` are called on the run's loop, and take microseconds."""

    note: str
    """What the user should know; empty: nothing."""

    def worked(self, prompt: Prompt, failure: Failure | None, seconds: float) -> None:
        """A prompt left the window after this time in it. failure: what an engine failed it by."""
        ...

    def close(self) -> None:
        """Called in its own thread, while the loop runs."""
        ...


@dataclass(frozen=True)
class Telemetry:
    """All the ways out of one run, as the listener of its engines."""

    exporters: tuple[Exporter, ...]

    @property
    def note(self) -> str:
        return "; ".join(filter(None, (each.note for each in self.exporters)))

    def begun(self, call: Call) -> None:
        for each in self.exporters:
            each.begun(call)

    def ended(self, call: Call) -> None:
        for each in self.exporters:
            each.ended(call)

    def worked(self, prompt: Prompt, failure: Failure | None, seconds: float) -> None:
        for each in self.exporters:
            each.worked(prompt, failure, seconds)
