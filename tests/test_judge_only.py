"""A run that judges given answers and makes none: the policy is neither opened nor asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_once import run_once, stop_midway
from small_project import RECIPE, small_project, table

from constitution.cli import app
from constitution.errors import ConstitutionError
from constitution.recipe import load_recipe
from rehearsal.server import FakeServer

REVISE = "[revise]\nrounds = 2\n"
POLICY = 'engine = "fake"\nprice = { input = 1.0, cached = 0.1, output = 4.0 }\n'
JUDGES = RECIPE.replace(REVISE, "").replace('["first-last", "given"]', '["given"]')


@asynccontextmanager
async def counted() -> AsyncIterator[tuple[str, list[int]]]:
    """The address of a server that only counts who connects, and the list that grows with each."""
    connected: list[int] = []

    def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(1)
        writer.close()

    async with await asyncio.start_server(meet, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", connected


def served(url: str, more: str = "") -> str:
    return f'engine = "openai"\nmodel = "fake"\nbase_url = "{url}"\nretries = 0\ntimeout_s = 2\n{more}'


async def test_the_policys_server_hears_nothing(tmp_path: Path) -> None:
    async with counted() as (url, connected), FakeServer() as judge:
        recipe = JUDGES.replace(POLICY, served(url)).replace(
            'engine = "fake"\nmodel = "fake-judge"\n', served(judge.base_url)
        )
        path = small_project(tmp_path, 7, recipe)
        run = await run_once(path, tmp_path / "w", [])
        assert not connected
        assert run.finished_at
        assert set(run.models) == set(run.engines) == {"judge"}
        assert [one.stage for one in run.usage] == ["vote"]
        assert len(judge.requests) == run.counts["judgements"] > 0
        assert table(tmp_path / "w", "SELECT DISTINCT kind FROM responses") == [("given",)]
        assert table(tmp_path / "w", "SELECT state, count(*) FROM chains GROUP BY ALL") == [("complete", 7)]
        # The counter does count: where answers are made, the same policy is opened.
        with pytest.raises(ConstitutionError):
            await run_once(path, tmp_path / "other", ["revise.rounds=1"])
        assert connected


async def test_a_policy_that_judges_itself_is_opened_once_as_the_judge(tmp_path: Path) -> None:
    judge = RECIPE[RECIPE.index("[model.judge]") : RECIPE.index("[revise]")]
    run = await run_once(small_project(tmp_path, 3, JUDGES.replace(judge, "")), tmp_path / "w", [])
    assert set(run.models) == {"judge"}
    assert run.usage[0].cost is not None
    assert table(tmp_path / "w", "SELECT judge, missing FROM missing_votes") == [("fake", 0)]


async def test_what_was_stopped_midway_is_taken_up(tmp_path: Path) -> None:
    path = small_project(tmp_path, recipe=JUDGES)
    slow = ["model.judge.latency_s=0.02"]
    await stop_midway(path, tmp_path / "w", slow, 10)
    states = dict(table(tmp_path / "w", "SELECT state, count(*) FROM chains GROUP BY ALL"))
    assert states["complete"] >= 10
    assert states["open"] > 0
    done = await run_once(path, tmp_path / "w", slow)
    assert (done.starts, done.counts["preferences"]) == (2, 50)
    assert table(tmp_path / "w", "SELECT state, count(*) FROM chains GROUP BY ALL") == [("complete", 50)]


@pytest.mark.parametrize(
    ("change", "only"),
    [
        (("", ""), True),
        (("[judge]", "[revise]\nrounds = 0\n[judge]"), True),
        (("[judge]", "[revise]\nrounds = 1\n[judge]"), False),
        (("[judge]", "[revise]\n[judge]"), False),  # the section is there, with two rounds
        (('["given"]', '["given", "parent"]'), False),
        (("[judge]", "[perturb]\n[judge]"), False),
    ],
)
def test_which_recipes_make_no_answers(tmp_path: Path, change: tuple[str, str], only: bool) -> None:
    path = small_project(tmp_path, 1, JUDGES.replace(*change, 1))
    assert load_recipe(path).only_judges is only


def test_serve_prints_no_server_of_a_policy_that_is_not_asked(tmp_path: Path) -> None:
    policy, judge = served("http://policy:8000/v1"), served("http://judge:8000/v1")
    recipe = JUDGES.replace(POLICY, policy).replace('engine = "fake"\nmodel = "fake-judge"\n', judge)
    path = str(small_project(tmp_path, 1, recipe))
    shown = CliRunner().invoke(app, ["serve", path])
    assert [line for line in shown.output.splitlines() if line.startswith("#")] == ["# judge"]
    shown = CliRunner().invoke(app, ["serve", path, "--set", "revise.rounds=1"])
    assert [line for line in shown.output.splitlines() if line.startswith("#")] == ["# policy", "# judge"]
