"""`constitution run` and `constitution init`, as a person uses them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from warehouse_rows import run as stored

from constitution.cli._progress import Lines
from constitution.cli.init import PARTS, init
from constitution.cli.run import run
from constitution.engines.base import Completion, Request
from constitution.engines.fake import FakeEngine
from constitution.errors import RecipeError
from constitution.pipeline import Pace, Progress
from constitution.pipeline.report import duration, events, figures
from constitution.recipe import FakeModel
from constitution.warehouse import Warehouse
from rehearsal.server import FakeServer

ROOT = Path(__file__).parents[1]
RUN = (sys.executable, "-c", "from constitution.cli import main; main()", "run", "recipes/fake.toml")


def test_help_has_an_example() -> None:
    for command in (run, init):
        shown = CliRunner().invoke(command, ["--help"])
        assert shown.exit_code == 0
        assert f"constitution {command.name} " in shown.output.split("Example")[1]


def test_init_writes_a_project_and_overwrites_nothing(tmp_path: Path) -> None:
    project = tmp_path / "mine"
    first = CliRunner().invoke(init, [str(project)])
    assert first.exit_code == 0
    assert all((project / part).exists() for part in PARTS)
    assert (project / "principles" / "principles.lock").read_bytes() == (
        ROOT / "principles" / "principles.lock"
    ).read_bytes()
    assert not list(project.rglob("__pycache__"))
    (project / "prefect.yaml").write_text("mine", encoding="utf-8")
    (project / "recipes" / "fake.toml").unlink()
    second = CliRunner().invoke(init, [str(project)])
    assert "1 files written" in second.output
    assert (project / "prefect.yaml").read_text() == "mine"


def test_init_says_what_a_shell_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Next: cd 'my project' && constitution run" in CliRunner().invoke(init, ["my project"]).output
    assert "Next: constitution run" in CliRunner().invoke(init, ["."]).output


def test_to_take_up_a_run_and_to_begin_one_is_refused() -> None:
    done = CliRunner().invoke(run, ["recipes/fake.toml", "--resume", "fake-1", "--fresh"])
    assert (done.exit_code, "give one of the two" in done.output) == (2, True)


def test_what_every_start_tells_is_told_once() -> None:
    engines = {"policy": {"events": ["cut short", "cut short", "slow"]}}
    assert events(replace(stored(), engines=engines)) == ["policy: cut short (2 times)", "policy: slow"]


def test_a_faulty_recipe_is_told_before_prefect_starts(tmp_path: Path) -> None:
    started = time.monotonic()
    found = CliRunner().invoke(run, [str(tmp_path / "none.toml")])
    assert isinstance(found.exception, RecipeError)
    assert time.monotonic() - started < 2


def test_figures_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    progress, pace = Progress(total=100, started=0.0), Pace()
    pace.update(progress, 0.0)
    assert figures(progress, pace) == "0.0/s · 0 tokens/s · 0 failures · -:--:-- left"
    progress.done = 20
    pace.update(progress, 10.0)
    progress.rows.update(failures=5, unsaid=2)
    progress.spent = SimpleNamespace(total=1.234)  # type: ignore[assignment]
    assert figures(progress, pace) == "2.0/s · 0 tokens/s · 3 failures · 1.23 USD · 0:00:40 left"
    progress.rows.update(off_label=7)
    assert " · 3 failures · 7 votes not on a label · 1.23 USD" in figures(progress, pace)
    assert duration(3723.4) == "1:02:03"
    progress.done = 100
    with Lines() as lines:
        lines.update(progress)
    assert "100/100 prompts" in capsys.readouterr().out


class Held(FakeEngine):
    """Answers so many requests; those that come after wait for ever.

    It answers ten at a time, once all ten are asked, so that ten prompts go on in step: what was answered when it stops
    does not depend on which prompt was the faster one.
    """

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


class Command:
    """`constitution run recipes/fake.toml`, its policy behind a server of the test's, in a process group of its own.

    All commands share a Prefect home, as a user's do: setting one up takes seconds.
    """

    def __init__(self, folder: Path) -> None:
        self.warehouse = Warehouse(folder / "warehouse")
        self._environment = os.environ | {"PREFECT_HOME": str(folder / "prefect"), "COLUMNS": "200"}

    async def start(self, server: FakeServer) -> asyncio.subprocess.Process:
        policy = {"engine": "openai", "model": "fake", "base_url": server.base_url}
        settings = [f"model.policy.{name}={value}" for name, value in policy.items()] + ["output.flush_seconds=60"]
        words = [word for setting in settings for word in ("--set", setting)]
        return await asyncio.create_subprocess_exec(
            *[*RUN, "--warehouse", str(self.warehouse.root), *words],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    async def stop(self, answers: int) -> None:
        """Ctrl-C when so many requests were answered and each of the ten prompts waits for its next answer.

        SIGTERM and SIGKILL: tests/torture/test_torture_kills.py.
        """
        engine = Held(answers)
        async with FakeServer(engine) as server:
            process = await self.start(server)
            while engine.asked < answers + 10:
                await asyncio.sleep(0.1)
                assert process.returncode is None, await process.communicate()
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: Prefect's own server gets it too
            process.send_signal(signal.SIGINT)
            out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 130, (out, err)
        assert b"the same command (without --fresh) resumes the run" in err
        assert b"Traceback" not in out + err
        [stopped] = self.warehouse.runs()
        assert stopped.finished_at is None


async def test_a_stopped_command_flushes_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = Command(tmp_path)
    await command.stop(answers=30)  # each prompt's answer, critique and revision
    [run] = command.warehouse.runs()
    assert len(command.warehouse.ids("responses", run.run_id)) == 20
    async with FakeServer() as server:
        process = await command.start(server)
        out, err = (told.decode() for told in await asyncio.wait_for(process.communicate(), 120))
    assert (process.returncode, err) == (0, ""), out
    assert len(server.requests) == 20
    assert f"{run.run_id}  general@1.1.0  finished" in out
    assert "10/10 prompts" in out
    assert "constitution sql" in out
    assert "Nothing to do" not in out
    assert len(command.warehouse.ids("responses", run.run_id)) == 30
    assert command.warehouse.runs()[0].starts == 2


def test_a_prefect_server_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    environment = os.environ | {"PREFECT_HOME": str(tmp_path / "prefect"), "COLUMNS": "200"}
    environment |= {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    line = [*RUN, "--warehouse", str(tmp_path / "warehouse")]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "Prefect" in done.stderr
    assert "PREFECT_API_URL" in done.stderr
    assert "Traceback" not in done.stderr
