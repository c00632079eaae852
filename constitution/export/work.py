"""An export at work: its candidates as tables of a private database, and the one way to leave a row out.

    export.candidates   one row per candidate, made once by `candidates`:
        id            preferences.id (dpo, reward, robust), responses.id (kto, sft), prompts.id (grpo)
        prompt_id
        place         0, 1, 2 …: the order of the run's prompts, and within a prompt that of the rows' ids
        conversation  digest of the prompt's messages, which a prompt that is asked again shares
        tags          of the prompt
        answer_id     responses.id of the answer to be learnt (chosen; of kto and sft the answer); null: grpo
        other_id      responses.id of the rejected answer; null: not a pair
        p             pairs: probability that `answer_id` is the better one; kto: the answer's score; else null
        and, for --where, columns of what the format is made of: of pairs those of preferences (with --principles as
        these principles' votes make them) and the later answer's kind and round; of sft and kto those of responses but
        the texts; of all the prompt's source and number of turns
    export.fates        id, drop_reason, drop_detail: the candidates that were left out, each once
    export.alive        view: candidates without a fate
    export.texts        view: id, place, prompt_id, messages, user_text (all user turns, a blank line between), answer,
                        other of those alive

The warehouse's views (prompts, responses, couples …) have the rows of this run alone.

A step is a function of Work: it finds rows among those alive and drops them with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from constitution.export.settings import Settings
from constitution.records import Run
from constitution.warehouse import views

BATCH = 2048
FATE = pa.schema([pa.field("id", pa.string()), pa.field("drop_detail", pa.string())])


@dataclass(frozen=True)
class Work:
    root: Path
    run: Run
    settings: Settings
    connection: duckdb.DuckDBPyConnection

    def drop(self, reason: str, sql: str) -> int:
        """Leaves out the rows that `sql` finds, which has columns id and drop_detail (text or null); of rows that are
        not alive, or found twice, nothing changes. Returns how many."""
        rows = f"SELECT id, any_value(drop_detail) AS drop_detail FROM ({sql}) GROUP BY id"
        insert = f"INSERT INTO export.fates SELECT id, ?, drop_detail FROM ({rows}) SEMI JOIN export.alive USING (id)"
        ((count,),) = self.connection.execute(insert, [reason]).fetchall()
        return int(count)

    def drop_found(self, reason: str, found: Iterable[tuple[str, str | None]]) -> int:
        """The same for pairs of id and detail that Python found."""
        rows = list(found)
        table = (
            pa.Table.from_arrays([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=FATE)
            if rows
            else FATE.empty_table()
        )
        self.connection.register("found_rows", table)
        try:
            return self.drop(reason, "SELECT id, drop_detail FROM found_rows")
        finally:
            self.connection.unregister("found_rows")

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The answer in batches of at most 2,048 rows, by a cursor of its own: the connection may be used meanwhile."""
        cursor = self.connection.cursor()
        try:
            views.look(cursor, self.root, self.run.run_id)
            yield from cursor.sql(sql).to_arrow_reader(BATCH)
        finally:
            cursor.close()
