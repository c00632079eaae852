"""An export at work: its candidates as tables of a private database, and the one way to drop a row.

    export.candidates   one row per candidate, made once by `candidates.lay`:
        id            preferences.id, responses.id or prompts.id, by the format's unit
        prompt_id
        place         0, 1, 2 …: the order of the run's prompts, and within a prompt that of the rows' ids
        conversation  digest of the prompt's messages, which a prompt that is asked again shares; of a scripted turn,
                      those of its conversation's first
        tags          of the prompt
        answer_id     responses.id of the answer to be learnt (of a pair the chosen one); null: prompts
        other_id      responses.id of the rejected answer; null: not a pair
        p             pairs: probability that `answer_id` is the better one; kto: the answer's score; else null
        and, for --where, columns of what the format is made of: of pairs those of preferences (with --principles as
        these principles' votes make them) and the later answer's kind and round; of answers those of responses but the
        texts; of all the prompt's source, number of turns (messages) and place in its script (`turn`); of runs with
        rewards what rewarded.py says
    export.seen         view: the candidates with the prompt's source_id and metadata, which --where is about
    export.dropped      id, drop_reason, drop_detail: each dropped candidate once
    export.alive        view: candidates that are not dropped
    export.texts        view: id, place, prompt_id, messages, user_text (all user turns, a blank line between), answer,
                        other, answer_thought, other_thought of those alive

The warehouse's views (prompts, responses …) have the rows of this run alone. A step is a function of Work: it finds
rows among those alive and drops them with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from constitution.export.reasons import Dropped
from constitution.export.settings import Settings
from constitution.labels.profiles import ProfileLabels
from constitution.records import Run
from constitution.warehouse import views

BATCH = 2048


@dataclass(frozen=True)
class Work:
    root: Path
    run: Run
    settings: Settings
    connection: duckdb.DuckDBPyConnection
    source: str | None = None
    """By what the rewards are; None: the run has none."""
    by_reward: bool = False
    """kto: scores are rewards, not what judges read of single answers for a label."""
    by_profile: ProfileLabels | None = None
    """The labels by the profile that the settings name; None: they name none."""

    def drop(self, reason: Dropped, sql: str, *values: object) -> None:
        """Drops the rows that `sql` finds, which has columns id and drop_detail (text or null); of rows that are not
        alive, or found twice, nothing changes. values: of its parameters."""
        rows = f"SELECT id, any_value(drop_detail) AS drop_detail FROM ({sql}) GROUP BY id"
        found = f"SELECT id, '{reason}', drop_detail FROM ({rows}) SEMI JOIN export.alive USING (id)"
        self.connection.execute(f"INSERT INTO export.dropped {found}", values)

    def drop_where(self, reason: Dropped, condition: str) -> None:
        """Drops the candidates of which the condition holds."""
        self.drop(reason, f"SELECT id, NULL::VARCHAR AS drop_detail FROM export.alive WHERE {condition}")

    def drop_found(self, reason: Dropped, found: Iterable[tuple[str, str | None]]) -> None:
        """Drops what Python found: pairs of id and detail."""
        ids, details = zip(*rows, strict=True) if (rows := list(found)) else ((), ())
        sql = "SELECT unnest(?::VARCHAR[]) AS id, unnest(?::VARCHAR[]) AS drop_detail"
        self.drop(reason, sql, list(ids), list(details))

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The answer in batches of at most 2,048 rows, by another cursor: the connection may be used meanwhile."""
        cursor = self.connection.cursor()
        try:
            views.look(cursor, self.root, self.run.run_id)
            yield from cursor.sql(sql).to_arrow_reader(BATCH)
        finally:
            cursor.close()
