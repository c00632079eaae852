"""Data sets of the hub: a folder of their files, or a name that the `datasets` package loads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from constitution.errors import PromptError
from constitution.prompts.files import file_rows
from constitution.prompts.row import Row, numbered
from constitution.recipe import PromptsSection

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def hub(section: PromptsSection, base: Path) -> Iterator[Row]:
    """A local folder's files of the split, read here; anything else is the `datasets` package's."""
    name = section.dataset or ""
    if (base / name).is_dir():
        return _folder(base / name, section.split)
    if not _HUB_NAME.fullmatch(name) or Path(name).exists():
        # Such a name `datasets` would take for a folder of the working directory, an address or a script.
        raise PromptError(f"prompts.dataset {name!r}: neither a folder beside the recipe nor owner/name on the hub")
    try:
        datasets = import_module("datasets")
    except ImportError:
        raise PromptError(
            f"prompts.dataset {name!r}: neither a local folder nor loadable, since `datasets` is not installed",
            hint="pip install 'constitution[hub]', or download the files and name their folder",
        ) from None
    try:
        rows = datasets.load_dataset(name, split=section.split, streaming=True)
    except Exception as error:  # whatever somebody else's loader raises, the user reads one sentence
        raise PromptError(f"prompts.dataset {name!r}, split {section.split!r}: {error}") from error
    return numbered(f"{name}/{section.split}", f"{name}, split {section.split}", rows)


def _folder(folder: Path, split: str) -> Iterator[Row]:
    """Files named <split>… or lying in a folder <split>, by name."""
    files = sorted(path for path in folder.rglob("*") if path.name.endswith((".parquet", ".jsonl", ".jsonl.gz")))
    files = [path for path in files if path.name.startswith(split) or path.parent.name == split]
    if not files:
        raise PromptError(f"{folder}: no JSONL or Parquet file of the split {split!r}", hint="correct prompts.split")
    for path in files:
        yield from file_rows(path)
