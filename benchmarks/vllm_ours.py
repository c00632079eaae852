"""The job as the library does it: prepare, Session, walk, finish, with storage and resume on, on `engine = "vllm"`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

from benchmarks.vllm_outcome import Call, Outcome
from constitution.engines import Engines, open_engines
from constitution.pipeline import open_run, prepare, session
from constitution.recipe import Models, Recipe
from constitution.warehouse import ask, connect


class Ours:
    """The library with its engine open; `run` does the job once, into a new warehouse."""

    def __init__(self, recipe: Recipe, recipe_path: Path) -> None:
        self.recipe, self.recipe_path = recipe, recipe_path
        self._stack = AsyncExitStack()
        self._llms: list[Any] = []

    async def __aenter__(self) -> Self:
        with _each_made(self._llms):
            self._engines = await self._stack.enter_async_context(open_engines(self.recipe.model))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def block(self) -> int:
        """Tokens to a block of vLLM's cache."""
        return int(self._llms[0].vllm_config.cache_config.block_size)

    async def run(self, warehouse: Path, keep_calls: bool) -> Outcome:
        """keep_calls: also note every request in tokens; slower, so not for a run that is timed."""
        for llm in self._llms:
            await llm.reset_prefix_cache()
        calls: list[Call] = []
        before = self._engines.policy.stats()["calls"]
        with patch.object(session, "open_engines", self._opened), _recorded(calls, keep_calls):
            begun = time.perf_counter()
            plan = prepare(self.recipe, self.recipe_path, warehouse)
            async with open_run(plan) as work:
                await work.walk()
                run = await work.finish()
            seconds = time.perf_counter() - begun
        answers, votes = _rows(warehouse)
        failures = run.counts["failures"] - run.counts["unsaid"]
        if failures or run.counts["done"] != run.counts["prompts"] or len(answers) != run.counts["prompts"]:
            raise RuntimeError(
                f"{failures} failures, {len(answers)} prompts of {run.counts['prompts']} stored: {_failure(warehouse)}"
            )
        return Outcome(
            seconds=seconds,
            prompts=len(answers),
            answers=answers,
            votes=votes,
            calls=calls,
            requests=self._engines.policy.stats()["calls"] - before,
            prompt_tokens=run.counts["prompt_tokens"],
            cached_tokens=run.counts["cached_tokens"],
            output_tokens=run.counts["completion_tokens"],
        )

    @asynccontextmanager
    async def _opened(self, models: Models) -> AsyncIterator[Engines]:
        """In place of `open_engines`, so that a run does not start vLLM again."""
        assert models == self.recipe.model
        yield self._engines


def _rows(warehouse: Path) -> tuple[dict[str, list[str]], dict[str, float]]:
    """What the run stored, read back by SQL."""
    answers: dict[str, list[str]] = {}
    votes: dict[str, float] = {}
    with connect(warehouse) as connection:
        for prompt, kind, critique, outcome, text in ask(
            connection, "SELECT prompt_id, kind, critique, outcome, text FROM responses ORDER BY prompt_id, round"
        ).rows:
            said = answers.setdefault(prompt, [])
            said += [critique] if kind == "revision" else []
            said += [text] if outcome != "skipped" else []
        for prompt, principle, first, p_first in ask(
            connection,
            """SELECT j.prompt_id, j.principle_id, r.kind = 'initial', j.p_first
            FROM judgements j JOIN responses r ON r.id = j.first_id""",
        ).rows:
            votes[f"{prompt}/{principle}/{'ab' if first else 'ba'}"] = p_first
    return answers, votes


def _failure(warehouse: Path) -> str:
    with connect(warehouse) as connection:
        told = [" · ".join(row) for row in ask(connection, "SELECT step, error, message FROM failures LIMIT 1").rows]
    return told[0] if told else "no failure is stored"


@contextmanager
def _each_made(llms: list[Any]) -> Iterator[None]:
    """Collects vLLM's engines that are made within: their caches must be emptied between runs."""
    from vllm.v1.engine.async_llm import AsyncLLM

    made = AsyncLLM.from_engine_args

    def noted(*arguments: Any, **settings: Any) -> Any:
        llms.append(made(*arguments, **settings))
        return llms[-1]

    with patch.object(AsyncLLM, "from_engine_args", noted):
        yield


@contextmanager
def _recorded(calls: list[Call], wanted: bool) -> Iterator[None]:
    """Notes vLLM's requests as they end: a chain's in their order, since each waits for the one before it."""
    if not wanted:
        yield
        return
    from vllm.v1.engine.async_llm import AsyncLLM

    generate = AsyncLLM.generate

    async def noted(self: Any, *arguments: Any, **settings: Any) -> AsyncIterator[Any]:
        async for out in generate(self, *arguments, **settings):
            if out.finished:
                answer = out.outputs[0]
                calls.append(Call(list(out.prompt_token_ids), list(answer.token_ids), out.num_cached_tokens or 0))
            yield out

    with patch.object(AsyncLLM, "generate", noted):
        yield
