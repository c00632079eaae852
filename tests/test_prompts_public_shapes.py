"""Each public form: `prompts inspect` prints a section, the section reads the file, what is in it is what was counted
by eye, and no text of it is lost but under keys that no model was shown, or that the section says it leaves out."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from shapes_case import Case
from shapes_preferences import CASES as PREFERENCES
from shapes_prompts import CASES as PROMPTS

from constitution.cli import app
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.records import Prompt

CASES = {**PREFERENCES, **PROMPTS}
ROLES = {"role", "from"}
"""Keys of who speaks, which is told otherwise."""


def write(folder: Path, case: Case) -> Path:
    path = folder / f"rows.{case.form}"
    if case.form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in case.rows), encoding="utf-8")
    elif case.form == "json":
        path.write_text(json.dumps(case.rows, indent=2), encoding="utf-8")
    elif case.form == "parquet":
        pq.write_table(pa.Table.from_pylist(case.rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(case.rows[0]))
            writer.writeheader()
            writer.writerows(case.rows)
    return path


def printed(path: Path) -> dict[str, Any]:
    shown = CliRunner().invoke(app, ["prompts", "inspect", str(path)])
    assert shown.exit_code == 0, shown.output
    section: dict[str, Any] = tomllib.loads(shown.output[shown.output.index("\n[prompts]\n") :])["prompts"]
    return section


def read(section: dict[str, Any]) -> list[Prompt]:
    return list(read_prompts(PromptsSection.model_validate(section), Path("/")))


def texts(value: Any, *keys: str) -> Iterator[tuple[set[str], str]]:
    """Every text in a value, and the keys that it is under."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from texts(item, *keys, name)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, *keys)
    elif isinstance(value, str) and value.strip():
        yield {*keys}, value


@pytest.mark.parametrize("name", CASES)
def test_each_public_form(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    section = printed(write(tmp_path, case))
    found = read(section | case.settings)
    assert len(found) == case.prompts, section
    assert sum(len(prompt.messages) for prompt in found) == case.turns, section
    assert sum(prompt.messages[0].role == "system" for prompt in found) == case.systems, section
    assert sum(len(prompt.answers) for prompt in found) == case.answers, section
    golds = Counter(prompt.gold for prompt in found)
    assert tuple(golds[place] for place in range(len(case.gold))) == case.gold, section
    assert golds[None] == case.prompts - sum(case.gold), section
    ignored = section.get("ignore", [])
    assert set(case.ignored) <= {*ignored}, section
    assert_nothing_is_lost(case, found, {key.split(".")[-1] for key in ignored})


def assert_nothing_is_lost(case: Case, found: list[Prompt], ignored: set[str]) -> None:
    said = "\n".join(text for prompt in found for text in (*(m.content for m in prompt.messages), *prompt.answers))
    left_out = {*case.beside, *ignored, *ROLES}
    for keys, text in (pair for row in case.rows for pair in texts(row)):
        if keys & left_out:
            continue
        inside = json.loads(text) if text.startswith("[") else text  # JSON in a cell of a table
        for each in (each for keys, each in texts(inside) if not keys & ROLES):
            turns = [turn.strip() for turn in re.split(r"\n\n(?:Human|Assistant):", each)]
            assert all(turn in said for turn in turns), f"{keys}: {text!r} is lost"


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 40
    assert all(case.source.startswith("https://") for case in CASES.values())
