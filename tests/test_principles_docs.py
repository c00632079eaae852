"""docs/principles.md: its commands are run, and its output is what they print."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from constitution.cli.principles import principles
from constitution.principles import Lock, check

REPOSITORY = Path(__file__).parent.parent
PAGE = REPOSITORY / "docs" / "principles.md"
CRITIQUES = {"kind0": {"prompt": ["\n\nCritiqueRequest: Is it unkind?\n\nCritique:"], "edit_request": "Make it kind."}}


def run(line: str) -> str:
    """What the command prints; `sed` runs as it stands, `constitution principles` in this process."""
    words = shlex.split(line)
    if words[0] == "sed":
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert words[:2] == ["constitution", "principles"]
    return CliRunner().invoke(principles, words[2:]).stdout


def transcript(block: str) -> str:
    """The block with its output as it is now."""
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    return "".join(f"$ {command}\n{run(command)}" for command in commands)


def project(folder: Path) -> None:
    """A project with the general constitution only."""
    root = folder / "principles"
    for kept in ("general", ".locked/general"):
        shutil.copytree(REPOSITORY / "principles" / kept, root / kept)
    Lock({"general": Lock.read(REPOSITORY / "principles").digests["general"]}).write(root)
    (folder / "critiques.json").write_text(json.dumps(CRITIQUES))
    (folder / "comparisons.json").write_text(json.dumps(["Which answer is kinder? Options:"]))


def test_the_page_shows_what_the_commands_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        assert transcript(block) == block


def test_the_file_on_the_page_passes_the_check(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    data = tomllib.loads(text)
    path = tmp_path / "principles" / data["name"] / f"{data['version']}.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert [str(finding) for finding in check(tmp_path / "principles")] == []
