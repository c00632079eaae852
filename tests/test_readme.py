"""The README says what is there: its links, its commands, its demo."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from constitution.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")


def block(name: str) -> str:
    """What stands between the README's marks of this name."""
    return README.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_its_commands_exist() -> None:
    lines = re.findall(r"^(?:\$ )?(constitution .+)$", README, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        words = (
            shlex.split(line.partition(" #")[0].partition(" &&")[0], posix=True)
            if line.count('"') % 2 == 0
            else line.split()
        )
        names = [word for word in words[1:3] if re.fullmatch(r"[a-z]+", word)]
        while names:
            result = CliRunner().invoke(app, [*names, "--help"])
            if result.exit_code == 0:
                break
            names.pop()
        assert names, line


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets


def test_the_demo_block_shows_the_demos_commands() -> None:
    script = (ROOT / "recipes" / "demo.sh").read_text()
    shown = re.findall(r"^\$ (.+?)(?=\n\S|\n$|\Z)", block("demo"), re.MULTILINE)
    assert len(shown) >= 5
    for command in shown:
        assert command.removeprefix('constitution sql "').split("\n")[0].rstrip('"') in script
