"""A run's votes laid out for the audit: tables in memory that every figure is made from.

    evidence = load(root, run_id, replicates=1000)
    yield from evidence.means("ties")

The tables, in the order in which they are made:

    audit.prompts     prompt_id, cluster: what a bootstrap draws; the turns of a conversation are one
    audit.pairs       the run's preferences; place: their order; swapped: the toss of a coin by which a pair's answers
                      change places where it must not matter that b is the later one; what is known of both answers;
                      is_step: b revises a; their differences in style
    audit.averaged    the view averaged_votes: a judge's and principle's vote on a pair, mean of both orders, with the
                      principle's weight and the prompt's cluster; of these are what is said of pairs and labels
    audit.first_votes  the same of first_votes, of which is what is said of judges and principles: of adaptive votes
                      later waves are of close pairs; audit.training_votes: without perturbations
    audit.shifts      judge, place, length, style: what they gave b, in log-odds, as far as labels are controlled by
                      it (measures.style.control), and with `_whole` by the whole fit (style.fit_all)
    audit.controlled  a view: p_b of each averaged vote as it was (`off`), and with each of these taken out;
                      audit.first_controlled: of the first votes
    audit.votes       what each judge says of each pair, at each stage (gold.create_stages); audit.gold: what gold says

A run may have ten million votes: what grows with them names its pair by its place, its judge and principle by numbers
with names (ENUM), and leaves to DuckDB whatever can be summed there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from constitution.audit.kinds import KINDS, SECTIONS, Kind
from constitution.audit.tags import Tags
from constitution.errors import WarehouseError
from constitution.labels import judge_settings
from constitution.measures import Estimate, estimate
from constitution.records import Constitution, Figure, Run
from constitution.warehouse import Warehouse, connect
from constitution.warehouse.query import ask_arrow
from constitution.warehouse.views import quoted

if TYPE_CHECKING:
    from constitution.audit.style import Fits

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
    prompt_id, conversation,
    CASE WHEN count(*) OVER () > {clusters} THEN (md5_number_lower(conversation) % {clusters})::INTEGER
         ELSE dense_rank() OVER (ORDER BY conversation)::INTEGER END AS cluster
FROM (
    SELECT prompt_id, coalesce(q.conversation_id, prompt_id) AS conversation
    FROM (
        SELECT prompt_id FROM responses WHERE run_id = $run UNION SELECT prompt_id FROM preferences WHERE run_id = $run
    )
    LEFT JOIN (SELECT id AS prompt_id, conversation_id FROM prompts WHERE run_id = $run) AS q USING (prompt_id)
);

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
"""

_VOTES = """
CREATE TABLE audit.{name} AS
SELECT
    p.place, p.cluster, p.kind, c.judge::audit.judge AS judge, c.principle_id::audit.principle AS principle_id,
    c.p_ab, c.p_ba, c.p_b, c.l_ab, c.l_ba, c.position, c.same_place, c.first_place, coalesce(w.weight, 1) AS weight
FROM {source} AS c
JOIN audit.pairs AS p ON p.pair_id = c.pair_id
LEFT JOIN (SELECT principle_id, weight FROM principles WHERE run_id = $run) AS w USING (principle_id)
WHERE c.run_id = $run;
"""

_OF_TRAINING = """
CREATE VIEW audit.training_pairs AS FROM audit.pairs WHERE kind <> 'perturbation';

CREATE VIEW audit.training_votes AS FROM audit.first_votes WHERE kind <> 'perturbation';
"""


