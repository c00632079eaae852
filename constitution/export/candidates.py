"""The candidates of an export, laid out once as tables, and those among them that its filters drop.

work = lay(connection, root, run, constitution, settings)
choose(work)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb

from constitution import sandbox
from constitution.errors import InputError, QueryError
from constitution.export.labelled import check_votes, choose_principles, relabel, relabel_by_profile, score, weighed
from constitution.export.reasons import Dropped
from constitution.export.rewarded import JOINED, choose_rewarded, lay_rewards
from constitution.export.settings import Settings
from constitution.export.work import Work
from constitution.identity import row_id
from constitution.principles.selection import select
from constitution.records import HELD_BACK, Constitution, Run
from constitution.warehouse.query import FUNCTIONS

# All turns of a script are one conversation; that of a prompt with a script, or asked again, is the id that its first
# turn would have had without.
_PROMPTS = """
CREATE TABLE export.asked AS
SELECT
    id AS prompt_id, (row_number() OVER (ORDER BY slice, position, turn) - 1)::BIGINT AS nth,
    coalesce(again.conversation, conversation_id, id) AS conversation, tags, source, turns, turn
FROM prompts
LEFT JOIN (
    SELECT unnest($ids::VARCHAR[]) AS conversation_id, unnest($conversations::VARCHAR[]) AS conversation
) AS again USING (conversation_id)
"""

_PAIR_CANDIDATES = """
CREATE TABLE export.candidates AS
SELECT
    p.id, p.prompt_id, (row_number() OVER (ORDER BY q.nth, p.id) - 1)::BIGINT AS place,
    coalesce(q.conversation, p.prompt_id) AS conversation, coalesce(q.tags, []) AS tags, p.chosen_id AS answer_id,
    p.rejected_id AS other_id, p.p_chosen AS p,
    p.kind, p.a_id, p.b_id, p.p_b, p.votes, p.votes_missing, p.votes_spared, p.consistency, p.agreement, p.label_mass,
    p.drop_reason, p.gold_id, p.p_mean, p.p_low, p.p_high, p.label_by, p.ties, p.dissent, p.drop_reason IS NULL AS kept,
    p.chosen_id, p.rejected_id,
    p.p_chosen, b.kind AS answer_kind, b.round, q.source, q.turns, q.turn{columns}
FROM {labelled} AS p
{joined}
LEFT JOIN export.asked AS q USING (prompt_id)
LEFT JOIN (SELECT id, kind, round FROM responses) AS b ON b.id = p.b_id
"""

_ANSWER_CANDIDATES = """
CREATE TABLE export.candidates AS
WITH answer AS (
    SELECT
        id, prompt_id, kind, round, sampler, outcome, text_outcome, refuses, model, family, parent_id, principle_id,
        critique_outcome, finish_reason, completion_tokens, in_chain,
        CASE WHEN kind = 'sample' THEN 0 ELSE round END AS step,
        -- As revise.last_answer finds it.
        coalesce(
            max(step) FILTER (in_chain AND text <> '' AND outcome NOT IN {held}) OVER of_prompt,
            max(step) FILTER (in_chain AND text <> '') OVER of_prompt
        ) AS last_step
    FROM (SELECT *, {in_chain} AS in_chain FROM {answers}) WINDOW of_prompt AS (PARTITION BY prompt_id)
)
SELECT
    r.id, r.prompt_id, (row_number() OVER (ORDER BY q.nth, r.id) - 1)::BIGINT AS place,
    coalesce(q.conversation, r.prompt_id) AS conversation, coalesce(q.tags, []) AS tags, r.id AS answer_id,
    NULL::VARCHAR AS other_id, s.score AS p, s.score, s.readings,
    r.* EXCLUDE (id, prompt_id), nullif(r.text_outcome, 'ok') AS drop_reason, q.source, q.turns, q.turn{columns}
