"""How many code files does a further kind touch? A copy of the package with a stub in it, counted and tried out.

A test gives the stub's new files, and what it changes in files that there are as (before, after) texts; the limit holds
their number, and a script in its own process shows that the stub works (`import seams`, as tests/ is on the path):

    def test_a_further_source_touches_two_files(tmp_path: Path) -> None:
        copy = seams.stub(
            tmp_path,
            new={"constitution/prompts/echo.py": ECHO},
            changed={"constitution/prompts/__init__.py": [('"sql": Sql,', '"sql": Sql,\n    "echo": Echo,')]},
            limit=2,
        )
        copy.write("recipes/echo.toml", RECIPE)          # what the check needs beside the code is not counted
        copy.command("run", "recipes/echo.toml", "--warehouse", "w")
        copy.python("from constitution.warehouse import ...; assert ...")

What lies under constitution/ or flows/ is code: Python, SQL, templates and tables alike.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("constitution", "flows")
COPIED = (*CODE, "principles", "recipes", "prefect.yaml")
LARGE = 100_000
"""Bytes. Larger files (models) are linked, not copied."""


@dataclass(frozen=True)
class Copy:
    """The package, with a stub, in its own folder."""

    folder: Path

    def write(self, path: str, text: str) -> Path:
        """Writes what a check needs beside the code: a recipe, prompts. Raises AssertionError for code."""
        assert Path(path).parts[0] not in CODE, f"{path} is code: name it in `new` or `changed`, where it counts"
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return target

    def python(self, script: str) -> str:
        """What the script prints, run in the folder on the copy's package; AssertionError if it fails."""
        return self._run(
            ["-c", f"import constitution\nassert constitution.__file__.startswith({str(self.folder)!r})\n{script}"]
        )

    def command(self, *words: str, code: int = 0) -> str:
        """What `constitution WORDS` prints on both streams; AssertionError if its exit code is not `code`."""
        return self._run(["-c", "from constitution.cli import main; main()", *words], code)

    def _run(self, words: Sequence[str], code: int = 0) -> str:
        environment = os.environ | {"PYTHONPATH": str(self.folder), "CONSTITUTION_PROJECT": str(self.folder)}
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}:\n{done.stdout}"
        return done.stdout


def stub(
    folder: Path,
    *,
    new: Mapping[str, str],
    changed: Mapping[str, Sequence[tuple[str, str]]],
    limit: int,
) -> Copy:
    """Copies the package below the folder and writes a stub into it.

    :param new: paths from the repository's root → whole texts of files that there are not yet
    :param changed: paths → (text before, text after) of files that there are; each text before is there once
    :param limit: at most so many code files, new and changed together; AssertionError above it
    """
    touched = {path for path in (*new, *changed) if Path(path).parts[0] in CODE}
    assert len(touched) <= limit, (
        f"{len(touched)} code files for one stub, and {limit} are the limit: {sorted(touched)}"
    )
    copy = Copy((folder / "copy").resolve())
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():  # with its bytecode, which holds as long as a file's time and size are the same
            shutil.copytree(source, copy.folder / name, copy_function=_copy_or_link)
        elif source.exists():
            _copy_or_link(str(source), str(copy.folder / name))
    for path, text in new.items():
        target = copy.folder / path
        assert not target.exists(), f"{path} is there already: name it in `changed`"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for path, replacements in changed.items():
        target = copy.folder / path
        text = target.read_text(encoding="utf-8")
        for before, after in replacements:
            assert text.count(before) == 1, f"{path} holds {before!r} {text.count(before)} times, not once"
            text = text.replace(before, after)
        target.write_text(text, encoding="utf-8")
    return copy


def _copy_or_link(source: str, target: str) -> str:
    if os.path.getsize(source) > LARGE and not source.endswith((".py", ".pyc")):
        os.symlink(source, target)
        return target
    return shutil.copy2(source, target)
