"""Which flow `constitution run` runs: a recipe brings no code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from constitution.cli._flow import PROJECT, flow_file, load_flow, with_prefect
from constitution.cli.init import init
from constitution.cli.run import run
from constitution.errors import InputError

ROOT = Path(__file__).parents[1]
OWN = ROOT / "flows" / "generate.py"
EVIL = "from pathlib import Path\nPath({!r}).write_text('ran')\nasync def generate(*_): ..."


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A folder of another person's: a recipe, and code above and beside it. Its recipe."""
    theirs = tmp_path / "theirs"
    for folder in (theirs, theirs / "recipes"):
        (folder / "flows").mkdir(parents=True)
        for name in ("generate", "audit", "prefect", "constitution", "json", "sitecustomize"):
            (folder / f"{name}.py").write_text(EVIL.format(str(tmp_path / "ran")), encoding="utf-8")
            (folder / "flows" / f"{name}.py").write_text(EVIL.format(str(tmp_path / "ran")), encoding="utf-8")
        (folder / "prefect.yaml").write_text("name: theirs\n", encoding="utf-8")
        (folder / "principles").symlink_to(ROOT / "principles")
    recipe = theirs / "recipes" / "fake.toml"
    recipe.write_text((ROOT / "recipes" / "fake.toml").read_text(encoding="utf-8"), encoding="utf-8")
    return recipe


def test_a_recipe_of_another_person_brings_no_code(
    evil: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.delenv(PROJECT, raising=False)
    for path in (evil, evil.parent / "no" / "such" / "..", evil.parent.parent / "recipes"):
        assert cast(Any, load_flow(None, path, prefect=False)).__code__.co_filename == str(OWN)
    assert not (tmp_path / "ran").exists()
    told = capsys.readouterr().err
    assert f"{evil.parent / 'flows' / 'generate.py'} is not run: a recipe brings no code" in told


def test_the_project_is_the_one_that_the_user_is_in_or_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROJECT, raising=False)
    for name in ("mine", "named"):
        CliRunner().invoke(init, [str(tmp_path / name)])
    mine, named = (tmp_path / name / "flows" / "generate.py" for name in ("mine", "named"))
    monkeypatch.chdir(tmp_path)
    assert flow_file(None) == OWN
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "generate.py").write_text("no project: nothing marks the folder", encoding="utf-8")
    assert flow_file(None) == OWN
    monkeypatch.chdir(tmp_path / "mine" / "recipes")
    assert flow_file(None) == mine
    monkeypatch.setenv(PROJECT, str(tmp_path / "named"))
    assert flow_file(None) == named
    assert flow_file(mine) == mine
    monkeypatch.setenv(PROJECT, str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"CONSTITUTION_PROJECT: there is no .*none/flows/generate\.py"):
        flow_file(None)


def test_a_project_that_others_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROJECT, raising=False)
    CliRunner().invoke(init, [str(tmp_path / "p")])
    path = tmp_path / "p" / "flows" / "generate.py"
    monkeypatch.chdir(tmp_path / "p")
    for each in (path, path.parent):
        before = each.stat().st_mode
        each.chmod(before | 0o002)
        with pytest.raises(InputError, match="every user can write to it") as caught:
            flow_file(None)
        assert f"--flow {path}" in caught.value.hint
        each.chmod(before)
    assert flow_file(None) == path
    monkeypatch.setattr(os, "getuid", lambda: os.stat(path).st_uid + 1)
    if os.stat(path).st_uid:  # the administrator's files are everyone's
        with pytest.raises(InputError, match="belongs to another user"):
            flow_file(None)


def test_a_flow_that_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "generate.py"
    for text in ("def generate(: pass", "import no_such_module", "other = 1"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="no flow `generate` that can be loaded"):
            load_flow(path, tmp_path / "x.toml", prefect=False)
    found = CliRunner().invoke(run, [str(ROOT / "recipes" / "fake.toml"), "--flow", str(path)])
    assert isinstance(found.exception, InputError)
    path.write_text("async def generate(): ...", encoding="utf-8")
    assert load_flow(path, tmp_path / "x.toml", prefect=False).__name__ == "generate"


def test_prefect_runs_it_only_where_it_is_asked_to_or_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILES_PATH", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.chdir(tmp_path)
    assert not with_prefect(False)
    assert "no_proxy" not in os.environ
    assert with_prefect(True)
    assert os.environ["no_proxy"] == "127.0.0.1,localhost,::1"
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    assert with_prefect(False)
    monkeypatch.setenv("PREFECT_HOME", "/dev/null/prefect")
    with pytest.raises(InputError, match="Prefect's folder /dev/null/prefect cannot be written"):
        with_prefect(False)


PROFILES = """
active = "mine"
[profiles.mine]
PREFECT_API_URL = "http://127.0.0.1:4200/api"
[profiles.other]
"""


@pytest.mark.parametrize(("active", "runs"), [("mine", True), ("other", False)])
def test_an_active_profile_with_an_api_is_heard(active: str, runs: bool, tmp_path: Path) -> None:
    """In a process of its own: Prefect reads its settings when it is imported."""
    (tmp_path / "profiles.toml").write_text(PROFILES, encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    environ |= {"PREFECT_HOME": str(tmp_path), "PREFECT_PROFILE": active}
    code = "from constitution.cli._flow import with_prefect; print(with_prefect(False))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{runs}\n"
