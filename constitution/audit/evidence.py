"""A run's votes laid out for the audit: tables in memory made once from the warehouse's views, which every figure asks.

    evidence = load(root, run_id, replicates=1000)
    yield from evidence.means("ties", "SELECT judge, … AS value, cluster FROM audit.couples", "judge", share=True)

The tables, in the order in which they are made:

    audit.prompts     prompt_id, cluster: what a bootstrap draws
    audit.pairs       the run's preferences; place: their order; swapped: the toss of a coin by which a pair's answers
                      change places where it must not matter that b is the later one; what is known of both answers;
                      is_step: b revises a; their differences in style
    audit.couples     the view averaged_votes, with the principle's weight and the prompt's cluster
    audit.shifts      judge, place, length, style: what they gave b, in log-odds, as far as labels are controlled by
                      it (measures.style.control), and with `_whole` by the whole fit (style.lay_shifts)
    audit.controlled  a view: p_b of each couple as it was (`off`), and with each of these taken out
    audit.votes       what each judge says of each pair, at each stage (gold.lay_votes); audit.gold: what gold says

Ten million votes are five million couples: what grows with them names its pair by its place, its judge and principle by
numbers with names (ENUM), and leaves to DuckDB whatever can be summed there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from constitution.errors import WarehouseError
from constitution.labels import judge_settings
from constitution.measures import Estimate, estimate
from constitution.records import Constitution, Figure, Run
from constitution.warehouse import Warehouse, connect
from constitution.warehouse.query import ask_arrow
from constitution.warehouse.views import quoted

Array = NDArray[Any]
Group = tuple[dict[str, str], dict[str, Array]]
"""The values of the keys, which are fields of Figure, and the other columns."""

CLUSTERS = 2048
"""More prompts than this are drawn in so many groups, into which their ids' digests put them: a bootstrap over groups
of prompts is as right as one over prompts, and its width differs from the other's by about 2 %."""

DECIMALS = 9

MEMORY_MIB = 2048
"""What DuckDB may hold; of what is laid out above that, it puts some on disk (the temporary folder)."""

_LAYOUT = """
CREATE SCHEMA audit;

CREATE TABLE audit.prompts AS
SELECT
    prompt_id,
    CASE WHEN count(*) OVER () > {clusters} THEN (md5_number_lower(prompt_id) % {clusters})::INTEGER
         ELSE row_number() OVER (ORDER BY prompt_id)::INTEGER END AS cluster
FROM (SELECT prompt_id FROM responses WHERE run_id = $run UNION SELECT prompt_id FROM preferences WHERE run_id = $run);

CREATE TYPE audit.judge AS ENUM (
    SELECT '' AS name UNION SELECT DISTINCT judge FROM judgements WHERE run_id = {run} ORDER BY name
);

CREATE TYPE audit.principle AS ENUM (
    SELECT '' AS name UNION SELECT DISTINCT principle_id FROM judgements WHERE run_id = {run} ORDER BY name
);

CREATE TYPE audit.kind AS ENUM (
    SELECT '' AS name UNION SELECT DISTINCT kind FROM preferences WHERE run_id = {run} ORDER BY name
);

CREATE TABLE audit.pairs AS
WITH answer AS (
    SELECT id, kind, round, parent_id, principle_id, perturbation, family FROM responses WHERE run_id = $run
)
SELECT
    p.id AS pair_id, (row_number() OVER (ORDER BY p.id) - 1)::INTEGER AS place,
    p.prompt_id, q.cluster, p.kind::audit.kind AS kind, p.p_b, p.p_mean, p.votes, p.votes_missing, p.agreement, p.kept,
    p.drop_reason, md5_number_lower(p.id) % 2 = 1 AS swapped,
    b.round, b.principle_id AS revised_by, b.perturbation, a.family AS a_family, b.family AS b_family,
    coalesce(b.kind = 'revision' AND b.parent_id = a.id, false) AS is_step, s.length, s.headers, s.lists, s.bold
FROM preferences AS p
JOIN audit.prompts AS q USING (prompt_id)
LEFT JOIN answer AS a ON a.id = p.a_id
LEFT JOIN answer AS b ON b.id = p.b_id
LEFT JOIN (FROM style_differences WHERE run_id = $run) AS s ON s.pair_id = p.id
WHERE p.run_id = $run;

CREATE TABLE audit.couples AS
SELECT
    p.place, p.cluster, p.kind, c.judge::audit.judge AS judge, c.principle_id::audit.principle AS principle_id,
    c.p_ab, c.p_ba, c.p_b, c.l_b, c.position, c.same_place, c.first_place, coalesce(w.weight, 1) AS weight
FROM averaged_votes AS c
JOIN audit.pairs AS p ON p.pair_id = c.pair_id
LEFT JOIN (SELECT principle_id, weight FROM principles WHERE run_id = $run) AS w USING (principle_id)
WHERE c.run_id = $run;
"""


