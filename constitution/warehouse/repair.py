"""What rests on rows that are gone is taken out, so that the run makes it again; what is taken out is kept aside.

A revision rests on all earlier rounds of its chain, a perturbation on the answer that it spoils, a reference on the
answers that it is made from, a vote on both answers, a label on both answers and their rewards and on all its votes, a
reading for a reward on its answer, a reward, or a check of a reference, on its answer and on all its readings, an item
of a rubric on the answers that it was written from and on all the other items of its prompt, and what was read by it on
it. A later turn of a scripted conversation rests, with all its rows, on the whole chains of those before it. A prompt
that lost an answer (or may have lost its last one, since its chain is short) also loses its final failures and what was
said of it afterwards: they may be about other words. Whatever rests on nothing that is gone stays, and is not paid for
again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from constitution.errors import WarehouseError
from constitution.records import Run
from constitution.warehouse import checksums, files, turns
from constitution.warehouse.columns import Table
from constitution.warehouse.damage import INPUT, ROWS, Damage, folder_of, quarantine, quarantine_part
from constitution.warehouse.schema import TABLES
from constitution.warehouse.tally import over

NOTES = ("annotations", "counterfactuals")
"""What is said of answers afterwards."""

BATCH = 4096

_GONE = """
CREATE TEMP TABLE gone_responses AS
WITH chain AS (
    SELECT
        id, prompt_id, round,
        row_number() OVER (PARTITION BY prompt_id ORDER BY round) - 1 + getvariable('from_sample')::INTEGER AS place
    FROM responses WHERE kind IN ('initial', 'revision')
),
late AS (SELECT id, prompt_id FROM chain WHERE round > place),
-- What was shown to the writer of an answer, or revised, is there, or the answer is gone too.
blind AS (
    SELECT id, prompt_id FROM (SELECT id, prompt_id, unnest(seen_ids) AS seen FROM responses)
    WHERE seen NOT IN (SELECT id FROM responses)
),
-- All rounds of a chain rest on the sample that it started from.
startless AS (
    SELECT id, prompt_id FROM responses WHERE kind = 'revision' AND prompt_id IN (
        SELECT prompt_id FROM responses
        WHERE kind = 'revision' AND round = 1 AND getvariable('from_sample')
            AND (parent_id NOT IN (SELECT id FROM responses) OR parent_id IN (SELECT id FROM blind))
    )
),
lost AS (FROM late UNION FROM blind UNION FROM startless),
kept AS (SELECT id FROM responses WHERE kind NOT IN ('perturbation', 'reference') AND id NOT IN (SELECT id FROM lost))
FROM lost
UNION ALL
SELECT id, prompt_id FROM responses WHERE kind IN ('perturbation', 'reference') AND parent_id NOT IN (FROM kept);

CREATE TEMP TABLE gone_prompts AS
WITH whole AS (
    SELECT prompt_id AS id FROM responses ANTI JOIN gone_responses USING (id)
    WHERE kind IN ('initial', 'revision')
    GROUP BY ALL HAVING count(*) + getvariable('from_sample')::INTEGER > getvariable('rounds')
),
-- Also where the row of one of those turns is gone itself.
rows_of AS (
    SELECT prompt_id FROM responses
    UNION SELECT prompt_id FROM judgements
    UNION SELECT prompt_id FROM preferences
    UNION SELECT prompt_id FROM failures
)
SELECT q.id FROM prompts AS q
LEFT JOIN (FROM prompts SEMI JOIN whole USING (id)) AS e
    ON e.conversation_id = q.conversation_id AND e.turn < q.turn
WHERE q.turn > 1 AND getvariable('answers_gone')
GROUP BY q.id, q.turn HAVING count(e.id) < q.turn - 1
UNION ALL
SELECT prompt_id FROM rows_of
WHERE prompt_id NOT IN (SELECT id FROM prompts) AND getvariable('answers_gone') AND getvariable('scripted');

INSERT INTO gone_responses
SELECT id, prompt_id FROM responses ANTI JOIN gone_responses USING (id) WHERE prompt_id IN (FROM gone_prompts);

CREATE TEMP TABLE answers AS SELECT id FROM responses ANTI JOIN gone_responses USING (id);

CREATE TEMP TABLE gone_judgements AS
SELECT id, prompt_id, pair_id FROM judgements
WHERE first_id NOT IN (FROM answers) OR second_id NOT IN (FROM answers);

CREATE TEMP TABLE read AS
SELECT response_id, metric AS source, count(*) AS readings FROM scores WHERE scorecard = '' GROUP BY ALL;

