"""`constitution annotations`: what people say of a run's pairs and responses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from constitution.cli._options import run_ids, warehouse_option
from constitution.cli.sql import show_answer
from constitution.shown import printable
from constitution.warehouse import Warehouse, connect
from constitution.warehouse.annotations import read_annotations
from constitution.warehouse.answers import keep

_LIST = """
SELECT
    run_id AS run, rater, source AS file, count(pair_id) AS pairs, count(response_id) AS responses,
    count(DISTINCT principle_id) AS principles, max(created_at)::TIMESTAMP(0) AS imported
FROM annotations GROUP BY ALL ORDER BY ALL
"""


@click.group("annotations", context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """People's labels of a run's pairs and answers: gold to compare the judges with.

    Example:  constitution annotations import ann.csv
    """


@group.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rater", default="", help="The annotator, for rows that name none.  [default: the file's name]")
@click.option(
    "--run", "run_id", shell_complete=run_ids, help="Only pairs and responses of this run (or how its id begins)."
)
@click.option("--skip-unknown", is_flag=True, help="Skip rows whose pair or answer is not in the warehouse.")
@click.option(
    "--spreadsheet-safe",
    is_flag=True,
    help="The file was written by `sql --spreadsheet-safe`, as an annotation sheet always is.",
)
@warehouse_option
def import_command(file: Path, run_id: str | None, warehouse: Path, **settings: Any) -> None:
    """Import annotations: a CSV, TSV, JSONL, JSON or Parquet file, also .gz, with a header or keys.

    A row has `pair_id` with `preferred` (a: the earlier answer, b: the later, tie, or the id of a response) or with
    `value` (0 is a, 1 is b, or between); or it has `response_id` with `value` (a number, more is better, or true and
    false). `rater` and `principle_id` may be there too; without a principle it is about the whole. Rows without
    preferred and value are skipped, and other columns are ignored. One wrong row refuses the file.

    The same file again changes nothing; a corrected one, under the same name, takes the place of what its raters said
    in it before. The view `annotation_sheet` makes a file to fill in. In it `preferred` is first or A, second or B, or
    tie, as the file shows the answers.

    \b
    Examples:
      constitution sql --format csv --out ann.csv "FROM annotation_sheet WHERE run_id = '…' LIMIT 200"
      constitution annotations import ann.csv
    """
    if run_id is not None:
        run_id = Warehouse(warehouse).find_run(run_id).run_id
    found = read_annotations(warehouse, file, run_id=run_id, **settings)
    store = Warehouse(warehouse)
    for run, count in Counter(annotation.run_id for annotation in found.annotations).items():
        of_run = [annotation for annotation in found.annotations if annotation.run_id == run]
        raters = sorted({annotation.rater for annotation in of_run})
        by = f"{len(raters)} raters" if len(raters) > 3 else " and ".join(raters)
        added = store.write_annotations(run, of_run)._asdict()
        said = ", ".join(f"{n:,} {what}" for what, n in added.items() if n) or "all of them were there before"
        click.echo(f"{count:,} annotation{'' if count == 1 else 's'} by {printable(by)} on {run}: {said}.")
    if not found.annotations:
        click.echo("No annotation was imported.")
    skipped = ((found.blank, "left blank"), (found.unknown, "about what is not in the warehouse"))
    for count, why in skipped:
        if count:
            click.echo(f"Skipped {count:,} row{'' if count == 1 else 's'} {why}.")
    if found.annotations:
        store.rebuild_views()


@group.command("list")
@warehouse_option
def list_command(warehouse: Path) -> None:
    """What has been imported: run, rater, file, and how many annotations on pairs and responses.

    Example:  constitution annotations list
    """
    with connect(warehouse) as connection:
        show_answer(keep(connection, _LIST))
