"""A further source of prompts is its own module and its name in the recipe's section: a run reads it."""

from __future__ import annotations

from pathlib import Path

import seams

LINES = '''"""A text with one prompt a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from constitution.prompts.keys import AnyKeys
from constitution.prompts.row import Row


def read(path: Path, name: str, keys: AnyKeys) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        yield Row(f"{name}#{number}", f"{path}, line {number}", {"prompt": line})
'''
RECIPE = """
name = "lines"
constitution = "general@1.1.0"
[prompts]
path = "prompts.txt"
format = "lines"
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
model = "fake-judge"
[judge]
principles = 1
pairs = ["first-last"]
"""


def test_a_further_source_touches_two_files(tmp_path: Path) -> None:
    name = '"auto", "jsonl", "json", "csv", "parquet", "transcripts", "hub", "sql"'
    copy = seams.stub(
        tmp_path,
        new={"constitution/prompts/lines.py": LINES},
        changed={"constitution/recipe/prompts.py": [(name, f'{name}, "lines"')]},
        limit=2,
    )
    copy.write("recipes/prompts.txt", "Why is the sky blue?\nWhat is a tide?\n")
    copy.write("recipes/lines.toml", RECIPE)
    copy.command("run", "recipes/lines.toml", "--warehouse", "w")
    assert copy.command("sql", "--warehouse", "w", "--format", "csv", "SELECT source FROM prompts ORDER BY 1") == (
        "source\nprompts.txt#1\nprompts.txt#2\n"
    )