CREATE TEMP TABLE gone_reference_checks AS
SELECT c.id, c.prompt_id, c.response_id NOT IN (FROM answers) AS dangles
FROM reference_checks AS c LEFT JOIN read AS r ON r.response_id = c.response_id AND r.source = 'reference'
WHERE dangles OR coalesce(r.readings, 0) < c.readings + c.missing;
CREATE TEMP TABLE ruled AS
SELECT prompt_id FROM rubrics GROUP BY prompt_id HAVING count(*) = max(items)
EXCEPT SELECT prompt_id FROM (SELECT prompt_id, source, unnest(from_ids) AS seen FROM rubrics)
WHERE source IN ('reference', 'contrast') AND seen NOT IN (FROM answers)
EXCEPT FROM gone_prompts;

CREATE TEMP TABLE gone_rubrics AS SELECT id, prompt_id FROM rubrics WHERE prompt_id NOT IN (FROM ruled);

CREATE TEMP TABLE gone_rewards AS
SELECT w.id, w.prompt_id, w.response_id NOT IN (FROM answers) AS dangles
FROM rewards AS w LEFT JOIN read AS r USING (response_id, source)
WHERE w.source NOT IN ('votes', 'model') AND (
    dangles OR coalesce(r.readings, 0) < w.readings + w.missing
    OR w.source = 'prompt-rubric' AND getvariable('rubrics_gone') AND w.prompt_id NOT IN (FROM ruled)
    OR w.source = 'match' AND w.reason IS DISTINCT FROM 'no-reference' AND w.reason IS DISTINCT FROM 'no-text'
    AND w.prompt_id NOT IN (SELECT prompt_id FROM reference_checks ANTI JOIN gone_reference_checks USING (id))
);

CREATE TEMP TABLE gone_preferences AS
WITH cast_votes AS (
    SELECT pair_id, count(*) AS votes FROM judgements ANTI JOIN gone_judgements USING (id) GROUP BY ALL
),
rewarded AS (SELECT response_id FROM rewards ANTI JOIN gone_rewards USING (id) WHERE source = getvariable('source'))
SELECT p.id, p.prompt_id, p.a_id NOT IN (FROM answers) OR p.b_id NOT IN (FROM answers) AS dangles
FROM preferences AS p LEFT JOIN cast_votes AS c ON c.pair_id = p.id
WHERE dangles OR coalesce(c.votes, 0) < p.votes + p.votes_missing
OR getvariable('source') IS NOT NULL AND (
    p.a_id NOT IN (FROM rewarded) OR p.kind <> 'perturbation' AND p.b_id NOT IN (FROM rewarded)
);

-- Rewards by votes rest on all labels of their prompt, and those by a reward model on the scores of all answers: one
-- of these may be gone without a trace, and to make the rewards again asks no model.
INSERT INTO gone_rewards
SELECT id, prompt_id, response_id NOT IN (FROM answers) FROM rewards WHERE source IN ('votes', 'model');

CREATE TEMP TABLE touched AS
SELECT prompt_id FROM gone_responses
UNION FROM gone_prompts
UNION SELECT prompt_id FROM gone_judgements
UNION SELECT prompt_id FROM gone_preferences WHERE dangles
UNION SELECT prompt_id FROM gone_rewards WHERE dangles
UNION SELECT prompt_id FROM gone_reference_checks WHERE dangles
UNION
SELECT prompt_id
FROM (
    SELECT prompt_id, kind IN ('initial', 'revision', 'sample') AS answers FROM responses
    UNION ALL SELECT prompt_id, false FROM judgements
    UNION ALL SELECT prompt_id, false FROM preferences
    UNION ALL SELECT prompt_id, false FROM failures
)
WHERE getvariable('answers_gone')
GROUP BY prompt_id HAVING count(*) FILTER (answers) < getvariable('answers');

CREATE TEMP TABLE gone_failures AS
SELECT id FROM failures WHERE NOT retryable AND prompt_id IN (FROM touched) OR prompt_id IN (FROM gone_prompts)
OR NOT retryable AND split_part(step, '-', 1) = 'rubric' AND getvariable('rubrics_gone')
    AND prompt_id NOT IN (FROM ruled);

-- What was read for rewards is of the very answer; a scorecard's may be of other words.
CREATE TEMP TABLE gone_scores AS
SELECT id FROM scores
WHERE CASE WHEN scorecard <> '' THEN prompt_id IN (FROM touched)
    ELSE response_id NOT IN (FROM answers) OR rubric_id IS NOT NULL AND prompt_id NOT IN (FROM ruled) END;
