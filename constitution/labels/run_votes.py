"""A run's votes as columns, from the warehouse's views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from constitution.labels.label import Rules
from constitution.labels.votes import AveragedVotes
from constitution.measures.estimate import Floats
from constitution.records import Method
from constitution.sandbox import quoted

_CONTROLLED = """
CREATE OR REPLACE TEMP VIEW controlled_votes AS
SELECT v.* REPLACE (least(greatest(CASE WHEN s.shift IS NULL OR s.shift = 0 THEN v.p_first
    ELSE 1 / (1 + exp((CASE WHEN v.b_first THEN 1 ELSE -1 END) * s.shift - {log_odds})) END, low), high)
    AS p_counted)
FROM counted_votes AS v LEFT JOIN label_shifts AS s ON s.pair_id = v.pair_id AND s.judge = v.judge
WHERE v.run_id = {run}
WINDOW drawn AS (PARTITION BY v.pair_id, v.judge, v.principle_id, v.b_first)
"""
_OF_SHARES = """CASE WHEN v.sampled THEN share_odds(avg(v.p_first) OVER drawn, count(*) OVER drawn)
    ELSE log_odds(v.p_first) END"""
"""A written verdict by itself is 0 or 1 and has no log-odds: it counts as the share of its judge's verdicts."""


@dataclass(frozen=True, slots=True)
class RunVotes:
    """A run's pairs and voters, and a connection that has them as `label_pairs` and `label_voters`."""

    connection: duckdb.DuckDBPyConnection
    run_id: str
    rules: Rules
    pairs: pa.Table
    """The run's preferences by id, so that no sum over pairs depends on which prompt ended first; a pair's place is its
    row."""
    perturbed: NDArray[np.bool_]
    """Pairs with an answer that was made worse on purpose: they teach nothing."""
    names: list[tuple[str, str]]
    """Judge and principle of each voter, sorted."""
    weight: Floats
    """A number for each voter."""

    @classmethod
    def read(
        cls, connection: duckdb.DuckDBPyConnection, run_id: str, rules: Rules, weights: Mapping[str, float]
    ) -> RunVotes:
        """weights: of the principles whose votes count."""
        stored = "FROM preferences WHERE run_id = $run ORDER BY id"
        pairs = connection.sql(stored, params={"run": run_id}).to_arrow_table()
        places = pa.array(np.arange(len(pairs)))
        columns = {name: pairs.column(name) for name in ("id", "prompt_id", "b_id")}
        connection.register("label_pairs", pa.table({**columns, "place": places}))
        asked = "SELECT DISTINCT judge, principle_id FROM judgements WHERE run_id = $run ORDER BY ALL"
        voters = connection.execute(asked, {"run": run_id}).fetchall()
        names = [(str(judge), str(principle)) for judge, principle in voters if principle in weights]
        judges, principles = (pa.array([name[part] for name in names], pa.string()) for part in (0, 1))
        numbers = pa.array(np.arange(len(names)))
        connection.register("label_voters", pa.table({"judge": judges, "principle_id": principles, "voter": numbers}))
        perturbed = array(pc.equal(pairs.column("kind"), "perturbation")).astype(bool)
        weight = np.array([weights[name] for _, name in names], dtype=np.float64)
        return cls(connection, run_id, rules, pairs, perturbed, names, weight)

    def ask(self, query: str) -> dict[str, NDArray[Any]]:
        """The columns of a query, in which `$run` is the run's id."""
        table = self.connection.sql(query, params={"run": self.run_id}).to_arrow_table()
        return {name: array(table.column(name)) for name in table.column_names}

    def methods(self) -> dict[str, Method]:
        """How each judge votes."""
        asked = "SELECT DISTINCT judge, method FROM judgements WHERE run_id = $run"
        return dict(self.connection.execute(asked, {"run": self.run_id}).fetchall())

    def averaged(self) -> tuple[AveragedVotes, Floats]:
        """As they are before any control; and their log-odds of b, as they were read."""
        return self._averaged("averaged_votes")

    def first(self) -> tuple[AveragedVotes, Floats]:
        """The same of the votes that were asked for whatever others said: what the votes' effects are told by."""
        return self._averaged("first_votes")

    def controlled(self, shifts: pa.Table) -> AveragedVotes:
        """The same, with log-odds for b taken out of each vote first: shifts (pair_id, judge, shift)."""
        self.connection.register("label_shifts", shifts)
        [sampled] = self.ask("SELECT count(*) AS n FROM counted_votes WHERE run_id = $run AND sampled")["n"]
        log_odds = _OF_SHARES if sampled else "log_odds(v.p_first)"
        self.connection.execute(_CONTROLLED.format(run=quoted(self.run_id), log_odds=log_odds))
        return self._averaged("averaged('controlled_votes')")[0]

    def _averaged(self, source: str) -> tuple[AveragedVotes, Floats]:
        columns = self.ask(
            f"""
            SELECT p.place, w.voter, v.votes, v.p_counted AS p, v.l_b,
                coalesce(v.consistent::INTEGER::DOUBLE, 'NaN'::DOUBLE) AS consistent,
                coalesce(v.trials, 'Infinity'::DOUBLE) AS trials
            FROM {source} AS v
            JOIN label_pairs AS p ON p.id = v.pair_id
            JOIN label_voters AS w ON w.judge = v.judge AND w.principle_id = v.principle_id
            WHERE v.run_id = $run ORDER BY p.place, w.voter
            """
        )
        log_odds = columns.pop("l_b")
        return AveragedVotes(**columns), log_odds

    def conversations(self) -> NDArray[Any]:
        """Whose turns share what was said before: `prompts.conversation_id` of each pair."""
        return self.ask(
            "SELECT coalesce(q.conversation_id, p.prompt_id) AS conversation FROM label_pairs AS p LEFT JOIN "
            "(SELECT id, conversation_id FROM prompts WHERE run_id = $run) AS q ON q.id = p.prompt_id ORDER BY place"
        )["conversation"]

    def column(self, name: str) -> NDArray[Any]:
        return array(self.pairs.column(name))


def array(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Numbers with nulls as NaN, texts as objects."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values: NDArray[Any] = whole.to_numpy(zero_copy_only=False)
    return values
