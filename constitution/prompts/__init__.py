"""Where prompts come from: JSONL, JSON, CSV, Parquet, transcripts, hub data sets, a SQL query; each read as a stream.

    for prompt in read_prompts(recipe.prompts, base=recipe_path.parent):
        ...

Nothing is guessed and nothing is dropped: a row that cannot be used is refused with its file, line and remedy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import chain, islice
from pathlib import Path

from constitution.errors import PromptError
from constitution.prompts.fields import Fields
from constitution.prompts.files import CORRECT, files_of, read_file
from constitution.prompts.keys import Keys
from constitution.prompts.row import Row
from constitution.prompts.texts import user_texts
from constitution.prompts.transcripts import parse_transcript, split_answers
from constitution.prompts.trees import prompts_of
from constitution.reading import check_file
from constitution.recipe import PromptsSection
from constitution.records import Prompt

__all__ = ["parse_transcript", "read_prompts", "split_answers", "user_texts"]


def read_prompts(section: PromptsSection, base: Path, folders: Sequence[Path] = ()) -> Iterator[Prompt]:
    """The prompts of `section`, in the source's order; relative paths are looked up from `base`, the recipe's folder.

    folders: where a query may read files, besides `base`.
    Memory: one row or batch, and 60 bytes a prompt to tell repeated conversations apart (`Prompt.repeat`).
    Raises PromptError for the first row that cannot be used, and when there is none at all.
    """
    seen: set[int] = set()  # the first 60 bits of their ids
    repeats: dict[str, int] = {}
    count = 0
    fields = Fields(section)
    rows = _rows(section, base, folders, fields.keys)
    for row in islice(prompts_of(rows, section) if section.trees else rows, section.limit):
        prompt = fields.prompt(row)
        key = int(prompt.id[:15], 16)
        if key in seen:
            repeats[prompt.id] = repeats.get(prompt.id, 0) + 1
            prompt = replace(prompt, repeat=repeats[prompt.id])
        seen.add(key)
        count += 1
        yield prompt
    if not count:
        raise PromptError(f"{_name(section)}: there are no prompts in it")
    if count != section.limit:
        fields.check_end(_name(section))


def _name(section: PromptsSection) -> str:
    return ", ".join(section.paths) or section.dataset or "prompts.query"


def _rows(section: PromptsSection, base: Path, folders: Sequence[Path], keys: Keys) -> Iterator[Row]:
    """Those of files by `files.read_file`; of any other source by the module that is called as its format."""
    if not section.paths:
        source = import_module(f"constitution.prompts.{section.format}")
        rows: Iterator[Row] = source.rows(section, base, folders, keys)
        return rows
    files = [file for path in section.paths for file in files_of(path, base)]
    _check_files([path for path, _ in files])
    return chain.from_iterable(read_file(path, keys, section.format, name) for path, name in files)


def _check_files(paths: Sequence[Path]) -> None:
    """All are there before the first is read, and none twice."""
    seen: set[str] = set()
    for path in paths:
        try:
            check_file(path, str(path), PromptError)
        except PromptError as error:
            raise PromptError(str(error), hint=CORRECT) from None
        if (real := os.path.realpath(path)) in seen:
            raise PromptError(f"{path}: prompts.path names this file twice", hint="name it once")
        seen.add(real)
