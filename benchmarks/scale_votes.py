"""What SQL and the audit take of a large run, beside plain DuckDB on one file a table with the same rows.

    python -m benchmarks.scale_votes WAREHOUSE RUN     audits it, and prints what that took, as JSON

Plain DuckDB has its own settings, its own Parquet files (`COPY … TO`), one a table, and the same views. Each question
is put to ours and to it in turns, warm, and must have the same answer from both. The audit's figures are means with
intervals; what is set beside it is the SQL of the means alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import duckdb

from benchmarks.figures import peak_rss_mib
from benchmarks.scale_rows import ROOT, make
from constitution.audit import audit
from constitution.warehouse import Warehouse, ask, connect, views

TURNS = 3
"""Of each side, after one that warms up; the quickest counts. Of a question that takes more than SLOW seconds, one."""
SLOW = 2.0
AUDIT_MIB = 3072
"""What an audit of ten million votes may take: 2 GiB of DuckDB, and the interpreter with what statistics need."""
TABLES = ("prompts", "responses", "judgements", "preferences")

QUESTIONS = {
    "votes by judge and principle": "SELECT judge, principle_id, count(*), avg(p_first) FROM judgements "
    "WHERE run_id = '{run}' GROUP BY ALL ORDER BY ALL",
    "entropy of the votes, by judge": "SELECT judge, avg(-p_first * log2(p_first) - (1 - p_first) * log2(1 - p_first)) "
    "FROM judgements WHERE p_first > 0 AND p_first < 1 GROUP BY ALL ORDER BY ALL",
    "kept pairs by the label's tenth": "SELECT floor(p_chosen * 10), count(*), avg(agreement) FROM preferences "
    "WHERE kept GROUP BY ALL ORDER BY ALL",
    "the surest pairs, with texts": "SELECT id, p_chosen, chosen, rejected FROM pairs WHERE p_chosen > 0.95 "
    "ORDER BY p_chosen DESC, id LIMIT 20",
    "length of chosen and rejected": "SELECT avg(length(c.text)), avg(length(r.text)) FROM preferences AS p "
    "JOIN responses AS c ON c.run_id = p.run_id AND c.id = p.chosen_id "
    "JOIN responses AS r ON r.run_id = p.run_id AND r.id = p.rejected_id",
    "LIKE over all answers": "SELECT kind, count(*) FROM responses WHERE text LIKE '%{phrase}%' "
    "GROUP BY ALL ORDER BY ALL",
    "votes of one pair": "SELECT id, judge, principle_id, p_first FROM judgements WHERE pair_id = '{pair}' ORDER BY id",
    "provenance of one preference": "SELECT part, id, what, text, p_b FROM provenance('{pair}') ORDER BY ALL",
    "view averaged_votes: those bound to the place": "SELECT judge, count(*) FROM averaged_votes WHERE same_place "
    "GROUP BY ALL ORDER BY ALL",
    "view position": "FROM position ORDER BY ALL",
    "view alignment": "FROM alignment ORDER BY ALL",
    "view usage": "FROM usage ORDER BY ALL",
}
MEANS = (
    *("FROM position", "FROM principle_votes", "FROM phi", "FROM alignment", "FROM missing_votes", "FROM drawn"),
    "SELECT kind, round, avg(tokens) FROM style GROUP BY ALL",
    "SELECT avg(length), avg(headers), avg(lists), avg(bold) FROM style_differences",
    "SELECT judge, avg(label_mass) FROM judgements GROUP BY ALL",
)


def measure(folder: Path, votes: int) -> dict[str, Any]:
    """Everything, of a warehouse made in `folder` for it."""
    root, run_id = make(folder, votes)
    warehouse = Warehouse(root)
    plain = one_file(root, run_id, folder / "plain")
    pair, text = plain.sql("SELECT p.id, r.text FROM preferences AS p JOIN responses AS r ON r.id = p.a_id "
                           "ORDER BY p.id LIMIT 1").fetchall()[0]  # fmt: skip
    [(stored,)] = plain.sql("SELECT count(*) FROM judgements").fetchall()
    words = {"run": run_id, "pair": pair, "phrase": " ".join(text.split()[2:4])}
    layouts, counts = {}, {}
    for layout in ("as flushed", "compacted"):
        if layout == "compacted":
            with warehouse.lock(run_id):
                warehouse.compact(run_id)
        counts[layout] = len(warehouse.parts("judgements", run_id))
        with connect(root) as ours:
            layouts[layout] = [
                {"what": what} | beside(ours, plain, sql.format(**words)) for what, sql in QUESTIONS.items()
            ]
    began = time.process_time()
    for sql in MEANS:
        plain.execute(sql).fetchall()
    plain_cpu = time.process_time() - began
    plain.close()
    command = [sys.executable, "-m", "benchmarks.scale_votes", str(root), run_id]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    audited = {**json.loads(done.stdout.splitlines()[-1]), "plain_cpu": plain_cpu}
    return {"votes": stored, "files": counts, "layouts": layouts, "audit": audited}


def one_file(root: Path, run_id: str, folder: Path) -> duckdb.DuckDBPyConnection:
    """Plain DuckDB on one file of each large table, with our views over them."""
    folder.mkdir()
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    views.create(connection, root)
    for table in TABLES:
        path = folder / f"{table}.parquet"
        parts = f"{views.as_pattern(root)}/{table}/{run_id}/*.parquet"
        connection.execute(f"COPY (FROM read_parquet('{parts}', hive_partitioning = false)) TO '{path}'")
        connection.execute(f"CREATE OR REPLACE VIEW {table} AS FROM '{path}'")
    return connection


def beside(ours: duckdb.DuckDBPyConnection, plain: duckdb.DuckDBPyConnection, sql: str) -> dict[str, float]:
    """CPU seconds of both, in turns; SystemExit where their answers differ."""
    sides: dict[str, Callable[[], list[Any]]] = {
        "ours": lambda: list(ask(ours, sql).rows),
        "plain": lambda: plain.execute(sql).fetchall(),
    }
    began = time.process_time()
    answers = {side: [_rounded(row) for row in put()] for side, put in sides.items()}
    slow = time.process_time() - began > 2 * SLOW
    if answers["ours"] != answers["plain"] or not answers["ours"]:
        raise SystemExit(f"FAIL: not the same rows from both, or none: {sql}")
    found = dict.fromkeys(sides, float("inf"))
    for _ in range(1 if slow else TURNS):
        for side, put in sides.items():
            began = time.process_time()
            put()
            found[side] = min(found[side], time.process_time() - began)
    return found


def _rounded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sums differ in their last bits with the order in which threads read."""
    return tuple(round(value, 9) if isinstance(value, float) else value for value in row)


@click.command()
@click.argument("warehouse", type=click.Path(exists=True, path_type=Path))
@click.argument("run")
def main(warehouse: Path, run: str) -> None:
    began = time.process_time()
    figures = audit(warehouse, run)
    cpu = time.process_time() - began
    print(json.dumps({"cpu": cpu, "peak_mib": peak_rss_mib(), "figures": len(figures)}), flush=True)


if __name__ == "__main__":
    main()