@dataclass(frozen=True)
class Evidence:
    """What the figures of one run are made of."""

    root: Path
    run: Run
    constitution: Constitution
    connection: duckdb.DuckDBPyConnection
    replicates: int
    """Replicates of each bootstrap."""

    @property
    def judge(self) -> dict[str, Any]:
        """The recipe's [judge], with the settings that the labels were last made by in place of its own; empty where it
        has none."""
        return judge_settings(self.run)

    def lay(self, sql: str) -> None:
        """Runs statements that make tables, one after the other; `$run` in them is the run's id."""
        for statement in filter(str.strip, sql.split(";\n")):
            self.connection.execute(statement, {"run": self.run.run_id} if "$run" in statement else None)

    def ask(self, sql: str) -> pa.Table:
        return ask_arrow(self.connection, sql).read_all()

    def groups(self, sql: str, *keys: str) -> Iterator[Group]:
        """The rows of each combination of the columns `keys`, which are judge, principle_id or subject, in order."""
        yield from groups(self.ask(sql), *keys)

    def figure(
        self, name: str, found: Estimate, note: str = "", *, judge: str = "", principle_id: str = "", subject: str = ""
    ) -> Figure:
        # Sums depend in their last bits on which thread reads first; the same votes are to give the same figures.
        value, low, high = (
            None if each is None else round(each, DECIMALS) for each in (found.value, found.low, found.high)
        )
        return Figure(self.run.run_id, name, value, found.n, low, high, judge, principle_id, subject, note)

    def count(self, name: str, value: float, n: int, **about: str) -> Figure:
        """A number that has no interval, because nothing was drawn. about: judge, principle_id, subject."""
        return self.figure(name, Estimate(float(value), None, None, n), **about)

    def missing(self, name: str, note: str, n: int = 0, **about: str) -> Figure:
        """What cannot be measured; `note` says what would make it measurable."""
        return self.figure(name, Estimate(None, None, None, n), note, **about)

    def mean(self, values: Array, clusters: Array, *, share: bool = False) -> Estimate:
        return estimate.mean(values, clusters, proportion=share, replicates=self.replicates)

    def means(self, name: str, sql: str, *keys: str, share: bool = False, otherwise: str = "") -> Iterator[Figure]:
        """One figure per combination of `keys`: the mean of the query's column `value`, with `cluster` beside it.

        share: the values are in [0, 1]. otherwise: what one missing figure says where there are no rows.
        """
        empty = True
        summed = f"""
            SELECT {", ".join(keys)}, cluster, sum(value)::DOUBLE AS total, count(*) AS n, min(value)::DOUBLE AS low,
                max(value)::DOUBLE AS high
            FROM ({sql}) GROUP BY ALL ORDER BY ALL
        """
        for about, rows in self.groups(summed, *keys):
            empty = False
            parts = estimate.Parts(rows["total"], rows["n"], rows["low"].min(), rows["high"].max())
            found = estimate.mean_of_parts(parts, rows["cluster"], proportion=share, replicates=self.replicates)
            yield self.figure(name, found, **about)
        if empty and otherwise:
            yield self.missing(name, otherwise)


