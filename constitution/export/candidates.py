"""The candidates of an export, laid out once as tables, and those among them that its filters leave out.

    work = lay(connection, root, run, constitution, settings)
    choose(work)

Reasons, the first that holds: the pipeline's own as they are in `preferences` (probe, empty, identical, cut, refused,
filtered, votes-missing, tie, margin; of single answers empty, cut, refused, filtered), and then round, principle,
min-margin, min-agreement, inconsistent, where.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa

from constitution import sandbox
from constitution.errors import InputError, QueryError
from constitution.export.settings import PAIRS, Settings
from constitution.export.work import Work
from constitution.identity import row_id
from constitution.labels import judge_settings
from constitution.principles.selection import select
from constitution.records import FIXED_DROPS, HELD_BACK, Constitution, Principle, Run
from constitution.warehouse.query import FUNCTIONS

# Of a prompt that is asked again, the conversation is the id that it would have had the first time.
_PROMPTS = """
CREATE SCHEMA export;
CREATE TABLE export.asked AS
SELECT
    id AS prompt_id, (row_number() OVER (ORDER BY slice, position) - 1)::BIGINT AS nth,
    coalesce(again.conversation, id) AS conversation, tags, source, turns
FROM prompts LEFT JOIN again USING (id)
"""

# The labels that the chosen principles' votes make, as labels/ makes them of all: couples averaged by weight.
_RELABELLED = """
CREATE TABLE export.labelled AS
WITH cast_votes AS (
    SELECT
        p.id AS pair_id, j.judge || '/' || j.principle_id AS name, w.weight, j.method, j.first_id = p.b_id AS b_first,
        CASE WHEN j.method = 'rationale' THEN least(greatest(j.p_first, $low), $high) ELSE j.p_first END AS p_first
    FROM judgements AS j
    JOIN preferences AS p ON p.id = j.pair_id
    JOIN chosen_principles AS w USING (principle_id)
    WHERE j.label_mass >= $least_mass
),
orders AS (
    SELECT
        pair_id, name, any_value(weight) AS weight, any_value(method) AS method, count(*) AS votes,
        1 - avg(p_first ORDER BY p_first) FILTER (NOT b_first) AS p_ab,
        avg(p_first ORDER BY p_first) FILTER (b_first) AS p_ba
    FROM cast_votes GROUP BY pair_id, name
),
said AS (
    SELECT *, coalesce((p_ab + p_ba) / 2, p_ab) AS p_b
    FROM orders WHERE p_ab IS NOT NULL AND (p_ba IS NOT NULL OR method IN ('score', 'rubric'))
),
means AS (
    -- In the order of the names and rounded, so that no last bit depends on which thread read first.
    SELECT pair_id, round(sum(weight * p_b ORDER BY name) / sum(weight ORDER BY name), 12) AS p_b
    FROM said GROUP BY pair_id
),
labels AS (
    SELECT
        s.pair_id, any_value(m.p_b) AS p_b, sum(s.votes)::INTEGER AS votes,
        avg((side(s.p_ab) = side(s.p_ba))::INTEGER) FILTER (s.p_ba IS NOT NULL) AS consistency,
        avg((side(s.p_b) = side(m.p_b))::INTEGER) AS agreement,
        count(*) FILTER (side(s.p_b) = 0)::INTEGER AS ties,
        coalesce(list(s.name ORDER BY s.name) FILTER (side(s.p_b) * side(m.p_b) < 0), []) AS dissent
    FROM said AS s JOIN means AS m USING (pair_id) GROUP BY s.pair_id
)
SELECT * REPLACE (
    l.p_b AS p_b, l.p_b AS p_mean, coalesce(l.votes, 0) AS votes,
    l.consistency AS consistency, l.agreement AS agreement, coalesce(l.ties, 0) AS ties,
    coalesce(l.dissent, []) AS dissent, 'mean' AS label_by,
    CASE WHEN l.p_b < 0.5 THEN a_id ELSE b_id END AS chosen_id,
    CASE WHEN l.p_b < 0.5 THEN b_id ELSE a_id END AS rejected_id,
    greatest(l.p_b, 1 - l.p_b) AS p_chosen,
    CASE
        WHEN drop_reason IN {fixed} THEN drop_reason
        WHEN l.p_b IS NULL THEN 'votes-missing'
        WHEN side(l.p_b) = 0 THEN 'tie'
        WHEN greatest(l.p_b, 1 - l.p_b) < 0.5 + $margin THEN 'margin'
    END AS drop_reason
)
FROM preferences AS p LEFT JOIN annotations AS l ON l.pair_id = p.id
"""

_PAIR_CANDIDATES = """
CREATE TABLE export.candidates AS
SELECT
    p.id, p.prompt_id, (row_number() OVER (ORDER BY q.nth, p.id) - 1)::BIGINT AS place,
    coalesce(q.conversation, p.prompt_id) AS conversation, coalesce(q.tags, []) AS tags, p.chosen_id AS answer_id,
    p.rejected_id AS other_id, p.p_chosen AS p,
    p.kind, p.a_id, p.b_id, p.p_b, p.votes, p.votes_missing, p.consistency, p.agreement, p.label_mass, p.drop_reason,
    p.gold_id, p.p_mean, p.label_by, p.ties, p.dissent, p.drop_reason IS NULL AS kept, p.chosen_id, p.rejected_id,
    p.p_chosen, b.kind AS answer_kind, b.round, q.source, q.turns
