"""The main job on a real vLLM, in process and served, beside transformers: whole runs through the pipeline."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from real_vllm import ARGUMENTS
from run_once import run_once

from constitution.engines import Completion, Engine, Engines, Metered, Request, open_engine
from constitution.engines import open_engines as really_open
from constitution.engines.transformers import TransformersEngine
from constitution.engines.vllm import VLLMEngine
from constitution.pipeline import prepare, session
from constitution.pipeline.path_policy import VARIABLE
from constitution.recipe import Models, OpenAIModel, VLLMModel, load_recipe
from constitution.records import Judgement, Response, Row, Run
from constitution.warehouse import Warehouse

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
PROMPTS = 40
RECIPE = f"""
name = "real"
constitution = "pocket@1.0.0"
[prompts]
path = "{ROOT}/recipes/pocket-prompts.jsonl"
limit = {PROMPTS}
[model.policy]
ENGINE
[revise]
rounds = 2
exemplars = 0
initial = {{ max_tokens = 96, temperature = HEAT }}
critique = {{ max_tokens = 64, temperature = HEAT }}
revision = {{ max_tokens = 96, temperature = HEAT }}
[judge]
principles = 3
[output]
slice = 15
window = 24
flush_rows = 20
flush_seconds = 0.05
"""
VLLM = 'engine = "vllm"\nmodel = "pocket"\n[model.policy.vllm]\n' + "\n".join(
    f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for name, value in ARGUMENTS.items()
)
TRANSFORMERS = 'engine = "transformers"\nmodel = "pocket"'


class Noting:
    """The engine within, and a list of what went through."""

    def __init__(self, engine: Engine, heard: list[tuple[Request, Completion]]) -> None:
        self._engine, self._heard = engine, heard
        self.model, self.describe, self.stats = engine.model, engine.describe, engine.stats

    async def generate(self, request: Request) -> Completion:
        done = await self._engine.generate(request)
        self._heard.append((request, done))
        return done

    async def close(self) -> None: ...


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch, engine: VLLMEngine) -> Iterator[list[tuple[Request, Completion]]]:
    """Runs of the vLLM recipe use the engine that is open already, which is the one that they would open; what they ask
    it and what it answers is noted."""

    noted: list[tuple[Request, Completion]] = []

    @asynccontextmanager
    async def lend(
        models: Models, answers: bool = True, notes: Path | None = None, *, votes: bool = True
    ) -> AsyncIterator[Engines]:
        if not isinstance(models.policy, VLLMModel):
            async with really_open(models, answers, notes, votes=votes) as opened:
                yield opened
            return
        assert models.policy.vllm == ARGUMENTS
        metered = Metered(Noting(engine, noted))
        yield Engines(metered, {metered.model: metered})

    with monkeypatch.context() as patch:
        patch.setattr(session, "open_engines", lend)
        patch.setenv(VARIABLE, str(ROOT))  # the recipes stand in their own folders; the prompts are the project's
        yield noted


def recipe(folder: Path, engine: str, heat: float) -> Path:
    folder.mkdir(exist_ok=True)
    if not (folder / "principles").exists():
        (folder / "principles").symlink_to(ROOT / "principles")
    path = folder / "recipe.toml"
    path.write_text(RECIPE.replace("ENGINE", engine).replace("HEAT", str(heat)), encoding="utf-8")
    return path


async def run(folder: Path, engine: str, heat: float = 1.0) -> tuple[Run, list[Row]]:
    made = await run_once(recipe(folder, engine, heat), folder / "warehouse", [])
    return made, rows(folder / "warehouse", made.run_id)


def rows(warehouse: Path, run_id: str) -> list[Row]:
    """Every row of the run; an id that stands twice is an error."""
    store = Warehouse(warehouse)
    prompts = [prompt.id for part in store.parts("prompts", run_id) for prompt in store.read_prompts(part)]
    found = [row for rows in store.rows_of(run_id, prompts).values() for row in rows]
    assert len({row.id for row in found}) == len(found)
    return found


def answers(found: list[Row]) -> dict[tuple[str, int], Response]:
    return {(row.prompt_id, row.round): row for row in found if isinstance(row, Response)}


def texts(found: list[Row]) -> dict[tuple[str, int], tuple[str, str | None, str | None, str]]:
    """Per prompt and round: answer, critique, the principle that was drawn, and what became of it."""
    return {place: (row.text, row.critique, row.principle_id, row.outcome) for place, row in answers(found).items()}


def counted(row: Row) -> dict[str, Any]:
    """The row without what the engine's cache happened to hold."""
    return {name: value for name, value in asdict(row).items() if not name.endswith("cached_tokens")}


