"""Rows of a SQL query over files."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from constitution import sandbox
from constitution.errors import PromptError, QueryError
from constitution.prompts import arrow
from constitution.prompts.keys import Keys
from constitution.prompts.row import Row, numbered
from constitution.reading import check_file
from constitution.recipe import PromptsSection

BATCH = 128
"""Rows of the result in memory at once, besides DuckDB's own."""
OUTSIDE = "a recipe reads in its project only; `constitution run --allow DIR` lets it read in DIR too"
_NAME = "prompts.query"
_CAST = (
    "write it in the query as the text that is meant, for example CAST(… AS VARCHAR), or leave it out there; a CSV or "
    "JSON file's own text is what read_csv('…', all_varchar = true) and read_json('…', maximum_depth = 1) give"
)


def rows(section: PromptsSection, base: Path, folders: Sequence[Path], keys: Keys) -> Iterator[Row]:
    """Rows of one query, which reads files in `base` and `folders` and does nothing else. One thread: without ORDER BY
    too, the rows come in the same order every time."""
    folders = (base, *folders)
    with sandbox.quiet(duckdb.connect(config={**sandbox.limits(), "threads": 1})) as connection:
        try:
            sandbox.check(connection, section.query or "", sandbox.READING_FUNCTIONS | sandbox.FILE_FUNCTIONS)
            query = sandbox.files_in(connection, section.query or "", base)
            _check_files(connection, section.query or "", base, folders)
            connection.execute("SET arrow_lossless_conversion = true")  # a UUID is not text, nor is 2¹⁰⁰ a float
            sandbox.shut_in(connection, folders)
            relation = connection.sql(query)
            yield from numbered("query", _NAME, _rows(relation, keys))
        except duckdb.PermissionException as error:
            raise PromptError(f"{_NAME}: {str(error).splitlines()[0]}", hint=OUTSIDE) from None
        except (duckdb.Error, QueryError) as error:
            raise PromptError(f"{_NAME}: {error}") from None


def _rows(relation: duckdb.DuckDBPyRelation, keys: Keys) -> Iterator[dict[str, object]]:
    """Only the columns that are wanted are read; a query that ends in `SELECT *` may name pictures by the gigabyte."""
    names = list(relation.columns)
    wanted = keys.wanted(names)
    for key in wanted:
        if alike := _alike(names, key, keys):
            raise PromptError(f"{_NAME}: has the columns {' and '.join(alike)}", hint="name each another way, by AS")
    arrow.check(_NAME, names, wanted)
    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in wanted)
    reader = relation.project(columns).to_arrow_reader(BATCH)
    convert = arrow.converters(reader.schema, keys, _CAST)
    first = 1
    for batch in reader:
        yield from arrow.values(batch, convert, _NAME, first)
        first += batch.num_rows


def _alike(names: list[str], key: str, keys: Keys) -> list[str]:
    """Columns of one name: DuckDB calls the second one of a file or a subquery `key_1`, and does not tell."""
    same = [name for name in names if name.casefold() == key.casefold()]
    again = re.compile(re.escape(key) + r"_\d+", re.IGNORECASE)
    renamed = [name for name in names if again.fullmatch(name) and name not in keys.named and name not in keys.ignored]
    return same if len(same) > 1 else [key, *renamed] if renamed else []


def _check_files(connection: duckdb.DuckDBPyConnection, query: str, base: Path, folders: Sequence[Path]) -> None:
    """DuckDB would wait for a pipe until something writes to it. What lies outside `folders` it never opens."""
    allowed = [folder.resolve() for folder in folders]
    for name in sandbox.files_named(connection, query):
        if "://" in name:
            continue
        for path in map(Path, glob.iglob(str(base.absolute() / name), recursive=True)):
            if not path.is_dir() and any(path.resolve().is_relative_to(folder) for folder in allowed):
                check_file(path, f"{_NAME}: {path}", PromptError)
