"""`constitution coverage`: a document's clauses beside what a run made of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import click

from constitution.cli._options import run_ids, warehouse_option
from constitution.cli.sql import Format, write_answer
from constitution.documents import Clause, Document, compare, followers, read_document
from constitution.errors import InputError, QueryError
from constitution.principles.schema import CLAUSE_PATTERN
from constitution.records import Constitution, StoredClause
from constitution.shown import brief, printable
from constitution.warehouse import Warehouse, connect
from constitution.warehouse.clauses import Quoted, held, stored
from constitution.warehouse.views import quoted as literal

NAMED = 5
"""Clauses that a line names."""

_TABLE = """
SELECT clause, state, array_to_string(principle_ids, ', ') AS principles, prompts, answers, changed, pairs, votes,
    readings, round(agrees, 3) AS agrees, round(win_rate, 3) AS win_rate, failures
FROM coverage WHERE run_id = {run} AND document = {document} AND edition = {edition} AND state <> 'introduces'
ORDER BY len(principle_ids) = 0, position
"""
_ALL = """
FROM coverage WHERE run_id = {run} AND document = {document} AND edition = {edition} ORDER BY position
"""
_SUMS = """
SELECT state, count(*), list(clause ORDER BY position) FROM coverage
WHERE run_id = {run} AND document = {document} AND edition = {edition} GROUP BY ALL
"""


@click.command()
@click.argument("document", metavar="DOC", type=click.Path(path_type=Path))
@click.argument("run_id", metavar="RUN", shell_complete=run_ids)
@click.option("--as", "name", metavar="NAME", help="What principles call the document.  [default: its file's name]")
@click.option(
    "--format", "form", type=click.Choice(get_args(Format)), default="table", show_default=True,
    help="table shows the first rows; the others have every clause and column.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@warehouse_option
def coverage(
    document: Path, run_id: str, name: str | None, form: Format, as_json: bool, out: Path | None, warehouse: Path
) -> None:
    """What of a document a run covers, clause by clause, and what it does not.

    Principles name clauses (`clauses`, `quote`). The document's clauses are stored beside the run, each edition apart;
    the views `coverage` and `clause_rows` then lead from each row to its clause. Exit code 1 where a principle names a
    clause that the document does not have, or a quote is not in it.

    Example:  constitution coverage charter.md pocket-0123456789ab
    """
    form = "json" if as_json else form
    if form == "parquet" and out is None:
        raise QueryError("parquet needs a file to go to", hint="add --out FILE.parquet")
    store = Warehouse(warehouse)
    run = store.find_run(run_id)
    constitution = store.read_principles(run.run_id)
    if constitution is None:
        raise InputError(f"{warehouse}: run {run.run_id} has no principles", hint="begin it: `constitution run`")
    read = read_document(document)
    called = _called(read, name, constitution)
    found = held(read, called, constitution.principles)
    rows = stored(run.run_id, read, called, found)
    known = [each for each in store.read_clauses(run.run_id) if each.document == called]
    became = store.write_clauses(run.run_id, rows)
    store.rebuild_views()
    names = {"run": run.run_id, "document": called, "edition": read.digest}
    sql = {each: text.format(**{key: literal(value) for key, value in names.items()})
           for each, text in (("table", _TABLE), ("all", _ALL), ("sums", _SUMS))}  # fmt: skip
    with connect(warehouse, run_id=run.run_id) as connection:
        sums = {state: (count, clauses) for state, count, clauses in connection.execute(sql["sums"]).fetchall()}
        write_answer(connection, sql["table" if form == "table" else "all"], form, out, False)
    faults = list(_faults(found, called))
    for line in (*_summary(sums, constitution, found, called), *_editions(read, called, known, constitution)):
        click.echo(printable(line), err=True)
    if became == "replaced":
        click.echo("This edition was stored before, and divided or quoted otherwise; its rows were replaced.", err=True)
    for line in faults:
        click.echo(printable(brief(line)), err=True)
    sys.exit(1 if faults else 0)


def _called(document: Document, name: str | None, constitution: Constitution) -> str:
    """What principles call the document. InputError where none of them names a clause of it."""
    called = document.name if name is None else name
    if not re.fullmatch(CLAUSE_PATTERN, f"{called}#1"):
        raise InputError(f"--as {called!r}: is no name of a document", hint="letters, digits, - and . are")
    named = sorted({clause.partition("#")[0] for each in constitution.principles for clause in each.clauses})
    if called not in named:
        raise InputError(
            f"no principle of {constitution.label} names a clause of {called}",
            hint=f"they name clauses of {', '.join(named)}: --as NAME says which it is" if named
            else f'give principles their clauses (clauses = ["{called}#…"]), or `constitution principles extract`',
        )  # fmt: skip
    return called


def _summary(
    sums: dict[str, tuple[int, list[str]]], constitution: Constitution, found: Sequence[Quoted], called: str
) -> Iterator[str]:
    count = {state: number for state, (number, _) in sums.items()}
    total = sum(number for state, number in count.items() if state != "introduces")
    yield f"{count.get('covered', 0):,} of {total:,} clauses are covered."
    told = (("no-principle", "No principle"), ("misquoted", "Named by principles that quote other words"))
    for state, says in (*told, ("not-asked", "Never drawn, voted or read")):
        if state in sums:
            number, clauses = sums[state]
            yield f"{says}: {number:,} ({_listed(clauses)})"
    traced = {each.principle.id for each in found}
    if others := [each.id for each in constitution.principles if each.id not in traced]:
        yield f"Principles that name no clause of {called}: {len(others):,} ({_listed(others)})"
    if bare := [each.principle.id for each in found if not each.principle.quote]:
        yield f"Principles without a quote: {len(bare):,} ({_listed(bare)})"


def _faults(found: Sequence[Quoted], called: str) -> Iterator[str]:
    for each in found:
        for clause in each.unknown:
            yield f"principle {each.principle.id}: names {clause}, and this edition has no such clause"
        if each.verbatim is False:
            where = f"; {_listed([f'{called}#{c.id}' for c in each.elsewhere])} has it" if each.elsewhere else ""
            yield f"principle {each.principle.id}: its quote is not in the clauses that it names{where}"


def _editions(
    document: Document, called: str, known: Sequence[StoredClause], constitution: Constitution
) -> Iterator[str]:
    """What became of the clauses of the edition that was stored last, if it is another."""
    last = next((each.edition for each in reversed(known) if each.edition != document.digest), None)
    if last is None:
        return
    old = _document([each for each in known if each.edition == last], called)
    changes = compare(old, document)
    became = {kind: sum(each.kind == kind for each in changes) for kind in ("moved", "reworded", "added", "removed")}
    yield f"Edition {last[:8]} is stored for the run too. Since then: " + ", ".join(
        f"{count:,} {kind}" for kind, count in became.items()
    )
    for each in followers(changes, constitution.principles, old, document):
        if each.follows:
            what = each.change.kind if each.change else "not there"
            yield f"  principle {each.principle.id} follows from {each.clause}: {what}"


def _document(rows: Sequence[StoredClause], called: str) -> Document:
    clauses = tuple(
        Clause(
            each.clause.partition("#")[2], each.number, each.heading, each.text, each.begins, each.ends,
            each.page or 0, each.line or 0, each.lead, each.kind,  # type: ignore[arg-type]
        )
        for each in rows
    )  # fmt: skip
    text = "\n".join(each.text for each in clauses)
    return Document(called, rows[0].format, rows[0].edition, text, clauses)  # type: ignore[arg-type]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