async def test_the_main_job_and_its_repetition(tmp_path: Path) -> None:
    first, found = await run(tmp_path / "first", VLLM)
    assert first.finished_at
    assert (first.counts["done"], first.counts["open"], first.counts["lost"]) == (PROMPTS, 0, 0)
    assert len(answers(found)) == PROMPTS * 3
    assert sum(isinstance(row, Judgement) for row in found) > PROMPTS * 3
    assert all(row.label_mass > 0.5 for row in found if isinstance(row, Judgement))
    assert first.models["policy"]["engine"] == "vllm"
    # The votes of a pair share conversation and answers, and the cache has them.
    assert sum(row.cached_tokens for row in found if isinstance(row, Judgement)) > 0
    second, again = await run(tmp_path / "second", VLLM)
    assert second.run_id == first.run_id
    ours, theirs = ({row.id: counted(row) for row in each} for each in (found, again))
    assert ours.keys() == theirs.keys()
    for id, row in ours.items():
        for name, value in row.items():
            expected = theirs[id][name]
            # Probabilities are rounded by what else was in the batch.
            assert value == (pytest.approx(expected, abs=1e-4) if isinstance(value, float) else expected), name


async def test_greedy_is_the_same_in_process_served_and_by_transformers(
    tmp_path: Path, server: str, reference: TransformersEngine, heard: list[tuple[Request, Completion]]
) -> None:
    _, ours = await run(tmp_path / "vllm", VLLM, heat=0.0)
    _, theirs = await run(tmp_path / "transformers", TRANSFORMERS, heat=0.0)
    served = f'engine = "openai"\nmodel = "served-pocket"\nbase_url = "{server}"'
    made, remote = await run(tmp_path / "served", served, heat=0.0)
    assert made.counts["failures"] == made.counts["unsaid"]
    assert texts(ours) == texts(theirs) == texts(remote)
    assert len({text for text, *_ in texts(ours).values()}) > PROMPTS
    # The marks of a vote's prompt are the run's own, so the votes of one run are asked for again elsewhere.
    votes = [(request, done) for request, done in heard if request.choices]
    assert len(votes) > PROMPTS * 3
    remote_engine = await open_engine(OpenAIModel(engine="openai", model="served-pocket", base_url=server))
    try:
        for engine in (reference, remote_engine):
            again = await asyncio.gather(*(engine.generate(request) for request, _ in votes))
            for (_, done), other in zip(votes, again, strict=True):
                assert other.choice_logprobs == pytest.approx(done.choice_logprobs, abs=2e-3)
    finally:
        await remote_engine.close()


async def test_the_draws_are_the_same_whatever_the_engine(tmp_path: Path) -> None:
    _, ours = await run(tmp_path / "vllm", VLLM)
    _, theirs = await run(tmp_path / "transformers", TRANSFORMERS)
    drawn = [{place: row.principle_id for place, row in answers(each).items()} for each in (ours, theirs)]
    seeds = [{place: row.seed for place, row in answers(each).items()} for each in (ours, theirs)]
    assert drawn[0] == drawn[1]
    assert seeds[0] == seeds[1]
    # They draw by other random numbers, so the texts are others.
    assert texts(ours) != texts(theirs)


def killed(path: Path, warehouse: Path, log: Path) -> None:
    """A run in its own process, killed when three parts of votes are written."""
    script = Path(__file__).parent.parent / "run_once.py"
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, str(script), str(path), str(warehouse)], stdout=out, stderr=out)
    end = time.monotonic() + 240
    while len(list(warehouse.glob("judgements/*/part-*"))) < 3 and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert process.poll() is None, log.read_text()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


async def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    path, warehouse = recipe(tmp_path / "killed", VLLM, 1.0), tmp_path / "killed" / "warehouse"
    await asyncio.to_thread(killed, path, warehouse, tmp_path / "log")
    run_id = prepare(load_recipe(path), path, warehouse).run_id
    kept = rows(warehouse, run_id)
    assert kept, (tmp_path / "log").read_text()
    resumed, found = await run(tmp_path / "killed", VLLM)
    assert resumed.run_id == run_id
    assert resumed.starts == 2
    assert len(answers(found)) == PROMPTS * 3
    assert len(kept) < len(found)
    by_id = {row.id: row for row in found}
    assert all(by_id[row.id] == row for row in kept)
    _, whole = await run(tmp_path / "whole", VLLM)
    assert texts(found) == texts(whole)