"""


def repair(root: Path, run: Run, found: Iterable[Damage]) -> None:
    """Quarantines what was found damaged, and what rests on it, holding the run's lock and with no Writer open. Killed
    at any moment, it can be done again: the sums name a part until all that is done."""
    run_id = run.run_id
    damages = [damage for damage in found if damage.table in TABLES]
    for damage in damages:
        quarantine_part(root, run_id, damage)
    _take_out_what_rests(root, run, {damage.table for damage in damages})
    for damage in damages:
        # Those of the input are missed until they are written again.
        if damage.table not in INPUT:
            folder = folder_of(root, damage.table, run_id)
            with files.storing(folder):
                checksums.forget(folder, [damage.path.name])


def _answers(run: Run) -> int:
    """That a prompt ends with, of its chain and its samplers."""
    rounds = int(run.recipe.get("revise", {}).get("rounds", 0))
    samples = sum(int(each["n"]) for each in run.recipe.get("sample", {}).values())
    return samples + (rounds + 1 - _from_sample(run) if rounds or not samples else 0)


def _from_sample(run: Run) -> bool:
    """Whether its chains start from samples."""
    return bool(run.recipe.get("revise", {}).get("start") == "best")


def _take_out_what_rests(root: Path, run: Run, damaged: set[str]) -> None:
    tables = (*ROWS, "scores")
    if damaged.isdisjoint(tables):
        return
    run_id, scripted = run.run_id, turns.scripted(run)
    there = {table: files.parts(folder_of(root, table, run_id)) for table in ("prompts", *tables)}
    if not scripted:  # then they have no part in it
        there["prompts"] = []
    try:
        with over(root, there) as connection:
            connection.execute("SET VARIABLE answers = ?", [_answers(run)])
            connection.execute("SET VARIABLE rounds = ?", [int(run.recipe.get("revise", {}).get("rounds", 0))])
            connection.execute("SET VARIABLE source = ?", [(run.recipe.get("reward") or {}).get("by", [None])[0]])
            connection.execute("SET VARIABLE from_sample = ?", [_from_sample(run)])
            connection.execute("SET VARIABLE scripted = ?", [scripted])
            connection.execute("SET VARIABLE answers_gone = ?", ["responses" in damaged])
            connection.execute("SET VARIABLE rubrics_gone = ?", [bool(damaged & {"responses", "rubrics"})])
            connection.execute(_GONE)
            gone = {table: connection.sql(f"SELECT id FROM gone_{table}").to_arrow_table().column(0) for table in there}
            touched = connection.sql("FROM touched").to_arrow_table().column(0)
    except duckdb.Error as error:
        raise WarehouseError(f"{root}: run {run_id} cannot be read: {str(error).splitlines()[0]}") from error
    # What rests on others first: a kill in between leaves nothing that has lost what it rests on.
    for table in NOTES:
        _take_out(root, table, run_id, "prompt_id", touched)
    for table in (
        *("failures", "preferences", "rewards", "reference_checks", "scores", "rubrics", "judgements", "responses"),
        "prompts",
    ):
        _take_out(root, table, run_id, "id", gone[table])


def _take_out(root: Path, table: str, run_id: str, column: str, values: pa.ChunkedArray) -> None:
    """Moves the rows whose `column` has one of `values` to the quarantine, part by part, each in one step."""
    import pyarrow.compute as pc

    for path in files.parts(folder_of(root, table, run_id)) if len(values) else ():
        with files.storing(path):
            found = pc.sum(pc.is_in(pq.read_table(path, columns=[column], partitioning=None)[column], values)).as_py()
        if found:
            aside = quarantine(root, table, f"{run_id}-rows")
            _split(TABLES[table], path, aside, column, values)


def _split(table: Table, path: Path, aside: Path, column: str, values: pa.ChunkedArray) -> None:
    import pyarrow.compute as pc

    with files.storing(aside):
        files.sweep(aside)  # what a repair that was killed here left
    with (
        files.replacing(path, part=True) as kept,  # done last: until then the rows are in both places
        files.new_part(aside) as (_, taken),
        pq.ParquetFile(path) as source,
        table.writer(taken) as gone,
        table.writer(kept) as stays,
    ):
        for batch in source.iter_batches(batch_size=BATCH):
            rows = pa.Table.from_batches([batch], table.schema)
            mask = pc.is_in(rows[column], values)
            gone.write_table(rows.filter(mask))
            stays.write_table(rows.filter(pc.invert(mask)))
