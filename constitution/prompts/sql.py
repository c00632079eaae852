"""Rows of a SQL query over files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb

from constitution import sandbox
from constitution.errors import PromptError, QueryError
from constitution.prompts.row import BATCH, Row, numbered
from constitution.recipe import PromptsSection

OUTSIDE = "a recipe reads in its project only; `constitution run --allow DIR` lets it read in DIR too"


def sql(section: PromptsSection, base: Path, folders: Sequence[Path]) -> Iterator[Row]:
    """Rows of one query, which reads files in `folders` and does nothing else. One thread: without ORDER BY too, the
    rows come in the same order every time."""
    with duckdb.connect(config={**sandbox.limits(), "threads": 1}) as connection:
        try:
            sandbox.check(connection, section.query or "", sandbox.READING_FUNCTIONS | sandbox.FILE_FUNCTIONS)
            query = sandbox.files_in(connection, section.query or "", base)
            sandbox.shut_in(connection, folders)
            result = connection.execute(query)
            names = [column[0] for column in result.description or ()]
            batches = iter(lambda: result.fetchmany(BATCH), [])
            rows = (dict(zip(names, row, strict=True)) for batch in batches for row in batch)
            yield from numbered("query", "prompts.query", rows)
        except duckdb.PermissionException as error:
            raise PromptError(f"prompts.query: {str(error).splitlines()[0]}", hint=OUTSIDE) from None
        except (duckdb.Error, QueryError) as error:
            raise PromptError(f"prompts.query: {error}") from None
