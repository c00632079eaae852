"""A row found by its id, or by how that begins, in all tables and runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from constitution.errors import InputError
from constitution.warehouse.query import asked, connect

KINDS: dict[str, str] = {
    "judgements": "vote",
    "responses": "answer",
    "preferences": "preference",
    "scores": "score",
    "rewards": "reward",
    "reference_checks": "check of a reference",
    "rubrics": "item of a rubric",
    "counterfactuals": "counterfactual",
    "failures": "failure",
    "prompts": "prompt",
}
"""The tables whose rows have an id of 32 hex digits → what a row is."""
LISTED = 10
_ID = re.compile(r"[0-9a-f]{4,32}")


class Found(NamedTuple):
    table: str
    run_id: str
    id: str
    prompt_id: str

    @property
    def kind(self) -> str:
        return KINDS[self.table]


def find(root: Path, begins: str, run_id: str | None = None) -> Found:
    """The one row whose id is, or begins with, `begins`. run_id: among this run's rows.

    Reads ids alone; of row groups whose statistics or Bloom filters exclude the id, not even these. Raises InputError
    where there is none, or more than one: the message then says which, in which run and table.
    """
    begins = begins.strip().lower()
    if not _ID.fullmatch(begins):
        raise InputError(f"{begins}: an id is up to 32 hex digits", hint="give at least the first four")
    # After all that begin so: no digit is greater than f.
    condition = f"id = '{begins}'" if len(begins) == 32 else f"id >= '{begins}' AND id < '{begins}g'"
    arms = " UNION ALL ".join(
        f"(SELECT '{table}', run_id, id, {'id' if table == 'prompts' else 'prompt_id'} FROM {table} "
        f"WHERE {condition} ORDER BY ALL LIMIT {LISTED + 1})"
        for table in KINDS
    )
    with connect(root, run_id=run_id) as connection:
        rows = asked(connection, arms, lambda sql: connection.execute(sql).fetchall(), ours=True)
    found = [Found(*map(str, row)) for row in rows]
    if not found:
        where = f"run {run_id}" if run_id else str(root)
        raise InputError(f"{begins}: {where} has no such row", hint=f"ids are those of the tables {', '.join(KINDS)}")
    if len(found) > 1:
        listed = "; ".join(f"{each.kind} {each.id} of {each.run_id}" for each in found[:LISTED])
        more = " and more" if len(found) > LISTED else ""
        several = "name the run with --run" if len({each.run_id for each in found}) > 1 else ""
        digits = "give more digits" if len(begins) < 32 else ""
        raise InputError(
            f"{begins}: several rows' ids {'begin so' if digits else 'are this'}: {listed}{more}",
            hint=", or ".join(each for each in (digits, several) if each),
        )
    return found[0]
