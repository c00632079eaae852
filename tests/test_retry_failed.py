"""`constitution run --retry-failed`: what failed for good is tried again, in a finished run too."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from odd_server import Body, OddServer, Reply, project, refusal
from pipeline_run import rows_of
from small_project import table
from test_proven import number

from constitution.cli import run as run_command
from constitution.cli.relabel import relabel
from constitution.pipeline import Progress, lost, open_run, prepare, watcher
from constitution.pipeline.shard import run_shard
from constitution.recipe import load_recipe
from constitution.records import Run, Shard
from constitution.warehouse import Warehouse

FULL = refusal("This model's maximum context length is 10 tokens.")


class Small:
    """A server whose context is too small for some prompts: as policy in the critique, as judge in the votes."""

    def __init__(self, *things: int) -> None:
        self.things = set(things)

    def __call__(self, body: Body, nth: int) -> Reply | None:
        asked = body["messages"][-1]["content"]
        return FULL if number(body) in self.things and not asked.startswith("How does") else None


async def work(recipe: Path, warehouse: Path, overrides: list[str], retry_failed: bool = False) -> Run:
    """As flows/generate.py does it."""
    plan = prepare(load_recipe(recipe, overrides), recipe, warehouse)
    if plan.finished and not (retry_failed and lost(plan)):
        return plan.run
    async with open_run(plan, retry_failed) as session:
        await session.walk()
        return await session.finish()


@pytest.mark.parametrize("role", ["policy", "judge"])
async def test_a_finished_run_is_reopened_for_what_it_lost(role: str, tmp_path: Path) -> None:
    small = Small(3, 11)
    async with OddServer(small) as server:
        recipe = project(tmp_path / "p", role, server.base_url, 16)  # type: ignore[arg-type]
        before = await work(recipe, tmp_path / "w", [])
        assert before.finished_at
        assert before.counts["lost"] == 2
        final = table(tmp_path / "w", "SELECT count(*) FROM failures WHERE NOT retryable AND error = 'ContextTooLong'")
        asked = len(server.bodies)
        assert (await work(recipe, tmp_path / "w", [])).finished_at == before.finished_at
        assert len(server.bodies) == asked
        small.things = {11}
        one = await work(recipe, tmp_path / "w", [], retry_failed=True)
        assert one.finished_at
        assert (one.counts["lost"], one.counts["open"], one.starts) == (1, 0, 2)
        assert table(tmp_path / "w", "SELECT count(*) FROM failures WHERE retryable") == final
        small.things = set()
        done = await work(recipe, tmp_path / "w", [], retry_failed=True)
        assert (done.counts["lost"], done.counts["open"], done.starts) == (0, 0, 3)
        asked = len(server.bodies)
        assert await work(recipe, tmp_path / "w", [], retry_failed=True) == done
        assert len(server.bodies) == asked
        clean = await work(recipe, tmp_path / "clean", [])
    assert rows_of(tmp_path / "w", done.run_id) == rows_of(tmp_path / "clean", clean.run_id)
    kinds = table(tmp_path / "w", "SELECT count(*), count(DISTINCT id), bool_and(retryable) FROM failures")
    assert kinds == [(done.counts["failures"], done.counts["failures"], True)]
    assert {**done.counts, "failures": 0} == {**clean.counts, "failures": 0}
    assert (done.usage, Warehouse(tmp_path / "w").verify(done.run_id)) == (clean.usage, [])


@pytest.mark.parametrize("judged", [True, False])
async def test_shards_try_again_what_they_lost(judged: bool, tmp_path: Path) -> None:
    small = Small(3, 11)
    async with OddServer(small) as server:
        recipe = project(tmp_path / "p", "policy", server.base_url, 16)
        if not judged:
            text = re.sub(r"\[(model\.)?judge\][^\[]*", "", recipe.read_text(encoding="utf-8"))
            recipe.write_text(text, encoding="utf-8")

        async def shards() -> Run:
            plan = prepare(load_recipe(recipe, ["output.slice=2"]), recipe, tmp_path / "w")
            for number in (1, 2):
                await run_shard(plan, Shard(number, 2), retry_failed=True)
            run = Warehouse(tmp_path / "w").read_run(plan.run_id)
            assert run
            assert run.finished_at
            return run

        assert (await shards()).counts["lost"] == 2
        small.things = {11}
        assert (await shards()).counts["lost"] == 1
        small.things = set()
        done = await shards()
        assert (done.counts["lost"], done.starts) == (0, 3)
        asked = len(server.bodies)
        assert await shards() == done
        assert len(server.bodies) == asked
        clean = await work(recipe, tmp_path / "clean", [])
    rows = rows_of(tmp_path / "w", done.run_id)
    assert {**rows, "failures": []} == {**rows_of(tmp_path / "clean", clean.run_id), "failures": []}


async def test_stopped_midway_the_same_command_resumes(tmp_path: Path) -> None:
    small = Small(*range(8, 16))
    async with OddServer(small) as server:
        recipe = project(tmp_path / "p", "judge", server.base_url, 16)
        assert (await work(recipe, tmp_path / "w", ["output.stop_at_failures=1"])).counts["lost"] == 8
        small.things = set()

        def stop(progress: Progress) -> None:
            if progress.done == 10:
                task.cancel()

        token = watcher.set(stop)
        task = asyncio.create_task(work(recipe, tmp_path / "w", ["output.window=1"], retry_failed=True))
        watcher.reset(token)
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        done = await work(recipe, tmp_path / "w", [])
        clean = await work(recipe, tmp_path / "clean", [])
    assert done.finished_at
    assert done.counts["lost"] == 0
    assert rows_of(tmp_path / "w", done.run_id) == rows_of(tmp_path / "clean", clean.run_id)


async def test_labels_that_were_made_by_other_settings_later_stay_so(tmp_path: Path) -> None:
    small = Small(3)
    async with OddServer(small) as server:
        recipe = project(tmp_path / "p", "judge", server.base_url, 12)
        run = await work(recipe, tmp_path / "w", [])
        again = CliRunner().invoke(relabel, [run.run_id, "--aggregate", "majority", "--warehouse", str(tmp_path / "w")])
        assert again.exit_code == 0, again.output
        small.things = set()
        done = await work(recipe, tmp_path / "w", [], retry_failed=True)
    assert table(tmp_path / "w", "SELECT DISTINCT label_by FROM preferences") == [("majority",)]
    assert done.labels["aggregate"] == "majority"
    assert done.counts["preferences"] == 12


async def test_an_open_run_tries_again_what_it_lost_too(tmp_path: Path) -> None:
    small = Small(3)
    async with OddServer(lambda body, nth: Reply({"choices": []}) if number(body) == 5 else small(body, nth)) as server:
        recipe = project(tmp_path / "p", "policy", server.base_url, 16)
        run = await work(recipe, tmp_path / "w", [])
        assert (run.finished_at, run.counts["open"], run.counts["lost"]) == (None, 1, 1)
        small.things = set()
        again = await work(recipe, tmp_path / "w", [], retry_failed=True)
    assert (again.finished_at, again.counts["open"], again.counts["lost"]) == (None, 1, 0)


def written(recipe: Path, url: str) -> Path:
    """The recipe with the server's address, beside it."""
    path = recipe.with_name("now.toml")
    path.write_text(recipe.read_text().replace("URL", url))
    return path