@dataclass
class Evidence:
    """What the figures of one run are made of."""

    root: Path
    run: Run
    constitution: Constitution
    connection: duckdb.DuckDBPyConnection
    replicates: int = 1000
    """Replicates of each bootstrap."""
    scorecard: str = ""
    """name@version of the one whose figures are made; empty: the last that was asked."""
    tags: Tags | None = None
    """Tags of prompts, for the scorecard; None: those of the last audit."""
    fits: list[Fits] = field(default_factory=list)
    """The regressions on length and style, a judge each (style.fit_all)."""

    @property
    def judge(self) -> dict[str, Any]:
        """The recipe's [judge], with the settings that the labels were last made by in their place; empty where it has
        none."""
        return judge_settings(self.run)

    @property
    def adaptive(self) -> bool:
        """Whether votes stopped where they had decided a pair."""
        return self.judge.get("votes") == "adaptive"

    def create(self, sql: str) -> None:
        """Runs statements that make tables, one after the other; `$run` in them is the run's id."""
        for statement in filter(str.strip, sql.split(";\n")):
            self.connection.execute(statement, {"run": self.run.run_id} if "$run" in statement else None)

    def ask(self, sql: str) -> pa.Table:
        """The answer of a query; `{run}` in it stands for the run's id."""
        return ask_arrow(self.connection, sql.replace("{run}", quoted(self.run.run_id)), ours=True).read_all()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.ask(sql).to_pylist()
        return rows

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
        kind = KINDS[name]
        if self.adaptive and value is not None:
            note = "; ".join(filter(None, (note, kind.stopped)))
        return Figure(self.run.run_id, kind.name, value, found.n, low, high, judge, principle_id, subject, note)

    def count(self, name: str, value: float, n: int, **about: str) -> Figure:
        """A number that has no interval, because nothing was drawn. about: judge, principle_id, subject."""
        return self.figure(name, Estimate(float(value), None, None, n), **about)

    def missing(self, name: str, note: str = "", n: int = 0, **about: str) -> Figure:
        """What cannot be measured, and what it would take: `note`, or what the kind says."""
        return self.figure(name, Estimate(None, None, None, n), note or KINDS[name].takes, **about)

    def mean(self, values: Array, clusters: Array, *, proportion: bool = False) -> Estimate:
        return estimate.mean(values, clusters, proportion=proportion, replicates=self.replicates)

    def means(self, name: str, sql: str = "", takes: str | None = "") -> Iterator[Figure]:
        """The mean of `value` in the rows of `sql`, or of the figure's own query, for each judge, principle or subject
        of each of its levels. Where the first level has no rows, one figure without a value says what it takes;
        takes=None: none does.

        The interval is a bootstrap over prompts. Of 0 and 1 (`wilson`; the rows have `prompt_id` too) it is Wilson's
        where each prompt has one row.
        """
        kind = KINDS[name]
        for level, keys in enumerate(kind.by):
            by, lone = ", ".join(keys) or "subject", "false"
            rows_of = sql or kind.sql
            if not keys:
                rows_of = f"SELECT '' AS subject, * FROM ({rows_of})"
            if kind.wilson:
                rows_of = f"SELECT *, count(*) OVER (PARTITION BY {by}, prompt_id) = 1 AS lone FROM ({rows_of})"
                lone = "bool_and(lone)"
            found = False
            summed = f"""
                SELECT {by}, cluster, sum(value)::DOUBLE AS total, count(*) AS n, min(value)::DOUBLE AS low,
                    max(value)::DOUBLE AS high, {lone} AS lone
                FROM ({rows_of}) GROUP BY ALL ORDER BY ALL
            """
            for about, rows in self.groups(summed, *(keys or ("subject",))):
                found = True
                yield self.figure(name, self._mean_of(rows, kind), **about)
            if not found and level == 0 and takes is not None and (takes or kind.takes):
                yield self.missing(name, takes)

    def _mean_of(self, rows: dict[str, Array], kind: Kind) -> Estimate:
        """The mean of values that were summed by cluster."""
        total, n = rows["total"], rows["n"]
        if rows["lone"].all():
            hits, count = int(total.sum()), int(n.sum())
            return Estimate(hits / count, *estimate.wilson(hits, count), count)
        low, high = rows["low"].min(), rows["high"].max()
        if kind.signed:  # as shares, so that what is always 1 has an interval
            total, low, high = (total + n) / 2, (low + 1) / 2, (high + 1) / 2
        parts, bounded = estimate.Parts(total, n, low, high), kind.proportion or kind.signed
        found = estimate.mean_of_parts(parts, rows["cluster"], proportion=bounded, replicates=self.replicates)
        if not kind.signed:
            return found
        value, *ends = (None if end is None else 2 * end - 1 for end in (found.value, found.low, found.high))
        return Estimate(value, ends[0], ends[1], found.n)

    def measured(self, section: str) -> Iterator[Figure]:
        """The figures of a section that have a query."""
        for kind in next(each for each in SECTIONS if each.name == section).kinds:
            if kind.sql:
                yield from self.means(kind.name)


def load(root: Path, run_id: str, **settings: Any) -> Evidence:
    """The run's votes in tables. settings: further fields of Evidence. WarehouseError where there is no such run."""
    warehouse = Warehouse(root)
    run, constitution = warehouse.read_run(run_id), warehouse.read_principles(run_id)
    if run is None or constitution is None:
        raise WarehouseError(f"{root}: there is no run {run_id}", hint="`constitution runs` lists them")
    connection = connect(root, MEMORY_MIB)
    try:
        evidence = Evidence(root, run, constitution, connection, **settings)
        evidence.create(_LAYOUT.format(clusters=CLUSTERS, run=quoted(run_id)))
        evidence.create(_VOTES.format(name="averaged", source="averaged_votes"))
        first = _VOTES.format(name="first_votes", source="first_votes")
        evidence.create(first if evidence.adaptive else "CREATE VIEW audit.first_votes AS FROM audit.averaged")
        evidence.create(_OF_TRAINING)
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
