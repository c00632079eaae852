"""What a person may give that cannot be used, and how every command must say so.

A case is files beside a sound project, and a command line. It must end with exit code 1 or 2, in one paragraph that
names the file and what to do, with nothing written; `must_say` are pieces of what it says.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from constitution.cli import main
from constitution.pipeline import prepare
from constitution.recipe import load_recipe
from constitution.records import Run

ROOT = Path(__file__).parents[2]
MOST = 1000
"""Characters that a message may have: a giant field is not printed whole."""

Content = bytes | str | Callable[[Path], object]
"""Of a file; or what makes it at a path."""

RECIPE = """
name = "r"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
"""


@dataclass(frozen=True)
class Case:
    name: str
    files: dict[str, Content] = field(default_factory=dict)
    words: Sequence[str] = ("run", "r.toml")
    must_say: Sequence[str] = ()
    exit_code: int = 2

    def __str__(self) -> str:
        return self.name


def ids(cases: Sequence[Case]) -> list[str]:
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), "two cases have one name"
    return names


def project(folder: Path, files: dict[str, Content]) -> None:
    """A sound project, with `files` put over it."""
    (folder / "principles").symlink_to(ROOT / "principles")
    sound: dict[str, Content] = {"r.toml": RECIPE, "prompts.jsonl": '{"prompt": "How do tides work?"}\n'}
    if any(name.startswith("principles/") for name in files):
        (folder / "principles").unlink()
    for name, content in {**sound, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)


async def prepared(
    recipe: str, warehouse: str, limit: int | None, overrides: list[str], fresh: bool, allow: Sequence[str], *_: object
) -> Run:
    """In place of the flow: what it does before any model is loaded."""
    plan = prepare(load_recipe(Path(recipe), overrides), Path(recipe), Path(warehouse), fresh, [Path(a) for a in allow])
    return plan.run


def command(words: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """Exit code, output and errors of `constitution …` in `folder`, as its entry point gives them."""
    monkeypatch.setattr("constitution.cli.run.load_flow", lambda *_, **__: prepared)
    monkeypatch.setattr(sys, "argv", ["constitution", *words])
    monkeypatch.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def listing(folder: Path) -> dict[str, Any]:
    """Every file and folder below, with its size and time."""
    found = {}
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            at = Path(path, name)
            told = at.lstat()
            found[str(at.relative_to(folder))] = (told.st_size, told.st_mtime_ns, told.st_mode)
    return found


def check(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Asserts the contract; returns what was said."""
    project(folder, case.files)
    before = listing(folder)
    code, out, err = command(case.words, folder, monkeypatch)
    said = err + out if case.exit_code == 1 else err
    assert code == case.exit_code, said
    assert "Traceback" not in said
    assert len(said) <= MOST, f"{len(said)} characters: {said[:2000]}"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", said), repr(said)
    if case.exit_code == 2:
        assert said.startswith(("constitution: ", "Usage: ")), said
        # One paragraph; DuckDB and TOML may show the line with a caret under it.
        assert "\n\n" not in said.removeprefix("Usage: ").strip() or said.startswith("Usage: ") or "LINE" in said, said
    for piece in case.must_say:
        assert piece in said, f"{piece!r} is not in: {said}"
    assert listing(folder) == before, "something was written"
    return said