FROM answer AS r
{scored} AS s ON s.response_id = r.id
{joined}
LEFT JOIN export.asked AS q USING (prompt_id)
"""

# As the view answers has the others.
_REFERENCES = """(
    SELECT r.*, w.written_id, w.text_outcome FROM responses AS r JOIN written AS w USING (run_id, id)
    WHERE r.kind = 'reference'
)"""

IN_CHAIN = "{} IN ('initial', 'revision')"

_UNSCORED = "LEFT JOIN (SELECT '' AS response_id, 0 AS readings, 0.0::DOUBLE AS score WHERE false)"
_BY_REWARD = "JOIN (SELECT response_id, reward_readings AS readings, reward AS score FROM export.rewarded)"

_PROMPT_CANDIDATES = """
CREATE TABLE export.candidates AS
SELECT
    prompt_id AS id, prompt_id, nth AS place, conversation, tags, NULL::VARCHAR AS answer_id,
    NULL::VARCHAR AS other_id, NULL::DOUBLE AS p, source, turns, turn, NULL::VARCHAR AS drop_reason{columns}
FROM export.asked {joined}
"""

# A skipped or unchanged revision has the text of an answer before it, and so what was thought before that one.
_THOUGHT = """
LEFT JOIN written AS {0}_written ON {0}_written.id = c.{0}_id
LEFT JOIN (SELECT id, reasoning FROM responses) AS {0}_made ON {0}_made.id = {0}_written.written_id
"""

_ROLES = """
SELECT c.id, array_to_string(list_transform(q.messages, lambda m: m.role), ' ') AS drop_detail
FROM export.alive AS c JOIN prompts AS q ON q.id = c.prompt_id
WHERE NOT regexp_full_match(array_to_string(list_transform(q.messages, lambda m: m.role), ' '), {roles})
"""

_UNCHECKED = """
SELECT c.id, coalesce(k.drop_reason, 'not checked') AS drop_detail
FROM export.alive AS c LEFT JOIN checked_references AS k ON k.response_id = c.id WHERE NOT coalesce(k.kept, false)
"""

# What --where is about. Long texts are not kept with each candidate.
_SEEN = """
CREATE VIEW export.seen AS
SELECT c.*, q.source_id, q.metadata
FROM export.candidates AS c LEFT JOIN (SELECT id AS prompt_id, source_id, metadata FROM prompts) AS q USING (prompt_id)
"""

SIDES = ("answer", "other")

_TEXTS = """
CREATE VIEW export.texts AS
SELECT
    c.id, c.place, c.prompt_id, q.messages, q.source_id, q.metadata,
    array_to_string(list_transform(list_filter(q.messages, lambda m: m.role = 'user'), lambda m: m.content), chr(10)
        || chr(10)) AS user_text,
    {answer}, {other}, {thoughts}
