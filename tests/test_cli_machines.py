"""What programs and shells ask of the command line: --json, completion, ids that are cut short, .gitignore."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from judging_rows import RUN as JUDGED
from judging_rows import Scene
from warehouse_rows import RUN, fill, run

from constitution.cli import COMMANDS, app
from constitution.errors import InputError
from constitution.warehouse import Warehouse

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Three runs; only read from, below."""
    warehouse = fill(tmp_path_factory.mktemp("machines") / "warehouse")
    for number in range(2):
        warehouse.write_run(replace(run(finished=True), run_id=f"other-{number}00000000000"))
    return warehouse


def command(root: Path, *words: str, **environment: str) -> Result:
    return CliRunner().invoke(app, [*words, "--warehouse", str(root)], env=environment)


def said(result: Result) -> Any:
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


KEYS = {*("run_id", "recipe", "constitution", "status", "stopped", "started_at", "finished_at", "starts", "seconds"),
        *("cost", "currency", "complete", "prompts", "kept", "failures", "tokens_in", "tokens_out",
          "skipped", "models", "authors")}  # fmt: skip


def test_runs_for_programs(warehouse: Warehouse) -> None:
    listed = said(command(warehouse.root, "runs", "--json"))
    assert [each["run_id"] for each in listed] == [each.run_id for each in warehouse.runs()]
    assert all(each.keys() == KEYS for each in listed)
    first = next(each for each in listed if each["run_id"] == RUN)
    assert (first["complete"], first["prompts"], first["kept"], first["status"]) == (5, 6, 5, "open")
    assert said(command(warehouse.root, "runs", RUN[:6], "--json")) == first


def test_an_audit_for_programs(tmp_path: Path) -> None:
    scene = Scene()
    for _ in range(4):
        scene.pair()
    scene.write(tmp_path / "warehouse")
    words = ("audit", "--json", "--replicates", "100", "--out", str(tmp_path / "report.html"))
    found = said(command(tmp_path / "warehouse", *words))
    assert found.keys() == {"run_id", "finished", "report", "figures"}
    assert found["run_id"] == JUDGED
    assert Path(found["report"]).exists()
    keys = {"figure", "judge", "principle_id", "subject", "value", "low", "high", "n", "note", "unit"}
    assert all(figure.keys() == keys for figure in found["figures"])
    assert len(found["figures"]) > 10


def test_an_export_for_programs(tmp_path: Path) -> None:
    warehouse = fill(tmp_path / "warehouse")
    words = ("export", "--json", "--format", "dpo", "--out", str(tmp_path / "data"))
    found = said(command(warehouse.root, *words))
    keys = ["run_id", "export_id", "format", "finished", "out", "candidates", "rows", "dropped", "uploaded"]
    assert list(found) == keys
    assert found["candidates"] == sum(found["rows"].values()) + sum(found["dropped"].values())
    assert (found["run_id"], found["format"], found["uploaded"]) == (RUN, "dpo", None)


@pytest.mark.parametrize("columns", ["40", "60", "80", "200"])
def test_no_figure_of_a_run_is_lost_in_a_narrow_terminal(warehouse: Warehouse, columns: str) -> None:
    out = command(warehouse.root, "runs", COLUMNS=columns).stdout
    told = re.sub(r"\s+", "", out)
    for word in (RUN, "demo@1.2.0", "open", "5/6", "0:05:00", "3,700", "350", "other-100000000000"):
        assert word in told, out
    for name in ("prompts", "kept", "failures", "time", "cost", "tokens in", "tokens out"):
        assert name in out
    assert all(len(line) <= int(columns) for line in out.splitlines())
    assert "…" not in out


def test_an_id_that_is_cut_short_lists_what_it_could_be(warehouse: Warehouse, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="other: 2 runs' ids begin with it") as error:
        warehouse.find_run("other")
    assert error.value.hint == "one of other-000000000000, other-100000000000"
    assert warehouse.find_run("other-1").run_id == "other-100000000000"
    many = Warehouse(tmp_path)
    for number in range(13):
        many.write_run(replace(run(), run_id=f"same-{number:012}"))
    with pytest.raises(InputError) as error:
        many.find_run("same")
    assert str(error.value.hint).count("same-") == 10
    assert str(error.value.hint).endswith(", and 3 more")


def completed(shell: str, words: str, place: int, where: Path) -> list[str]:
    """What the shell would offer for the word at `place` of the command line."""
    asked = {"_CONSTITUTION_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(place)}
    code = "from constitution.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=where, capture_output=True, text=True, check=True,
                          env={**os.environ, **asked})  # fmt: skip
    lines = done.stdout.splitlines()
    return [line.split(",", 1)[1] for line in lines] if shell == "bash" else lines[1::3]


def test_shells_complete_commands_and_run_ids(warehouse: Warehouse) -> None:
    where, ids = warehouse.root.parent, [RUN, "other-000000000000", "other-100000000000"]
    assert completed("bash", "constitution ", 1, where) == list(COMMANDS)
    assert completed("zsh", "constitution ru", 1, where) == ["run", "runs"]
    assert completed("bash", "constitution runs ", 2, where) == ids
    assert completed("zsh", "constitution run --resume other", 3, where) == ids[1:]
    assert completed("bash", f"constitution export --warehouse {warehouse.root} d", 4, where.parent) == [RUN]


def test_init_writes_a_project_that_keeps_data_and_keys_out_of_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And overwrites nothing."""

    def init(folder: str) -> str:
        result = CliRunner().invoke(app, ["init", folder])
        assert result.exit_code == 0, result.output
        return result.output

    monkeypatch.chdir(tmp_path)
    assert "Next: cd 'my project' && constitution run" in init("my project")
    project = tmp_path / "my project"
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    for path in ("warehouse/runs/x.json", "exports/x.parquet", "data/dpo/x.parquet", "report.html", ".env", "hub.key"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("x")
    status = subprocess.run(["git", "-C", str(project), "status", "--porcelain", "-uall"], capture_output=True,
                            text=True, check=True).stdout  # fmt: skip
    there = {line[3:] for line in status.splitlines()}
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "principles").rglob("*") if path.is_file()}
    assert {".gitignore", "prefect.yaml", "recipes/fake.toml", "flows/generate.py", *ours} <= there
    assert not [path for path in there if path.startswith(("warehouse", "exports", "data", "report", ".env", "hub"))]
    for name in (".gitignore", "prefect.yaml"):
        (project / name).write_text("mine\n")
    (project / "recipes" / "fake.toml").unlink()
    monkeypatch.chdir(project)
    again = init(".")
    assert "1 files written" in again
    assert "Next: constitution run" in again
    assert (project / ".gitignore").read_text() == (project / "prefect.yaml").read_text() == "mine\n"