def load(root: Path, run_id: str, *, replicates: int) -> Evidence:
    """Lays out the run's votes. WarehouseError where there is no such run."""
    warehouse = Warehouse(root)
    run, constitution = warehouse.read_run(run_id), warehouse.read_principles(run_id)
    if run is None or constitution is None:
        raise WarehouseError(f"{root}: there is no run {run_id}", hint="`constitution runs` lists them")
    connection = connect(root, MEMORY_MIB)
    try:
        evidence = Evidence(root, run, constitution, connection, replicates)
        evidence.lay(_LAYOUT.format(clusters=CLUSTERS, run=quoted(run_id)))
    except duckdb.Error as error:
        connection.close()
        raise WarehouseError(f"{root}: run {run_id} cannot be read: {str(error).splitlines()[0]}") from error
    return evidence


def groups(table: pa.Table, *keys: str) -> Iterator[Group]:
    """The rows of each combination of the text columns `keys`, in order, and the other columns as arrays."""
    coded = [table.column(key).combine_chunks().dictionary_encode() for key in keys]
    place = np.zeros(table.num_rows, dtype=np.int64)
    for codes in coded:
        ranks = np.argsort(np.argsort(codes.dictionary.to_pylist()))
        place = place * max(len(codes.dictionary), 1) + ranks[codes.indices.to_numpy(zero_copy_only=False)]
    order = np.argsort(place, kind="stable")
    columns = {name: table.column(name).to_numpy()[order] for name in table.column_names if name not in keys}
    if not table.num_rows:
        return
    edges = np.flatnonzero(np.diff(place[order], prepend=-1))
    for start, end in zip(edges, [*edges[1:], table.num_rows], strict=True):
        first = order[start]
        about = {key: codes[int(first)].as_py() for key, codes in zip(keys, coded, strict=True)}
        yield about, {name: column[start:end] for name, column in columns.items()}


def correlation(x: Array, y: Array, clusters: Array, replicates: int, *, least: int = 3) -> Estimate:
    """Pearson's correlation, which is phi where both are signs. Without a value: x or y is always the same, or there
    are fewer than `least`.

    The interval is the bootstrap's of the mean of the correlation's influence values (its linear part), so that it
    costs what a mean costs. Of a correlation of 1, whose influence values are all the same, it is from Wilson's of the
    share in which x and y go together.
    """
    n = len(x)
    if n < least or x.std() < 1e-12 or y.std() < 1e-12:
        return Estimate(None, None, None, n)
    zx, zy = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    value = float(np.clip((zx * zy).mean(), -1, 1))
    if abs(value) > 1 - 1e-9:
        share = estimate.mean(np.ones(n), clusters, proportion=True).low or 0.0
        end = 2 * share - 1
        return Estimate(value, end, 1.0, n) if value > 0 else Estimate(value, -1.0, -end, n)
    return _inside(estimate.mean(zx * zy - value * (zx**2 + zy**2) / 2 + value, clusters, replicates=replicates))


def difference(values: Array, ours: NDArray[np.bool_], clusters: Array, replicates: int) -> Estimate:
    """Mean of `values`, which are shares, where `ours`, less their mean elsewhere; the interval is made of both means'
    own (Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10). Without a
    value: one of the two has no rows."""
    own, others = (
        estimate.mean(values[rows], clusters[rows], proportion=True, replicates=replicates) for rows in (ours, ~ours)
    )
    if own.value is None or others.value is None:
        return Estimate(None, None, None, len(values))
    value = own.value - others.value

    def reach(up: Estimate, down: Estimate) -> float:
        """How far the difference may be from `value` where `up` is at its upper end and `down` at its lower."""
        ends = (up.value, up.high, down.low, down.value)
        middle, high, low, center = (np.nan if end is None else end for end in ends)
        return float(np.hypot(high - middle, center - low))

    return Estimate(value, value - reach(others, own), value + reach(own, others), len(values))


def _inside(found: Estimate) -> Estimate:
    """A linear part knows no bounds; what it stands for is in [-1, 1]."""
    low, high = (None if end is None else float(np.clip(end, -1, 1)) for end in (found.low, found.high))
    return Estimate(found.value, low, high, found.n)
