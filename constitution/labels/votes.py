"""A run's votes as columns: what each voter, a judge by a principle, says of each pair. `relabel` makes labels of them.

The query does to many votes what `label_pair` does to those of one pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from constitution.judge import ORDERS
from constitution.measures.estimate import Floats
from constitution.recipe import JudgeSection

_COUPLES = """
WITH vote AS (
    SELECT
        pair.place, voter.voter, voter.orders, j.first_id = pair.b_id AS b_first, j.p_first AS p,
        CASE WHEN coalesce(given.shift, 0) = 0 THEN j.p_first
             ELSE 1 / (1 + exp((CASE WHEN b_first THEN 1 ELSE -1 END) * given.shift - log_odds(j.p_first)))
        END AS controlled,
        CASE WHEN j.method = 'rationale' THEN $low ELSE 0 END AS low,
        CASE WHEN j.method = 'rationale' THEN $high ELSE 1 END AS high
    FROM judgements AS j
    JOIN pair ON pair.id = j.pair_id
    JOIN voter USING (judge, principle_id, method)
    LEFT JOIN given ON given.place = pair.place AND given.judge = j.judge
    WHERE j.run_id = $run AND j.label_mass >= $mass
),
-- Repeats are averaged in the order of their values, so that no sum depends on the order of reading.
ordered AS (
    SELECT
        place, voter, orders, b_first, count(*) AS votes,
        avg(p ORDER BY p) AS p,
        avg(least(greatest(p, low), high) ORDER BY p) AS plain,
        avg(least(greatest(controlled, low), high) ORDER BY controlled) AS shifted
    FROM vote GROUP BY place, voter, orders, b_first
),
turned AS (
    SELECT
        place, voter, orders, votes, (CASE WHEN b_first THEN 1 ELSE -1 END) * log_odds(p) AS log_odds,
        CASE WHEN b_first THEN plain ELSE 1 - plain END AS plain,
        CASE WHEN b_first THEN shifted ELSE 1 - shifted END AS shifted
    FROM ordered
)
SELECT
    place, voter, sum(votes)::BIGINT AS votes, avg(log_odds) AS log_odds, avg(plain) AS plain, avg(shifted) AS shifted,
    CASE WHEN count(*) = 2 THEN (min(side(plain)) = max(side(plain)))::DOUBLE ELSE 'NaN'::DOUBLE END AS consistent
FROM turned GROUP BY place, voter, orders HAVING count(*) = orders ORDER BY place, voter
"""

GIVEN = pa.schema({"place": pa.int64(), "judge": pa.string(), "shift": pa.float64()})
"""Log-odds for b that are taken out of a judge's votes on a pair."""


@dataclass(frozen=True, slots=True)
class Couples:
    """What each voter says of each pair, by pair and voter: probabilities that b is better."""

    place: NDArray[np.int64]
    voter: NDArray[np.int64]
    votes: NDArray[np.int64]
    log_odds: Floats
    """Of b, mean of the orders, as they were read: neither clamped nor shifted."""
    plain: Floats
    shifted: Floats
    consistent: Floats
    """1: both orders prefer the same answer. 0: they do not. NaN: there is one order."""


@dataclass(frozen=True, slots=True)
class Votes:
    """A run's pairs and voters, and a connection that has them as `pair` and `voter`."""

    connection: duckdb.DuckDBPyConnection
    run_id: str
    section: JudgeSection
    pairs: pa.Table
    """The run's preferences by id, so that no sum over pairs depends on which prompt ended first; a pair's place is its
    row."""
    perturbed: NDArray[np.bool_]
    names: list[tuple[str, str]]
    """Judge and principle of each voter, sorted."""
    weight: Floats
    """Of each voter."""

    @classmethod
    def read(
        cls, connection: duckdb.DuckDBPyConnection, run_id: str, section: JudgeSection, weights: Mapping[str, float]
    ) -> Votes:
        stored = "FROM preferences WHERE run_id = $run ORDER BY id"
        pairs = connection.sql(stored, params={"run": run_id}).to_arrow_table()
        places = pa.array(np.arange(len(pairs)))
        columns = {name: pairs.column(name) for name in ("id", "prompt_id", "b_id")}
        connection.register("pair", pa.table({**columns, "place": places}))
        distinct = "SELECT DISTINCT judge, principle_id, method FROM judgements WHERE run_id = $run ORDER BY ALL"
        voters = connection.sql(distinct, params={"run": run_id}).to_arrow_table()
        orders = pa.array([len(ORDERS[method]) for method in voters.column("method").to_pylist()], pa.int64())
        numbers = pa.array(np.arange(len(voters)))
        connection.register("voter", voters.append_column("orders", orders).append_column("voter", numbers))
        names = list(zip(voters.column("judge").to_pylist(), voters.column("principle_id").to_pylist(), strict=True))
        perturbed = array(pc.equal(pairs.column("kind"), "perturbation")).astype(bool)
        return cls(connection, run_id, section, pairs, perturbed, names, np.array([weights[name] for _, name in names]))

    def ask(self, query: str, **settings: Any) -> dict[str, NDArray[Any]]:
        found = self.connection.sql(query, params={"run": self.run_id, **settings}).to_arrow_table()
        return {name: array(found.column(name)) for name in found.column_names}

    def couples(self, given: pa.Table) -> Couples:
        """The complete ones. given: as GIVEN says."""
        self.connection.register("given", given)
        low, high = self.section.clamp
        return Couples(**self.ask(_COUPLES, low=low, high=high, mass=self.section.min_label_mass))

    def column(self, name: str) -> NDArray[Any]:
        return array(self.pairs.column(name))


def array(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Of numbers with nulls as NaN; of text as objects."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    found: NDArray[Any] = whole.to_numpy(zero_copy_only=False)
    return found


def side(p_b: Floats) -> NDArray[np.int64]:
    """1: b is preferred, -1: a, 0: neither, as in `label_pair`."""
    found: NDArray[np.int64] = np.where(np.abs(p_b - 0.5) < 1e-12, 0, np.where(p_b > 0.5, 1, -1))
    return found
