"""Annotation sheets for the tools of annotators: a folder of the view `annotation_sheet`'s rows in a tool's form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from constitution.errors import InputError, WarehouseError
from constitution.warehouse.query import connect

QUESTION = "Which answer is better?"
TITLES = {
    "conversation": "Conversation",
    "first": "First answer",
    "second": "Second answer",
    "tie": "Neither is better",
}
BATCH = 64

# By a digest, so that the first rows of a sheet are drawn from all prompts, and always the same.
_ROWS = """
SELECT pair_id, first_id, second_id, conversation, first, second FROM annotation_sheet
WHERE run_id = $run ORDER BY md5(pair_id), pair_id LIMIT $limit
"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A pair as it is shown: which answer is first depends on the pair's id."""

    ids: dict[str, str]
    """pair_id, first_id, second_id: they travel with the texts, and say afterwards which answer was where."""
    texts: dict[str, str]
    """conversation, first, second."""


def sheets(root: Path, run_id: str, limit: int | None) -> Iterator[Sheet]:
    """The run's pairs of different texts, at most `limit`. Raises WarehouseError, InputError where there is none."""
    count = 0
    with connect(root, run_id=run_id) as connection:
        try:
            asked = connection.execute(_ROWS, {"run": run_id, "limit": limit if limit is not None else 2**62})
            while rows := asked.fetchmany(BATCH):
                for pair_id, first_id, second_id, conversation, first, second in rows:
                    count += 1
                    ids = {"pair_id": pair_id, "first_id": first_id, "second_id": second_id}
                    yield Sheet(ids, {"conversation": conversation, "first": first, "second": second})
        except duckdb.Error as error:
            raise WarehouseError(f"{root}: cannot be read: {str(error).splitlines()[0]}") from None
    if not count:
        raise InputError(f"{root}: run {run_id} has no pairs to annotate", hint="`constitution runs` lists the others")


def put_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def put_array(path: Path, values: Iterable[Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for place, value in enumerate(values):
            file.write((",\n" if place else "[\n") + json.dumps(value, ensure_ascii=False))
        file.write("\n]\n")
