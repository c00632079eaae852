"""The README says what is there: its links, its commands, its demo."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click import Context
from readme_section import commands

from constitution.cli import COMMANDS
from constitution.cli.principles import principles
from constitution.recipe import load_recipe

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
    lines = re.findall(r"^(?:\$ )?constitution (\S.*)$", README, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        command, *rest = line.split()
        assert command in COMMANDS, line
        if command == "principles":
            assert principles.get_command(Context(principles), rest[0]), line


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_the_demo_block_shows_commands_of_the_demo() -> None:
    script = (ROOT / "recipes" / "demo.sh").read_text()
    runs = re.findall(r"^run (.+)$", script, re.MULTILINE)
    queries = re.findall(r'^sql "(.+?)"$', script, re.MULTILINE | re.DOTALL)
    typed = [run.replace('"', "").replace("$CONSTITUTION_WAREHOUSE", "warehouse") for run in runs]
    shown = re.findall(r"^\$ (.+)$", block("demo"), re.MULTILINE)
    assert len(shown) == 4
    assert set(shown) <= {*typed, *(f'constitution sql "{query}"' for query in queries)}


def test_its_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(program.replace('"warehouse', f'"{tmp_path}/w'), {})
    assert "An answer to" in capsys.readouterr().out
    assert (tmp_path / "w" / "report.html").exists()
    assert list((tmp_path / "w" / "data" / "data").glob("train-*.parquet"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_ids_of_real_runs_are_placeholders(page: Path) -> None:
    """A clone makes other ids as soon as what decides a run changes."""
    ids = re.findall(r"\b(?:pocket|jury|dpo|sft|kto|reward|robust|grpo)-[0-9a-f]{12}\b", page.read_text("utf-8"))
    assert not ids


def test_the_commands_for_a_model_are_recipes() -> None:
    """With which `make test-model` runs a real one."""
    engines = []
    for words in commands("Your model"):
        if "recipes/your-model.toml" in words:
            assert set(words[2::2]) <= {"--set"}
            engines.append(load_recipe(ROOT / words[1], words[3::2]).model.policy.engine)
    assert engines == ["transformers", "transformers", "vllm", "openai"]