FROM export.labelled AS p
LEFT JOIN export.asked AS q USING (prompt_id)
LEFT JOIN (SELECT id, kind, round FROM responses) AS b ON b.id = p.b_id
"""

_ANSWER_CANDIDATES = """
CREATE TABLE export.candidates AS
WITH answer AS (
    SELECT
        id, prompt_id, kind, round, outcome, w.text_outcome, refuses, model, family, parent_id, principle_id,
        critique_outcome, finish_reason, completion_tokens, kind IN ('initial', 'revision') AS in_chain,
        -- As revise.last_answer finds it.
        coalesce(
            max(round) FILTER (in_chain AND text <> '' AND outcome NOT IN {held}) OVER of_prompt,
            max(round) FILTER (in_chain AND text <> '') OVER of_prompt
        ) AS last_round
    FROM responses JOIN (SELECT id, text_outcome FROM written) AS w USING (id)
    WHERE kind <> 'variant' WINDOW of_prompt AS (PARTITION BY prompt_id)
)
SELECT
    r.id, r.prompt_id, (row_number() OVER (ORDER BY q.nth, r.id) - 1)::BIGINT AS place,
    coalesce(q.conversation, r.prompt_id) AS conversation, coalesce(q.tags, []) AS tags, r.id AS answer_id,
    NULL::VARCHAR AS other_id, s.score AS p, s.score, s.readings,
    r.* EXCLUDE (id, prompt_id), nullif(r.text_outcome, 'ok') AS drop_reason, q.source, q.turns
FROM answer AS r
{scored} JOIN export.scored AS s ON s.response_id = r.id
LEFT JOIN export.asked AS q USING (prompt_id)
"""

_PROMPT_CANDIDATES = """
CREATE TABLE export.candidates AS
SELECT
    prompt_id AS id, prompt_id, nth AS place, conversation, tags, NULL::VARCHAR AS answer_id,
    NULL::VARCHAR AS other_id, NULL::DOUBLE AS p, source, turns, NULL::VARCHAR AS drop_reason
FROM export.asked
"""

# Readings of an answer by itself, the mean of its principles by weight.
_SCORES = """
CREATE TABLE export.scored AS
WITH read AS (
    SELECT first_id AS response_id, judge, principle_id, method, read_first AS reading
    FROM judgements WHERE read_first IS NOT NULL AND label_mass >= $least_mass
    UNION ALL
    SELECT second_id, judge, principle_id, method, read_second
    FROM judgements WHERE read_second IS NOT NULL AND label_mass >= $least_mass
),
valued AS (
    SELECT
        r.response_id, r.judge, r.principle_id, w.weight,
        reading_value(r.method, r.reading, w.criteria) AS value
    FROM read AS r LEFT JOIN chosen_principles AS w USING (principle_id)
),
means AS (
    SELECT response_id, judge, principle_id, weight, avg(value ORDER BY value) AS value, count(*) AS readings
    FROM valued GROUP BY ALL
)
SELECT
    response_id, sum(readings) FILTER (weight IS NOT NULL)::INTEGER AS readings,
    round(sum(weight * value ORDER BY judge, principle_id) / sum(weight ORDER BY judge, principle_id), 12) AS score