def test_the_command_says_what_tries_them_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(3)

    async def flow(
        path: str, warehouse: str, limit: int | None, overrides: list[str], fresh: bool,
        allow: list[str] | None = None, retry_failed: bool = False, *_: object,
    ) -> Run:  # fmt: skip
        async with OddServer(small) as server:
            return await work(written(Path(path), server.base_url), Path(warehouse), overrides, retry_failed)

    monkeypatch.setattr(run_command, "load_flow", lambda *_, **__: flow)
    recipe = project(tmp_path / "p", "policy", "http://127.0.0.1:1/v1", 12)
    recipe.write_text(recipe.read_text().replace("http://127.0.0.1:1/v1", "URL"))
    good = written(recipe, "http://127.0.0.1:1/v1")
    monkeypatch.setattr(run_command, "load_recipe", lambda path, overrides: load_recipe(good, overrides))
    arguments = [str(recipe), "--warehouse", str(tmp_path / "w")]
    shown = CliRunner().invoke(run_command.run, arguments)
    assert shown.exit_code == 1, shown.output
    assert "One prompt failed for good: with --retry-failed the same command tries it again." in shown.output
    small.things = set()
    shown = CliRunner().invoke(run_command.run, arguments)
    assert "Nothing to do" in shown.output
    assert shown.exit_code == 1
    shown = CliRunner().invoke(run_command.run, [*arguments, "--retry-failed"])
    assert shown.exit_code == 0, shown.output
    assert "failed for good" not in shown.output
    assert Warehouse(tmp_path / "w").runs()[0].finished_at
