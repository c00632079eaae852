"""`constitution run`, as a person uses it: progress, mistakes, Ctrl-C, and the same command again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from small_project import table
from warehouse_rows import run as stored

from constitution.cli import app
from constitution.cli._progress import Lines
from constitution.cli.run import run
from constitution.engines.base import Completion, Request
from constitution.engines.fake import FakeEngine
from constitution.errors import InputError, RecipeError
from constitution.export import Settings, export
from constitution.pipeline import Pace, Progress
from constitution.pipeline.report import duration, events, figures
from constitution.recipe import FakeModel
from constitution.warehouse import Warehouse
from rehearsal.server import FakeServer

ROOT = Path(__file__).parents[1]
RUN = (sys.executable, "-c", "from constitution.cli import main; main()", "run", "recipes/fake.toml")


def test_what_cannot_be_run_is_said_before_anything_starts(tmp_path: Path) -> None:
    both = CliRunner().invoke(run, ["recipes/fake.toml", "--resume", "fake-1", "--fresh"])
    assert (both.exit_code, "give one of the two" in both.output) == (2, True)
    assert isinstance(CliRunner().invoke(run, [str(tmp_path / "none.toml")]).exception, RecipeError)


def test_figures_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    progress, pace = Progress(total=100, started=0.0), Pace()
    pace.update(progress, 0.0)
    assert figures(progress, pace) == "0.0/s · 0 tokens/s · 0 failures · -:--:-- left"
    progress.done = 20
    pace.update(progress, 10.0)
    progress.rows.update(failures=5, unsaid=2)
    progress.spent = SimpleNamespace(total=1.234)
    assert figures(progress, pace) == "2.0/s · 0 tokens/s · 3 failures · 1.23 USD · 0:00:40 left"
    progress.rows.update(off_label=7)
    assert " · 3 failures · 7 votes not on a label · 1.23 USD" in figures(progress, pace)
    assert duration(3723.4) == "1:02:03"
    progress.done = 100
    with Lines() as lines:
        lines.update(progress)
    assert "100/100 prompts" in capsys.readouterr().out
    engines = {"policy": {"events": ["cut short", "cut short", "slow"]}}  # what every start says is said once
    assert events(replace(stored(), engines=engines)) == ["policy: cut short (2 times)", "policy: slow"]


class Held(FakeEngine):
    """Answers so many requests, ten at a time once all ten are asked, so that ten prompts are in step; those that come
    after wait for ever."""

    def __init__(self, answers: int) -> None:
        super().__init__(FakeModel(engine="fake"))
        self._answers = answers
        self._asked = asyncio.Condition()
        self.asked = 0

    async def generate(self, request: Request) -> Completion:
        async with self._asked:
            self.asked += 1
            whole = -(-self.asked // 10) * 10
            self._asked.notify_all()
            await self._asked.wait_for(lambda: whole <= self.asked and whole <= self._answers)
        return await super().generate(request)


async def start(server: FakeServer, warehouse: Path) -> asyncio.subprocess.Process:
    """`constitution run recipes/fake.toml`, its policy behind the server, in its own process group."""
    policy = {"engine": "openai", "model": "fake", "base_url": server.base_url}
    settings = [f"model.policy.{name}={value}" for name, value in policy.items()] + ["output.flush_seconds=60"]
    words = [word for setting in settings for word in ("--set", setting)]
    return await asyncio.create_subprocess_exec(
        *[*RUN, "--warehouse", str(warehouse), *words],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize(("signals", "code"), [("INT INT", 130), ("TERM", 143)])
async def test_a_stopped_command_writes_what_it_has_and_the_same_command_resumes(
    tmp_path: Path, signals: str, code: int
) -> None:
    """Stopped when thirty requests are answered and each of the ten prompts waits for its next answer. At random
    moments, and SIGKILL: tests/torture/test_torture_kills.py."""
    warehouse, engine = Warehouse(tmp_path / "w"), Held(answers=30)
    async with FakeServer(engine) as server:
        process = await start(server, warehouse.root)
        while engine.asked < 40:
            await asyncio.sleep(0.1)
            assert process.returncode is None, await process.communicate()
        for name in signals.split():  # some shells send Ctrl-C twice
            os.killpg(process.pid, signal.Signals[f"SIG{name}"])
        out, err = (said.decode() for said in await asyncio.wait_for(process.communicate(), 60))
    assert process.returncode == code, (out, err)
    assert "the same command (without --fresh) resumes the run" in err
    assert "Traceback" not in out + err
    [stopped] = warehouse.runs()
    assert (stopped.finished_at, len(warehouse.ids("responses", stopped.run_id))) == (None, 20)
    async with FakeServer() as server:
        process = await start(server, warehouse.root)
        out, err = (said.decode() for said in await asyncio.wait_for(process.communicate(), 120))
    assert (process.returncode, err, len(server.requests)) == (0, "", 20), out
    for said in (f"{stopped.run_id}  general@1.1.0  finished", "10/10 prompts", "constitution sql"):
        assert said in out
    assert "Nothing to do" not in out
    assert len(warehouse.ids("responses", stopped.run_id)) == 30
    assert warehouse.runs()[0].starts == 2


@pytest.mark.parametrize(("margin", "said"), [("0.4999999", "10 of 10 pairs were dropped"), ("0", "Next:")])
def test_a_run_that_keeps_few_pairs_says_how_to_see_why(tmp_path: Path, margin: str, said: str) -> None:
    settings = ["--set", f"judge.margin={margin}", "--set", 'judge.pairs=["first-last"]', "--warehouse", str(tmp_path)]
    done = CliRunner().invoke(run, [str(ROOT / "recipes" / "fake.toml"), *settings])
    assert done.exit_code == 0, done.output
    assert said in done.output
    assert ("SELECT drop_reason, count(*) FROM preferences" in done.output) == (said != "Next:")


@pytest.mark.parametrize(
    ("recipe", "view", "model"),
    [("deliberative", "rewards AS w", "fake-judge"), ("characters", "pairs", "fake-teacher")],
)
def test_a_run_of_samples_names_its_models_and_shows_what_it_made(
    tmp_path: Path, recipe: str, view: str, model: str
) -> None:
    line = [str(ROOT / "recipes" / f"{recipe}.toml"), "--limit", "2", "--warehouse", str(tmp_path)]
    done = CliRunner().invoke(run, line, env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert f" FROM {view} " in done.output
    assert f" {model} " in done.output  # whole, though the table is narrow
    if view == "rewards AS w":
        id = Warehouse(tmp_path).runs()[0].run_id
        with pytest.raises(InputError, match=r"no row is left: \d+ round") as caught:
            export(tmp_path, id, Settings(format="sft"), tmp_path / "out")
        assert "--rounds all" in caught.value.hint
        line = ["export", id, "--format", "kto", "--good", "1", "--out", str(tmp_path / "kto")]
        done = CliRunner().invoke(app, [*line, "--warehouse", str(tmp_path)])
        assert "No answer is good, and KTO learns from both sides" in done.output


@pytest.mark.parametrize(("solution", "unread"), [("7", 0), ("seven", 8)])
def test_a_run_and_a_trial_say_that_rewards_have_no_value_and_why(tmp_path: Path, solution: str, unread: int) -> None:
    rows = f"SELECT 'Which is more, 3 or 7?' AS prompt, '{solution}' AS solution"
    line = [str(ROOT / "recipes" / "verifiable.toml"), "--set", f"prompts.query={rows}", "--warehouse", str(tmp_path)]
    done = CliRunner().invoke(run, line)
    assert done.exit_code == 0, done.output
    assert (f"{unread} of 8 rewards have no value" in done.output) == bool(unread)
    assert ("of these without value, for other reasons" in done.output) == bool(unread)
    query = done.output.splitlines()[-1].split('"')[1]
    [first, *_] = table(tmp_path, query)
    assert first[:2] == (("match", "reference-unread") if unread else ("match", 1.0))
    tried = CliRunner().invoke(app, ["try", *line])
    assert tried.exit_code == bool(unread)
    assert ("! 8 of 8 rewards by match have no value: reference-unread" in tried.output) == bool(unread)


def test_a_prefect_server_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    environment = os.environ | {"PREFECT_HOME": str(tmp_path / "prefect"), "COLUMNS": "200"}
    environment |= {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    line = [*RUN, "--warehouse", str(tmp_path / "warehouse")]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "Prefect" in done.stderr
    assert "PREFECT_API_URL" in done.stderr
