"""The commands as functions, for programs: `run`, `audit_run`, `export_run`, `query`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from constitution.engines.base import Engine
from constitution.generate.own import Sampler
from constitution.recipe import Recipe
from constitution.records import Figure, Run

Folder = str | PathLike[str]


def run(
    recipe: Recipe,
    warehouse: Folder = "warehouse",
    *,
    engines: Mapping[str, Engine] | None = None,
    samplers: Mapping[str, Sampler] | None = None,
    fresh: bool = False,
) -> Run:
    """Runs a recipe into `warehouse`, a folder or an address, and returns the run's record; `finished_at` is None where
    prompts are left, which the same call tries again. A finished run stays as it is; fresh: a new run nevertheless.

    engines: by role (policy, judge, or a name of the jury), in place of the recipe's models. What `describe` says of
    them decides the run's id. They are closed at the end. samplers: by the name of a section [sample.NAME], to make its
    answers in place of one request to its model; what `describe` says of them is in the run's id too.

    Blocks, and needs a thread without a running event loop: within one, `prepare` and `open_run` are what it does.
    Raises ConstitutionError: its classes are in constitution/errors.py.
    """
    from constitution.pipeline.plan import prepare
    from constitution.pipeline.session import open_run
    from constitution.warehouse import place

    plan = prepare(
        recipe.with_engines(engines or {}).with_samplers(samplers or {}), recipe.path, place(warehouse), fresh
    )

    async def work() -> Run:
        async with open_run(plan) as session:
            await session.walk()
            return await session.finish()

    return plan.run if plan.finished else asyncio.run(work())


def audit_run(
    warehouse: Folder = "warehouse", run_id: str = "", *, report: Folder | None = None, replicates: int = 1000
) -> list[Figure]:
    """Measures how far a run's labels can be trusted: all figures, which are also written to the table `figures`.

    run_id: or how it begins; empty: the newest run that has preferences or rewards. report: the file of the report,
    HTML; None: none is written. replicates: of each bootstrap.
    """
    from constitution.audit import AUDITED, audit
    from constitution.audit.report import report as page
    from constitution.warehouse import Warehouse, place

    root = place(warehouse)
    found = Warehouse(root).find_run(run_id or None, AUDITED).run_id
    figures = audit(root, found, replicates=replicates)
    if report is not None:
        Path(report).write_text(page(root, found), encoding="utf-8")
    return figures


def export_run(warehouse: Folder, out: Folder, run_id: str = "", **settings: Any) -> Any:
    """Makes a data set in the new folder `out`; returns what is in it, a `constitution.export.Exported`.

    settings: the fields of `constitution.export.Settings`; `format` is required. run_id: or how it begins; empty: the
    newest run that has what the format takes. Raises ConstitutionError, and pydantic's ValidationError for settings
    that do not go together.
    """
    from constitution.export import Settings, export
    from constitution.warehouse import Warehouse, place

    root, wanted = place(warehouse), Settings(**settings)
    found = Warehouse(root).find_run(run_id or None, wanted.tables).run_id
    return export(root, found, wanted, Path(out))


def query(warehouse: Folder, sql: str) -> list[dict[str, Any]]:
    """The rows of the answer to one SQL query, read-only; docs/warehouse.md lists tables and views. Raises QueryError,
    WarehouseError. For answers that do not fit into memory: `constitution.warehouse.connect` and `ask`."""
    from constitution.warehouse import ask, connect, place

    with connect(place(warehouse)) as connection:
        answer = ask(connection, sql)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
