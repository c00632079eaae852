"""The reward of answers that a trainer has just made, by the rubric that an export has for their prompt.

    from constitution import RubricReward

    reward = RubricReward({"engine": "openai", "model": "judge", "base_url": "http://localhost:8000/v1"})
    trainer = GRPOTrainer("MODEL", reward_funcs=reward, train_dataset=load_dataset("data/grpo")["train"], …)

It is read and summed up as a run does it for its reward source `prompt-rubric` (judge/reward.py): the same requests,
the same share of weights, lost points and veto. What cannot be read has no reward: None, never a number. Of a
conversation that its source had before, and of later turns of a script, the marks around an answer are others than the
run's, so that a reading may differ a little; where an item was dropped before a kept one, the seeds are others too.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from constitution import templates
from constitution.engines import Engine, Metered, open_engine
from constitution.engines.reasoning import split
from constitution.errors import InputError
from constitution.identity import row_id
from constitution.judge.by_prompt_rubric import item_of
from constitution.judge.reward import Rewarder
from constitution.judge.sources import Reads
from constitution.prompts.row import Row as Source
from constitution.prompts.rubrics import given_rubric
from constitution.recipe import RewardSection
from constitution.recipe.models import ModelSection
from constitution.records import Message, Prompt, Response, RewardSource, Row, RubricItem

T = TypeVar("T")
SOURCE: RewardSource = "prompt-rubric"
_RUN = "trainer"
_WHY = {"no-text": "it has no text"}
_ROLES = ("system", "user", "assistant")


class RubricReward:
    """A reward function of TRL's kind: an object to be called with columns, a value for each row. Other trainers'
    functions are made of `score`. Several threads and event loops may use one; it has its thread for the
    judge."""

    __name__ = "rubric_reward"
    """By which TRL logs it."""

    def __init__(self, judge: Engine | Mapping[str, Any], *, seed: int = 1, window: int = 256, **settings: Any) -> None:
        """judge: an engine, which stays open, or what a recipe's section [model.judge] says, opened at first use.
        seed: as the recipe's: of requests and of the marks around answers. window: prompts that are read at a time.
        settings: fields of the recipe's [reward]: combine, bar, length, quorum, min_label_mass. Raises InputError."""
        try:
            self._section = RewardSection(by=(SOURCE,), **settings)
            named = dict(judge) if isinstance(judge, Mapping) else None
            self._model = None if named is None else TypeAdapter(ModelSection).validate_python(named)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"{'.'.join(map(str, first['loc']))}: {first['msg']}", hint="see docs/recipes.md"
            ) from None
        self._engine = None if isinstance(judge, Mapping) else Metered(judge)
        self._seed, self._window = seed, window
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()
        self._opening = asyncio.Lock()

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        rubric: Sequence[Any],
        log_metric: Callable[[str, float], None] | None = None,
        **columns: object,
    ) -> list[float | None]:
        """A reward for each completion, with the length penalty, at most 1; None: it has none, and TRL leaves it out.

        prompts: texts, or lists of {role, content}. completions: texts, or lists with the assistant's message. rubric:
        of each its items {question, good, weight, kind}, or their JSON; None or empty: no reward. Why others have none
        is in a warning, and as `rubric_reward/missing` their share in what TRL logs. Raises InputError for a row that
        cannot be a prompt, an answer or a rubric."""
        rows = [
            (_prompt(*row), _answer(completions[place])) for place, row in enumerate(zip(prompts, rubric, strict=True))
        ]
        made = self._wait(self._all(rows))
        missing = [why for value, why in made if value is None]
        for why in dict.fromkeys(missing):
            warnings.warn(
                f"{missing.count(why)} of {len(made)} answers have no reward: {why}", RuntimeWarning, stacklevel=2
            )
        if log_metric is not None:
            log_metric(f"{self.__name__}/missing", len(missing) / max(len(made), 1))
        return [value for value, _ in made]

    async def score(self, prompt: Any, answer: Any, rubric: Any) -> float | None:
        """The reward of one answer, on whatever event loop it is awaited."""
        work = asyncio.run_coroutine_threadsafe(
            self._all([(_prompt(prompt, rubric), _answer(answer))]), self._running()
        )
        [(value, why)] = await asyncio.wrap_future(work)
        if value is None:
            warnings.warn(f"an answer has no reward: {why}", RuntimeWarning, stacklevel=2)
        return value

    def close(self) -> None:
        """Closes the judge, if it was opened here, and ends the thread."""
        if self._loop is not None:
            if self._model is not None and self._engine is not None:
                self._wait(self._engine.close())
                self._engine = None
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _all(self, rows: Sequence[tuple[Prompt, str]]) -> list[tuple[float | None, str]]:
        """A reward of each, or why there is none. The answers to a prompt together: equal ones are read once."""
        async with self._opening:
            if self._engine is None and self._model is not None:
                self._engine = Metered(await open_engine(self._model))
        groups: dict[Prompt, list[int]] = {}
        for place, (prompt, _) in enumerate(rows):
            groups.setdefault(prompt, []).append(place)
        room = asyncio.Semaphore(self._window)

        async def read(prompt: Prompt, places: Sequence[int]) -> dict[int, tuple[float | None, str]]:
            async with room:
                return await self._read(prompt, {place: rows[place][1] for place in places})

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read(prompt, places)) for prompt, places in groups.items()]
        found = {place: value for task in tasks for place, value in task.result().items()}
        return [found[place] for place in range(len(rows))]

    async def _read(self, prompt: Prompt, texts: Mapping[int, str]) -> dict[int, tuple[float | None, str]]:
        if not prompt.rubric:
            return dict.fromkeys(texts, (None, "the prompt has no rubric"))
        assert self._engine is not None
        reads = Reads(tuple(item_of(row) for row in _items(prompt)))
        rewarder = Rewarder(
            _RUN, self._seed, 0, self._section, {self._engine.model: self._engine}, {SOURCE: reads},
            {SOURCE: templates.RUBRIC},
        )  # fmt: skip
        ids = {row_id(_RUN, prompt.id, place): place for place in texts}
        answers = [Response(id, _RUN, prompt.id, "given", 0, texts[place], "ok", "") for id, place in ids.items()]
        made = await rewarder.rewards(prompt, answers, {}, _drop)
        why = made.failures[0].message if made.failures else "readings are missing"
        found: dict[int, tuple[float | None, str]] = dict.fromkeys(texts, (None, why))
        for reward in made.rewards:
            reason = why if reward.missing else _WHY.get(reward.reason or "", "no point can be had by its rubric")
            found[ids[reward.response_id]] = (reward.total, reason)
        return found

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop of the judge, which engines are bound to."""
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name=self.__name__, daemon=True).start()
            return self._loop

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._running()).result()


async def _drop(rows: Sequence[Row]) -> None:
    """A trainer's rows are not kept."""