FROM {joined}
JOIN prompts AS q ON q.id = c.prompt_id
"""


def lay(
    connection: duckdb.DuckDBPyConnection, root: Path, run: Run, constitution: Constitution, settings: Settings
) -> Work:
    """Makes the tables that work.py describes, on a connection to the warehouse in `root`.

    Raises InputError where the run has nothing that the format could be made of.
    """
    check_votes(run, settings)
    source = settings.source_of(run)
    work = Work(root, run, settings, connection, source, _by_reward(connection, settings, source))
    connection.execute("CREATE SCHEMA export")
    _number_prompts(work)
    unit = settings.spec.unit
    if settings.profile:
        work = replace(work, by_profile=relabel_by_profile(work, constitution))
    if source:
        lay_rewards(connection, source)
    principles = weighed(constitution, settings.profile).principles
    if unit == "pair":  # only principles that compare have votes on pairs
        principles = (
            tuple(principle for principle in principles if principle.compares)
            if settings.principles or settings.profile
            else ()
        )
    if principles or settings.principles:
        choose_principles(connection, select(principles, settings.principles, f"--principles ({constitution.label})"))
    if unit == "pair":
        if settings.principles:
            relabel(connection, run)
        labelled = "export.labelled" if settings.principles or settings.profile else "preferences"
        connection.execute(_PAIR_CANDIDATES.format(labelled=labelled, **_joined(work)))
    elif unit == "answer":
        scored = _BY_REWARD if work.by_reward else "JOIN export.scored" if settings.spec.scored else _UNSCORED
        if settings.spec.scored and not work.by_reward:
            score(connection)
        in_chain = IN_CHAIN.format("kind")
        if run.recipe.get("revise", {}).get("start") == "best":
            in_chain = f"({in_chain} OR id IN (SELECT parent_id FROM responses WHERE kind = 'revision'))"
        answers = _REFERENCES if settings.select == "reference" else "answers"
        parts = {"scored": scored, "held": HELD_BACK, "in_chain": in_chain, "answers": answers} | _joined(work)
        connection.execute(_ANSWER_CANDIDATES.format(**parts))
    else:
        connection.execute(_PROMPT_CANDIDATES.format(**_joined(work)))
    if not connection.execute("SELECT 1 FROM export.candidates LIMIT 1").fetchall():
        raise _nothing(work)
    connection.execute("CREATE TABLE export.dropped (id VARCHAR, drop_reason VARCHAR, drop_detail VARCHAR)")
    connection.execute(
        "CREATE VIEW export.alive AS SELECT * FROM export.candidates ANTI JOIN export.dropped USING (id)"
    )
    connection.execute(_SEEN)
    _view_texts(work)
    return work


def choose(work: Work) -> None:
    """Drops what the pipeline dropped and what the settings filter."""
    settings = work.settings
    recorded = "SELECT DISTINCT drop_reason FROM export.candidates WHERE drop_reason IS NOT NULL ORDER BY ALL"
    for (reason,) in work.connection.execute(recorded).fetchall():
        work.drop_where(Dropped(reason), f"drop_reason = {sandbox.quoted(reason)}")
    if settings.select == "reference":
        work.drop(Dropped.REFERENCE, _UNCHECKED)
    if round_ := _round(settings):
        work.drop_where(Dropped.ROUND, f"NOT coalesce({round_}, false)")
    if settings.spec.scored:
        work.drop_where(Dropped.NO_REWARD if work.by_reward else Dropped.PRINCIPLE, "p IS NULL")
    elif settings.spec.unit == "answer" and settings.principles:
        chosen = "SELECT principle_id FROM chosen_principles"
        work.drop_where(Dropped.PRINCIPLE, f"principle_id IS NULL OR principle_id NOT IN ({chosen})")
    # Settings that the format does not take are at their defaults.
    if settings.min_margin:
        work.drop_where(Dropped.MIN_MARGIN, f"p < 0.5 + {settings.min_margin!r}")
    if settings.min_agreement:
        work.drop_where(Dropped.MIN_AGREEMENT, f"coalesce(agreement, 0) < {settings.min_agreement!r}")
    if settings.consistent_only:
        work.drop_where(Dropped.INCONSISTENT, "consistency < 1")
    if settings.where.strip():
        _drop_elsewhere(work, settings.where)
    if settings.task.roles:
        work.drop(Dropped.LAYOUT, _ROLES.format(roles=sandbox.quoted(settings.task.roles)))
    choose_rewarded(work)


def _by_reward(connection: duckdb.DuckDBPyConnection, settings: Settings, source: str | None) -> bool:
    """prm; kto where rewards are asked for, or judges read no answer by itself for its label."""
    if not (settings.spec.scored or settings.spec.source) or not source:
        return False
    by_reward = (
        bool(settings.source or settings.spec.source)
        or not connection.execute("SELECT 1 FROM readings LIMIT 1").fetchall()
    )
    if by_reward and settings.principles:
        raise InputError(
            "--principles: the scores here are rewards, each made of all principles of the recipe's reward.principles",
            hint="leave it out",
        )
    return by_reward


def _joined(work: Work) -> dict[str, str]:
    """What joins rewards to the candidates, and their columns."""
    joined, columns = JOINED[work.settings.spec.unit]
    return {"joined": joined, "columns": f", {columns}"} if work.source else {"joined": "", "columns": ""}


def _number_prompts(work: Work) -> None:
    again = [
        (row["id"], row_id([[message["role"], message["content"]] for message in row["messages"]]))
        for batch in work.batches("SELECT id, messages FROM prompts WHERE turn = 1 AND (repeat > 0 OR len(script) > 0)")
        for row in batch.to_pylist()
    ]
    ids, conversations = zip(*again, strict=True) if again else ((), ())
    work.connection.execute(_PROMPTS, {"ids": list(ids), "conversations": list(conversations)})


def _view_texts(work: Work) -> None:
    sides = {"pair": ("answer", "other"), "answer": ("answer",), "prompt": ()}[work.settings.spec.unit]
    joined = "export.alive AS c"
    if sides:  # the texts first: their rows are many, and those alive fit into memory
        joined = "responses AS a JOIN export.alive AS c ON a.id = c.answer_id"
    if "other" in sides:
        joined += " JOIN responses AS o ON o.id = c.other_id"
    thinking = sides if work.settings.with_reasoning else ()
    joined += "".join(map(_THOUGHT.format, thinking))
    texts = {side: f"{side[0]}.text AS {side}" if side in sides else f"NULL::VARCHAR AS {side}" for side in SIDES}
    thoughts = ", ".join(
        f"{f'{side}_made.reasoning' if side in thinking else 'NULL::VARCHAR'} AS {side}_thought" for side in SIDES
    )
    work.connection.execute(_TEXTS.format(**texts, thoughts=thoughts, joined=joined))


def _round(settings: Settings) -> str:
    """The condition on a candidate's round; empty: any. Answers that came with the prompt are of none."""
    answers = settings.spec.unit == "answer"
    if isinstance(settings.rounds, tuple):
        rounds = ", ".join(map(str, settings.rounds)) or "NULL"
        chosen = "in_chain AND step" if answers else f"{IN_CHAIN.format('answer_kind')} AND round"
        return f"{chosen} IN ({rounds})"
    if (
        answers
        and "rounds" in settings.spec.settings
        and settings.rounds == "last"
        and not (settings.selects or settings.select)
    ):
        return "in_chain AND step = last_step"
    return ""


