"""Readings that are a number on an engine's own scale, a row each: a reward model's score, the token after an answer.

found = await readings.made(prompt, answers, have, emit)        # by text: a Score, or the Failure
readings.reward(answer, found.get(answer.text), value, raw)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from constitution.errors import EngineError
from constitution.generate.base import Emit
from constitution.generate.failures import failed, final_failure
from constitution.identity import row_id
from constitution.judge.sources import length_penalty
from constitution.measures import words
from constitution.recipe import RewardSection
from constitution.records import Failure, Prompt, Response, Reward, RewardReason, RewardSource, Row, Score


class Number(NamedTuple):
    """What an engine says of one answer, and what it took."""

    raw: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Readings:
    """What those of one source and start of a run have in common."""

    run_id: str
    attempt: int
    section: RewardSection
    source: RewardSource
    reader: str
    """Short name of the model that reads."""
    ask: Callable[[Prompt, str], Awaitable[Number]]
    """What it says of a text that answers the prompt. Raises EngineError."""

    @property
    def step(self) -> str:
        """That failures and requests name."""
        return f"reward-{self.source}"

    def id(self, answer: Response) -> str:
        """The reading's row has it. The run's id covers the model."""
        return row_id(self.run_id, answer.id, "reading", self.reader, self.source, "", -1)

    def reward_id(self, answer: Response) -> str:
        return row_id(self.run_id, answer.id, "reward", self.source)

    async def made(
        self, prompt: Prompt, answers: Sequence[Response], have: Mapping[str, Row], emit: Emit
    ) -> dict[str, Score | Failure]:
        """By text, one for all answers that have it, each with its row; those without text have none."""
        alike: dict[str, list[Response]] = {}
        for answer in answers:
            if answer.text:
                alike.setdefault(answer.text, []).append(answer)
        async with asyncio.TaskGroup() as group:
            tasks = {text: group.create_task(self.read(prompt, same, have, emit)) for text, same in alike.items()}
        return {text: task.result() for text, task in tasks.items()}

    async def read(
        self, prompt: Prompt, alike: Sequence[Response], have: Mapping[str, Row], emit: Emit
    ) -> Score | Failure:
        """Looked up or asked, with a row for each of the answers, which have one text."""
        ids = [self.id(answer) for answer in alike]
        there = next((row for id in ids if isinstance(row := have.get(id), Score)), None)
        if there is None:
            for id in ids:
                if failure := final_failure(have, self.run_id, prompt.id, id, self.step):
                    return failure
            try:
                there = self._score(alike[0], ids[0], await self.ask(prompt, alike[0].text))
            except EngineError as error:
                row = failed(self.run_id, prompt.id, self.step, ids[0], error, self.attempt)
                row = replace(row, judge=self.reader)
                await emit([row])
                return row
        same = [same_reading(there, each, id) for each, id in zip(alike, ids, strict=True) if id != there.id]
        await emit([row for row in (there, *same) if row.id not in have])
        return there

    def _score(self, answer: Response, id: str, number: Number) -> Score:
        return Score(
            id=id,
            run_id=self.run_id,
            prompt_id=answer.prompt_id,
            response_id=answer.id,
            judge=self.reader,
            scorecard="",
            principle_id="",
            principle_digest="",
            metric=self.source,
            category="",
            criterion=None,
            question="",
            good=None,
            weight=1.0,
            p_yes=None,
            label_mass=None,
            template_digest="",
            prompt_tokens=number.prompt_tokens,
            cached_tokens=number.cached_tokens,
            completion_tokens=number.completion_tokens,
            raw=number.raw,
        )

    def reward(
        self,
        answer: Response,
        read: Score | Failure | None,
        value: float | None,
        raw: float | None,
        reason: RewardReason = "readings-missing",
    ) -> Reward:
        """read: None: the answer has no text. reason: why it has no value, where it was read or was to be."""
        there = isinstance(read, Score)
        return Reward(
            id=self.reward_id(answer),
            run_id=self.run_id,
            prompt_id=answer.prompt_id,
            response_id=answer.id,
            source=self.source,
            value=value,
            raw=raw if value is not None else None,
            readings=int(there),
            missing=int(isinstance(read, Failure)),
            least_essential=None,
            length_penalty=length_penalty(self.section, words(answer.text)) if answer.text else None,
            judges=(self.reader,) if there else (),
            reason=None if value is not None else "no-text" if read is None else reason,
        )


def same_reading(there: Score, answer: Response, id: str) -> Score:
    """The reading as another answer of the same text has it."""
    return replace(there, id=id, response_id=answer.id, prompt_tokens=0, cached_tokens=0, completion_tokens=0, calls=0)
