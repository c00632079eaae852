"""Where prompts come from: JSONL, JSON, CSV, Parquet, transcripts, hub data sets, a SQL query; each read as a stream.

    for prompt in read_prompts(recipe.prompts, base=recipe_path.parent):
        ...

Nothing is guessed and nothing is dropped: a row that cannot be used is refused with its file, line and remedy, or
skipped and recorded with them where the recipe says so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import NoReturn

from constitution.errors import PromptError
from constitution.prompts.fields import Fields
from constitution.prompts.files import files_of, read_file, relative
from constitution.prompts.keys import Keys
from constitution.prompts.row import Row
from constitution.prompts.texts import user_texts
from constitution.prompts.transcripts import parse_transcript, split_answers
from constitution.prompts.trees import prompts_of
from constitution.reading import check_file
from constitution.recipe import PromptsSection
from constitution.records import Prompt, SkippedRow

__all__ = ["parse_transcript", "read_prompts", "split_answers", "user_texts"]

_INSPECT = "constitution prompts inspect"
_LOOK = "{}; `" + _INSPECT + " FILE` shows what is in it and finds the settings"


def read_prompts(
    section: PromptsSection,
    base: Path,
    folders: Sequence[Path] = (),
    skip: Callable[[SkippedRow], object] | None = None,
) -> Iterator[Prompt]:
    """The prompts of `section`, in the source's order; relative paths are looked up from `base`, the recipe's folder.

    folders: where a query may read files, besides `base`. skip: gets each row that cannot be used, where the section
    skips such rows; without it the first one is refused all the same, for nothing would say that it was skipped.
    Memory: one row or batch, and 60 bytes a prompt to tell repeated conversations apart (`Prompt.repeat`).
    Raises PromptError for the first row that cannot be used and is not skipped, and when there is no other at all.
    """
    seen: set[int] = set()  # the first 60 bits of their ids
    repeats: dict[str, int] = {}
    count, fields = 0, Fields(section)
    sound = _Sound(fields, skip if section.on_bad_row == "skip" else None, files=bool(section.paths))
    rows = _rows(section, base, folders, fields.keys)
    for prompt in islice(sound.prompts(prompts_of(rows, section) if section.trees else rows), section.limit):
        key = int(prompt.id[:15], 16)
        repeat = 0
        if key in seen:
            repeat = repeats[prompt.id] = repeats.get(prompt.id, 0) + 1
        seen.add(key)
        count += 1
        yield replace(prompt, repeat=repeat) if repeat else prompt
    if not count:
        sound.refuse(_name(section))
    try:
        fields.check_end(_name(section))
    except PromptError as error:
        if count == section.limit:
            error.hint += f"; where a row behind the first {count:,} has it: a higher prompts.limit"
        raise


class _Sound:
    """Rows as prompts, but for those that are skipped."""

    def __init__(self, fields: Fields, skip: Callable[[SkippedRow], object] | None, *, files: bool) -> None:
        """skip: None refuses the first row that cannot be read as a prompt. files: the rows are those of files."""
        self._fields, self._skip, self._files = fields, skip, files
        self._count = 0
        self._first: PromptError | None = None

    def prompts(self, rows: Iterable[Row]) -> Iterator[Prompt]:
        for row in rows:
            try:
                prompt = self._fields.prompt(row)
            except PromptError as error:
                if self._skip is None:
                    error.hint = self._hint(error)
                    raise
                self._first = self._first or error
                self._count += 1
                self._skip(SkippedRow(row.source, _storable(str(error)), _storable(error.hint)))
                continue
            yield prompt

    def refuse(self, name: str) -> NoReturn:
        """What is wrong with all rows is no fault of one. name: the source's."""
        if (first := self._first) is None:
            raise PromptError(f"{name}: there are no prompts in it")
        none = f"; and none of all {self._count:,} rows is read as a prompt" if self._count > 1 else ""
        raise PromptError(f"{first}{none}", hint=self._hint(first))

    def _hint(self, error: PromptError) -> str:
        """With the command that looks at a file."""
        return _LOOK.format(error.hint) if self._files and _INSPECT not in error.hint else error.hint


def _storable(text: str) -> str:
    """With escapes in place of halves of surrogate pairs, which a key may have that a message names."""
    return text.encode(errors="backslashreplace").decode()


def _name(section: PromptsSection) -> str:
    return ", ".join(section.paths) or section.dataset or "prompts.query"


def _rows(section: PromptsSection, base: Path, folders: Sequence[Path], keys: Keys) -> Iterator[Row]:
    """Those of files by `files.read_file`; of any other source by the module that is called as its format."""
    if not section.paths:
        source = import_module(f"constitution.prompts.{section.format}")
        rows: Iterator[Row] = source.rows(section, base, folders, keys)
        return rows
    files = [file for path in section.paths for file in files_of(path, base)]
    _check_files([path for path, _ in files], base)
    names = Counter(name for _, name in files)  # two folders may have files of one name
    files = [(path, os.path.relpath(path, base) if names[name] > 1 else name) for path, name in files]
    return chain.from_iterable(read_file(path, keys, section.format, name, faulty=True) for path, name in files)


def _check_files(paths: Sequence[Path], base: Path) -> None:
    """All are there before the first is read, and none twice."""
    seen: set[str] = set()
    for path in paths:
        try:
            check_file(path, str(path), PromptError)
        except PromptError as error:
            raise PromptError(str(error), hint=relative(os.path.relpath(path, base), base)) from None
        if (real := os.path.realpath(path)) in seen:
            raise PromptError(f"{path}: prompts.path names this file twice", hint="name it once")
        seen.add(real)
