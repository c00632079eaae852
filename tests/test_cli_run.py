"""`constitution run` and `constitution init`, as a person uses them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from constitution.cli._progress import Lines, duration, figures
from constitution.cli.init import PARTS, init
from constitution.cli.run import load_flow, run
from constitution.errors import InputError, RecipeError
from constitution.pipeline import Pace, Progress
from constitution.warehouse import Warehouse

ROOT = Path(__file__).parents[1]


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


def test_the_flow_is_the_projects_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no flows/generate\.py") as caught:
        load_flow(tmp_path / "recipes" / "x.toml")
    assert "constitution init" in caught.value.hint
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "generate.py").write_text("def generate(: pass", encoding="utf-8")
    with pytest.raises(InputError, match="no flow `generate` that can be loaded"):
        load_flow(tmp_path / "recipes" / "x.toml")
    (tmp_path / "flows" / "generate.py").write_text("async def generate(): ...", encoding="utf-8")
    assert load_flow(tmp_path / "recipes" / "x.toml").__name__ == "generate"


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
    progress.cost = lambda: 1.234
    assert figures(progress, pace) == "2.0/s · 0 tokens/s · 3 failures · 1.23 USD · 0:00:40 left"
    assert duration(3723.4) == "1:02:03"
    progress.done = 100
    with Lines() as lines:
        lines.update(progress)
    assert "100/100 prompts" in capsys.readouterr().out


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's folder, shared by the tests: a new one takes seconds to set up."""
    return tmp_path_factory.mktemp("prefect-home")


def command(tmp_path: Path, home: Path, *more: str) -> tuple[list[str], dict[str, str]]:
    environment = os.environ | {"PREFECT_HOME": str(home), "COLUMNS": "200"}
    line = [sys.executable, "-c", "from constitution.cli import main; main()", "run", "recipes/fake.toml"]
    return [*line, "--warehouse", str(tmp_path / "warehouse"), *more], environment


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_flushes_and_the_same_command_goes_on(
    tmp_path: Path, home: Path, stop: signal.Signals
) -> None:
    line, environment = command(
        tmp_path, home, "--set", "output.flush_seconds=60", "--set", "model.policy.latency_s=1.5"
    )
    warehouse = Warehouse(tmp_path / "warehouse")
    with subprocess.Popen(
        line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        while not (warehouse.runs() and warehouse.runs()[0].starts):
            time.sleep(0.1)
            assert process.poll() is None
        time.sleep(2.5)
        if stop == signal.SIGINT:
            os.killpg(process.pid, stop)  # as a terminal does: Prefect's own server gets it too
        process.send_signal(stop)
        out, err = process.communicate(timeout=60)
    assert process.returncode == (130 if stop == signal.SIGINT else 143)
    assert b"goes on from here" in err
    assert b"Traceback" not in out + err
    [stopped] = warehouse.runs()
    assert stopped.finished_at is None
    assert len(warehouse.ids("responses", stopped.run_id)) == 10
    line, _ = command(tmp_path, home)
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{stopped.run_id}  general@1.1.0  finished" in done.stdout
    assert "10/10 prompts" in done.stdout
    assert "constitution sql" in done.stdout
    assert len(warehouse.ids("responses", stopped.run_id)) == 30
    assert "Nothing to do" not in done.stdout
    again = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (again.returncode, again.stderr) == (0, "")
    assert "Nothing to do: this run finished on " in again.stdout
    assert warehouse.runs()[0].starts == 2


def test_a_prefect_server_that_is_not_there_is_one_sentence(tmp_path: Path, home: Path) -> None:
    line, environment = command(tmp_path, home)
    environment |= {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "Prefect" in done.stderr
    assert "PREFECT_API_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_failures_left_are_exit_code_1(tmp_path: Path, home: Path) -> None:
    line, environment = command(tmp_path, home, "--set", "model.policy.failure_rate=1.0", "--limit", "2")
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "not finished" in done.stdout
    assert "prompts to be tried again" in done.stdout
