"""`constitution annotations`: what people say of a run's pairs and responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import click

from constitution.cli._options import run_ids, warehouse_option
from constitution.cli.sql import show_answer
from constitution.errors import InputError, PromptError
from constitution.prompts.files import files_of
from constitution.records import Annotation
from constitution.shown import brief, printable
from constitution.warehouse import Warehouse, connect
from constitution.warehouse.annotations import TOOLS, Conflicts, Groups, read_annotations, write_sheet
from constitution.warehouse.answers import keep

_LIST = """
SELECT
    run_id AS run, rater, array_to_string(any_value(rater_groups), ', ') AS groups, source AS file,
    count(pair_id) AS pairs, count(response_id) AS responses,
    count(DISTINCT principle_id) AS principles, max(created_at)::TIMESTAMP(0) AS imported,
    max_by(author, created_at) AS by
FROM annotations GROUP BY ALL ORDER BY ALL
"""
MOST_NAMED = 5
"""Places, or changed annotations, that a message names."""
_WHAT = {
    "new": "new",
    "changed": "changed",
    "gone": "gone",
    "again": "the same in another file",
    "regrouped": "with other groups",
}


@click.group("annotations", context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """People's labels of a run's pairs and answers: gold to compare the judges with.

    Example:  constitution annotations import ann.csv
    """


@group.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--rater", default="", help="The annotator, for rows that name none.  [default: the file's name]")
@click.option("--name", "names", metavar="ID=NAME", multiple=True, help="What to call a rater; can be given again.")
@click.option(
    "--run", "run_id", shell_complete=run_ids, help="Only pairs and responses of this run (or how its id begins)."
)
@click.option("--skip-unknown", is_flag=True, help="Skip rows whose pair or answer is not in the warehouse.")
@click.option(
    "--on-conflict",
    type=click.Choice(get_args(Conflicts)),
    default="refuse",
    show_default=True,
    help="Where a rater says two things of one: refuse the files, take the last, or skip both.",
)
@click.option(
    "--question", metavar="NAME", help="Which question, or column, says what is better.  [default: preferred]"
)
@click.option(
    "--group", "columns", metavar="COLUMN", multiple=True, help="A column with raters' groups.  [default: group]"
)
@click.option("--raters", "raters_file", type=click.Path(path_type=Path), help="Table of raters with their groups.")
@click.option(
    "--spreadsheet-safe",
    is_flag=True,
    help="The file was written by `sql --spreadsheet-safe`, as an annotation sheet always is.",
)
@click.option("--dry-run", is_flag=True, help="Read and count, and write nothing.")
@warehouse_option
def import_command(
    files: tuple[str, ...],
    rater: str,
    names: tuple[str, ...],
    dry_run: bool,
    warehouse: Path,
    columns: tuple[str, ...],
    **settings: Any,
) -> None:
    """Import annotations: CSV, TSV, JSONL, JSON or Parquet, also .gz and .zst, several files and patterns of names.

    A row has `pair_id` with `preferred` (a: the earlier answer, b: the later, tie, or the id of a response) or with
    `value` (0 is a, 1 is b, or between); or it has `response_id` with `value` (a number, more is better, or true and
    false). `rater` and `principle_id` may be there too; without a principle it is about the whole. Rows without
    preferred and value are skipped, and other columns are ignored. `winner` and `annotator` are other names of
    `preferred` and `rater`, and `a_id` with `b_id` may be in place of `pair_id`. One wrong row refuses all files.

    Exports of Argilla (records as JSON, flat or on the hub), Label Studio (JSON, JSON_MIN, CSV) and Prodigy (db-out)
    are known by their keys. pair_id, first_id and second_id are in the task's data or metadata, as `annotations sheet`
    puts them there; each annotator is a rater, by an address, a number or an id, for which --name gives a name. What
    was discarded, skipped or ignored, or is a draft, is counted and not taken.

    A column `group`, those that --group names (again for more; inside an object as location.region), or a table
    --raters with a column `rater`, say which groups raters belong to: the audit has each group by itself.

    The same file again changes nothing; a corrected one, under the same name, takes the place of what its raters said
    in it before. The view `annotation_sheet` makes a file to fill in. In it `preferred` is first or A, second or B, or
    tie, as the file shows the answers.

    \b
    Examples:
      constitution sql --format csv --out ann.csv "FROM annotation_sheet WHERE run_id = '…' LIMIT 200"
      constitution annotations import ann.csv
      constitution annotations import 'exports/*.json' --dry-run
      constitution annotations import ann.csv --raters survey.csv --group country --group age
    """
    if settings["run_id"] is not None:
        settings["run_id"] = Warehouse(warehouse).find_run(settings["run_id"]).run_id
    settings["groups"] = Groups.read(columns, settings.pop("raters_file"))
    found = read_annotations(warehouse, *_paths(files), raters={"": rater, **_names(names)}, **settings)
    store = Warehouse(warehouse)
    by_run = sorted(found.annotations, key=lambda annotation: annotation.run_id)
    for run, group in groupby(by_run, lambda annotation: annotation.run_id):
        _take(store, run, list(group), dry_run)
    if not found.annotations:
        click.echo("No annotation was imported.")
    _say(found.skipped, "Skipped")
    _say(found.notes, "Took")
    if found.annotations and not dry_run:
        store.rebuild_views()


def _paths(files: Sequence[str]) -> list[Path]:
    try:
        paths = [path for pattern in files for path, _ in files_of(pattern, Path())]
    except PromptError as error:
        raise InputError(str(error), hint="correct the path, or the pattern of names") from None
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{path}: is named twice", hint="name it once")
    return paths


def _names(given: Sequence[str]) -> dict[str, str]:
    pairs = [each.rpartition("=") for each in given]
    for (id, _, name), each in zip(pairs, given, strict=True):
        if not id or not name:
            raise InputError(f"--name {each}: is not ID=NAME", hint="for example --name 1=ann")
    return {id: name for id, _, name in pairs}


def _take(store: Warehouse, run: str, annotations: Sequence[Annotation], dry_run: bool) -> None:
    """Writes those of one run, and says what became of them."""
    raters = sorted({annotation.rater for annotation in annotations})
    by = f"{len(raters)} raters" if len(raters) > 3 else " and ".join(raters)
    count = len(annotations)
    about = f"{count:,} annotation{'' if count == 1 else 's'} by {printable(by)} on {run}"
    if dry_run:
        click.echo(f"{about}, not written.")
        return
    before = {each.id: each.value for each in store.read_annotations(run)}
    added = store.write_annotations(run, annotations)._asdict()
    said = ", ".join(f"{n:,} {_WHAT[what]}" for what, n in added.items() if n) or "all of them were there before"
    click.echo(f"{about}: {said}.")
    changed = [each for each in annotations if before.get(each.id, each.value) != each.value]
    for each in changed[:MOST_NAMED]:
        about = f"pair {each.pair_id}" if each.pair_id else f"response {each.response_id}"
        click.echo(f"  {printable(each.rater)} on {about}: {before[each.id]:g} became {each.value:g}")
    if len(changed) > MOST_NAMED:
        click.echo(f"  and {len(changed) - MOST_NAMED:,} more")


def _say(places: Mapping[str, Sequence[str]], verb: str) -> None:
    for why, where in places.items():
        named = "; ".join(printable(brief(place, 200)) for place in where[:MOST_NAMED])
        more = f"; and {len(where) - MOST_NAMED:,} more" if len(where) > MOST_NAMED else ""
        rows = f"{len(where):,} row{'' if len(where) == 1 else 's'}"
        click.echo(f"{verb} {rows} {printable(brief(why, 200))}: {named}{more}.")


@group.command("sheet")
@click.option("--for", "tool", type=click.Choice(list(TOOLS)), required=True, help="The tool that shows the pairs.")
@click.option("--run", "run_id", required=True, shell_complete=run_ids, help="The run, or how its id begins.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write, not there yet.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many pairs, drawn over all prompts.")
@warehouse_option
def sheet_command(tool: str, run_id: str, out: Path, limit: int | None, warehouse: Path) -> None:
    """Write pairs for people to annotate in Argilla, Label Studio or Prodigy; for a spreadsheet see `import`.

    Which answer is first depends on the pair's id, and neither judges' votes nor the kind of answer are shown. Each
    task carries the ids of its pair and of both answers, so that `annotations import` knows what was where.

    \b
    Example:
      constitution annotations sheet --for label-studio --run 2026 --limit 200 --out sheet
    """
    run = Warehouse(warehouse).find_run(run_id).run_id
    told = write_sheet(warehouse, run, tool, out, limit)
    click.echo(f"Wrote {out}. To use it: {told}; then `constitution annotations import`.")


@group.command("list")
@warehouse_option
def list_command(warehouse: Path) -> None:
    """What has been imported: run, rater, file, and how many annotations on pairs and responses.

    Example:  constitution annotations list
    """
    with connect(warehouse) as connection:
        show_answer(keep(connection, _LIST))