FROM means GROUP BY response_id
"""

_FATES = """
CREATE TABLE export.fates (id VARCHAR, drop_reason VARCHAR, drop_detail VARCHAR);
CREATE VIEW export.alive AS SELECT * FROM export.candidates ANTI JOIN export.fates USING (id)
"""

# A skipped or unchanged revision has the text of an answer before it, and so what was thought before that one.
_MADE = """
LEFT JOIN written AS {0}_written ON {0}_written.id = c.{0}_id
LEFT JOIN (SELECT id, reasoning FROM responses) AS {0}_made ON {0}_made.id = {0}_written.written_id
"""

_TEXTS = """
CREATE VIEW export.texts AS
SELECT
    c.id, c.place, c.prompt_id, q.messages,
    array_to_string(list_transform(list_filter(q.messages, lambda m: m.role = 'user'), lambda m: m.content), chr(10)
        || chr(10)) AS user_text,
    {answer} AS answer, {other} AS other, {answer_thought} AS answer_thought, {other_thought} AS other_thought
FROM {joined}
JOIN prompts AS q ON q.id = c.prompt_id
"""


def lay(
    connection: duckdb.DuckDBPyConnection, root: Path, run: Run, constitution: Constitution, settings: Settings
) -> Work:
    """Makes the tables that work.py describes, on a connection to the warehouse in `root`.

    Raises InputError where the run has nothing that the format could be made of.
    """
    work = Work(root, run, settings, connection)
    _number_prompts(work)
    if settings.format in PAIRS:
        _lay_pairs(work, constitution)
    elif settings.format == "grpo":
        select(constitution.principles, settings.principles, f"--principles ({constitution.label})")
        connection.execute(_PROMPT_CANDIDATES)
    else:
        _lay_answers(work, constitution)
    if not connection.execute("SELECT 1 FROM export.candidates LIMIT 1").fetchall():
        raise _nothing(work)
    _run_all(connection, _FATES)
    joined = "responses AS a JOIN export.alive AS c ON a.id = c.answer_id"
    if settings.format in PAIRS:
        joined += " JOIN responses AS o ON o.id = c.other_id"
    if settings.format == "grpo":
        joined = "export.alive AS c"
    answer, other = ("NULL::VARCHAR" if f" AS {name} " not in f" {joined} " else f"{name}.text" for name in ("a", "o"))
    thoughts = {f"{name}_thought": "NULL::VARCHAR" for name in ("answer", "other")}
    if settings.with_reasoning:
        thoughts = {f"{name}_thought": f"{name}_made.reasoning" for name in ("answer", "other")}
        joined += "".join(map(_MADE.format, ("answer", "other")))
    connection.execute(_TEXTS.format(answer=answer, other=other, joined=joined, **thoughts))
    return work


def choose(work: Work) -> None:
    """Leaves out what the pipeline dropped and what the settings filter."""
    settings, pairs = work.settings, work.settings.format in PAIRS
    for (reason,) in work.connection.execute(
        "SELECT DISTINCT drop_reason FROM export.candidates WHERE drop_reason IS NOT NULL ORDER BY ALL"
    ).fetchall():
        work.drop(reason, _where(f"drop_reason = {sandbox.quoted(reason)}"))
    if round_ := _round(settings):
        work.drop("round", _where(f"NOT coalesce({round_}, false)"))
    if settings.format == "sft" and settings.principles:
        work.drop(
            "principle",
            _where("principle_id IS NULL OR principle_id NOT IN (SELECT principle_id FROM chosen_principles)"),
        )
    if settings.format == "kto":
        work.drop("principle", _where("p IS NULL"))
    if pairs and settings.min_margin:
        work.drop("min-margin", _where(f"p < 0.5 + {settings.min_margin!r}"))
    if pairs and settings.min_agreement:
        work.drop("min-agreement", _where(f"coalesce(agreement, 0) < {settings.min_agreement!r}"))
    if pairs and settings.consistent_only:
        work.drop("inconsistent", _where("consistency < 1"))
    if settings.where.strip():
        _drop_elsewhere(work, settings.where)


def _number_prompts(work: Work) -> None:
    again = [
        (row["id"], row_id([[message["role"], message["content"]] for message in row["messages"]]))
        for batch in work.batches("SELECT id, messages FROM prompts WHERE repeat > 0")
        for row in batch.to_pylist()
    ]
    ids, conversations = zip(*again, strict=True) if again else ((), ())
    work.connection.register(
        "again", pa.table({"id": pa.array(ids, pa.string()), "conversation": pa.array(conversations, pa.string())})
    )
    _run_all(work.connection, _PROMPTS)
    work.connection.unregister("again")


def _lay_pairs(work: Work, constitution: Constitution) -> None:
    if not work.settings.principles:
        work.connection.execute("CREATE TABLE export.labelled AS FROM preferences")
    else:
        judging = [principle for principle in constitution.principles if principle.compares]
        _register(work, select(judging, work.settings.principles, f"--principles ({constitution.label})"))
        judge = judge_settings(work.run)
        low, high = judge.get("clamp") or (0.4, 0.6)
        numbers = {"margin": judge.get("margin"), "least_mass": judge.get("min_label_mass")}
        floats = {name: float(number or 0.0) for name, number in numbers.items()}
        work.connection.execute(_RELABELLED.format(fixed=FIXED_DROPS), {"low": low, "high": high, **floats})
    work.connection.execute(_PAIR_CANDIDATES)


def _lay_answers(work: Work, constitution: Constitution) -> None:
    settings, connection = work.settings, work.connection
    chosen = select(constitution.principles, settings.principles, f"--principles ({constitution.label})")
    _register(work, chosen)
    if settings.format == "kto":
        connection.execute(_SCORES, {"least_mass": float(judge_settings(work.run).get("min_label_mass") or 0.0)})
    else:
        connection.execute(
            "CREATE TABLE export.scored AS SELECT '' AS response_id, 0 AS readings, 0.0::DOUBLE AS score WHERE false"
        )
    connection.execute(_ANSWER_CANDIDATES.format(scored="" if settings.format == "kto" else "LEFT", held=HELD_BACK))


def _register(work: Work, principles: tuple[Principle, ...]) -> None:
    """As the table chosen_principles: what their votes weigh, and their checklists."""
    rows = [
        {
            "principle_id": principle.id,
            "weight": principle.weight,
            "criteria": [{"good": each.good, "weight": each.weight} for each in principle.criteria],
        }
        for principle in principles
    ]
    criteria = pa.list_(pa.struct([("good", pa.string()), ("weight", pa.float64())]))
    schema = pa.schema([("principle_id", pa.string()), ("weight", pa.float64()), ("criteria", criteria)])
    work.connection.register("chosen_principles", pa.Table.from_pylist(rows, schema=schema))


def _round(settings: Settings) -> str:
    """The condition on a candidate's round; empty: any. Answers that came with the prompt are of none."""
    if isinstance(settings.rounds, tuple):
        rounds = ", ".join(map(str, settings.rounds)) or "NULL"
        kind = "kind" if settings.format == "sft" else "answer_kind"
        return f"{kind} <> 'sample' AND round IN ({rounds})"
    if settings.format == "sft" and settings.rounds == "last":
        return "in_chain AND round = last_round"
    return ""