def _drop_elsewhere(work: Work, where: str) -> None:
    """What the user's condition does not hold for. It may read, and nothing else."""
    chosen = f"SELECT id FROM export.seen WHERE (\n{where}\n)"
    try:
        sandbox.check(work.connection, chosen, FUNCTIONS)
        chosen = sandbox.files_in(work.connection, chosen)
        work.drop(
            Dropped.WHERE,
            f"SELECT id, NULL::VARCHAR AS drop_detail FROM export.alive ANTI JOIN (\n{chosen}\n) USING (id)",
        )
    except (QueryError, duckdb.Error) as error:
        columns = work.connection.execute("SELECT column_name FROM (DESCRIBE export.seen)").fetchall()
        raise QueryError(
            f"--where {where!r}: {str(error).splitlines()[0]}",
            hint=f"a condition in SQL over {', '.join(name for (name,) in columns)}",
        ) from None


def _nothing(work: Work) -> InputError:
    run_id = work.run.run_id
    if work.settings.spec.scored:
        return InputError(
            f"{run_id}: {work.settings.format} needs a judgement of each answer by itself, and this run has none",
            hint='judge with judge.method = "score" or "rubric", or reward answers ([reward]); votes that compare '
            "answers leave as dpo or reward",
        )
    what = {"answer": "answers", "prompt": "prompts", "pair": "preferences"}[work.settings.spec.unit]
    what = "references" if work.settings.select == "reference" else what
    return InputError(f"{run_id}: the run has no {what}", hint="`constitution runs` tells what each run has")
