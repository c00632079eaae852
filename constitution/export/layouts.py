"""The layouts, as layouts.toml has them: what each trainer's own reader wants, made of the formats' rows."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from constitution.export.formats import FORMATS, Field, Format

FILE_TYPES = ("parquet", "jsonl")


@dataclass(frozen=True)
class Task:
    """What a layout makes of a format."""

    columns: tuple[Field, ...] = ()
    """Its own, before those of the format that stay; they take the place of those of the same name."""
    without: tuple[str, ...] = ()
    """Further columns of the format that it has no use for, since others say the same."""
    only: bool = False
    """Its reader refuses columns that it does not know: none of the format's stay."""
    files: tuple[str, ...] = FILE_TYPES
    """File types that its reader takes, the usual first."""
    roles: str = ""
    """Regular expression of the prompt's roles, a blank between them, that its reader takes; empty: any. Other rows are
    dropped: the reader would drop them itself, or refuse the whole file."""
    reasoning: bool = True
    """Its reader gives `reasoning_content` to the chat template."""
    entry: dict[str, Any] = field(default_factory=dict)
    """What `Layout.info` says of each split, besides where it is."""
    lines: tuple[str, str] = ("", "")
    """Their language, and the lines that a person writes to train on it, as a template (card.loading fills it)."""
    limits: tuple[str, ...] = ()
    """What the card warns of."""

    def of(self, spec: Format) -> tuple[Field, ...]:
        """The columns of the files."""
        gone = {column.name for column in self.columns} | set(self.without)
        return self.columns + tuple(column for column in spec.fields if not self.only and column.name not in gone)

    def lost(self, spec: Format) -> list[str]:
        """Names of the format's columns that the files do not have in any form."""
        kept = {column.name for column in self.of(spec)}
        return [column.name for column in spec.fields if column.name not in kept and not column.holds_text]


@dataclass(frozen=True)
class Layout:
    title: str
    reads: str
    """Who reads it, for the card: "in the columns that …"."""
    tasks: dict[str, Task]
    """By format."""
    nulls: bool = True
    """JSONL has keys of null; else they are left out."""
    folders: bool = False
    """Each split has its own folder: the reader takes all files of one."""
    one_file: bool = False
    """The reader takes one file a split, be it ever so large."""
    info: str = ""
    """Name of a JSON file beside the data that says what they are; empty: none."""


def _layouts() -> dict[str, Layout]:
    sections = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    known = {key: Field(*column) for key, column in sections.pop("columns").items()}
    return {name: Layout(**dict(_layout(section, known))) for name, section in sections.items()}


def _layout(section: dict[str, Any], known: dict[str, Field]) -> Iterator[tuple[str, Any]]:
    """The arguments of Layout. What a section says of tasks holds for each that does not say otherwise."""
    of = section.pop("of", {})
    if section.pop("every_format", False):
        of = {format: {} for format in FORMATS} | of
    names = {each.name for each in fields(Task)}
    common = {key: section.pop(key) for key in tuple(section) if key in names}
    yield from section.items()
    yield "tasks", {format: _task(common, task, known) for format, task in of.items()}


def _task(common: dict[str, Any], task: dict[str, Any], known: dict[str, Field]) -> Task:
    merged = common | task | {"entry": common.get("entry", {}) | task.get("entry", {})}
    merged["columns"] = [known[key] for key in merged.get("columns", ())]
    settled: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in merged.items()}
    return Task(**settled)


LAYOUTS = _layouts()
"""By the name that `--layout` takes."""