def _where(condition: str) -> str:
    return f"SELECT id, NULL::VARCHAR AS drop_detail FROM export.alive WHERE {condition}"


def _drop_elsewhere(work: Work, where: str) -> None:
    """What the user's condition does not hold for. It may read, and nothing else."""
    chosen = f"SELECT id FROM export.candidates WHERE (\n{where}\n)"
    try:
        sandbox.check(work.connection, chosen, FUNCTIONS)
        chosen = sandbox.files_in(work.connection, chosen)
        work.drop(
            "where", f"SELECT id, NULL::VARCHAR AS drop_detail FROM export.alive ANTI JOIN (\n{chosen}\n) USING (id)"
        )
    except (QueryError, duckdb.Error) as error:
        columns = work.connection.execute("SELECT column_name FROM (DESCRIBE export.candidates)").fetchall()
        raise QueryError(
            f"--where {where!r}: {str(error).splitlines()[0]}",
            hint=f"a condition in SQL over {', '.join(name for (name,) in columns)}",
        ) from None


def _nothing(work: Work) -> InputError:
    run_id = work.run.run_id
    if work.settings.format == "kto":
        return InputError(
            f"{run_id}: kto needs a judgement of each answer by itself, and this run has none",
            hint='judge with judge.method = "score" or "rubric"; votes that compare answers leave as dpo or reward',
        )
    what = {"sft": "answers", "grpo": "prompts"}.get(work.settings.format, "preferences")
    return InputError(f"{run_id}: the run has no {what}", hint="`constitution runs` tells what each run has")


def _run_all(connection: duckdb.DuckDBPyConnection, statements: str) -> None:
    for statement in filter(str.strip, statements.split(";\n")):
        connection.execute(statement)