def _items(prompt: Prompt) -> list[RubricItem]:
    return [
        RubricItem(
            row_id(_RUN, prompt.id, number), _RUN, prompt.id, "given", number, len(prompt.rubric), each.question,
            each.good, each.weight, each.kind, (), "given",
        )
        for number, each in enumerate(prompt.rubric)
    ]  # fmt: skip


def _prompt(value: Any, rubric: Any) -> Prompt:
    turns = [{"role": "user", "content": value}] if isinstance(value, str) else value
    messages = tuple(_message(turn) for turn in turns)
    return Prompt(messages, rubric=given_rubric(Source("", "the prompt's row", {"rubric": rubric}), "rubric"))


def _answer(value: Any) -> str:
    """Without what was thought before it, as a run has its answers."""
    if not isinstance(value, str):
        turns = [_message(turn) for turn in value]
        if [turn.role for turn in turns] != ["assistant"]:
            raise InputError(
                f"a completion is {len(turns)} turns, and not one of the assistant",
                hint="answers with turns of tools have no reward here",
            )
        value = turns[0].content
    return split(value).text


def _message(turn: Any) -> Message:
    role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, Mapping) else (None, None)
    if role not in _ROLES or not isinstance(content, str):
        raise InputError(
            f"a turn is not {{role, content}} with a text of {', '.join(_ROLES)}",
            hint="pictures and tools are not read",
        )
    return Message(role, content)
