"""Candidates by their rewards: those of one source, with the length penalty; a group is as the view `groups` says.

Columns of export.candidates, where the run has rewards:
    answers   reward, steps, in_group; of its group unanimous, group_size, reward_mean, reward_std
    pairs     reward_chosen, reward_rejected
    prompts   unanimous, group_size, reward_mean, reward_std
"""

from __future__ import annotations

import duckdb

from constitution.export.formats import Unit
from constitution.export.reasons import Dropped
from constitution.export.work import Work

# Sums in the order of the ids, so that no last bit depends on which thread read first.
_LAID = """
CREATE TABLE export.rewarded AS
SELECT
    w.response_id, total_reward(w.value, w.length_penalty) AS reward, w.readings AS reward_readings,
    w.steps, a.response_id IS NOT NULL AS in_group
FROM rewards AS w
LEFT JOIN (SELECT response_id FROM advantages WHERE source = $source) AS a USING (response_id)
WHERE w.source = $source;
CREATE TABLE export.by_source AS
SELECT
    prompt_id, source, avg(total ORDER BY response_id) AS mean, stddev_samp(total ORDER BY response_id) AS std,
    count(*)::INT AS size
FROM advantages GROUP BY prompt_id, source;
CREATE TABLE export.grouped AS
SELECT prompt_id AS group_of, g.unanimous, s.size AS group_size, s.mean AS reward_mean, s.std AS reward_std
FROM groups AS g JOIN export.by_source AS s USING (prompt_id, source) WHERE source = $source
"""

JOINED: dict[Unit, tuple[str, str]] = {
    "pair": (
        "LEFT JOIN export.rewarded AS wc ON wc.response_id = p.chosen_id "
        "LEFT JOIN export.rewarded AS wr ON wr.response_id = p.rejected_id",
        "wc.reward AS reward_chosen, wr.reward AS reward_rejected",
    ),
    "answer": (
        "LEFT JOIN export.rewarded AS w ON w.response_id = r.id "
        "LEFT JOIN export.grouped AS g ON g.group_of = r.prompt_id",
        "w.reward, w.steps, coalesce(w.in_group, false) AS in_group, "
        "g.unanimous, g.group_size, g.reward_mean, g.reward_std",
    ),
    "prompt": (
        "LEFT JOIN export.grouped AS g ON g.group_of = prompt_id",
        "g.unanimous, g.group_size, g.reward_mean, g.reward_std",
    ),
}
"""By unit, SQL that joins rewards to the candidates, and their columns."""

_WORSE = """
SELECT id, first_id AS drop_detail FROM (
    SELECT id, first_value(id) OVER (PARTITION BY prompt_id ORDER BY reward DESC, id) AS first_id FROM export.alive
) WHERE id <> first_id
"""
"""All but the best of a prompt's answers; detail: its id."""


def lay_rewards(connection: duckdb.DuckDBPyConnection, source: str) -> None:
    """Makes export.rewarded, and export.grouped of the groups by the source, export.by_source of those by any."""
    connection.execute(_LAID.replace("$source", f"'{source}'"))


def choose_rewarded(work: Work) -> None:
    """Drops what its rewards do not speak for, where the settings ask for that."""
    settings, unit = work.settings, work.settings.spec.unit
    if unit == "pair":
        _choose_pairs(work)
    elif unit == "prompt" and work.source and settings.unanimous == "drop":
        work.drop_where(Dropped.NO_REWARD, "reward_mean IS NULL")
        work.drop_where(Dropped.UNANIMOUS, "unanimous")
    elif settings.spec.source:
        work.drop_where(Dropped.NO_REWARD, "reward IS NULL")
    elif settings.spec.scored:
        if settings.bad is not None:
            work.drop(Dropped.BETWEEN, _detailed("p", f"p >= {settings.bad!r} AND p < {settings.good!r}"))
    elif settings.selects:
        _choose_answers(work)


def _choose_pairs(work: Work) -> None:
    settings = work.settings
    if settings.min_gap or settings.margin_of(work.run) == "gap":
        gap = "reward_chosen - reward_rejected"
        work.drop_where(Dropped.NO_REWARD, f"{gap} IS NULL")
        work.drop(Dropped.MIN_GAP, _detailed(gap, f"{gap} < {settings.min_gap!r}"))


def _detailed(number: str, condition: str) -> str:
    """SQL: the candidates of which the condition holds, with the number as a detail."""
    return f"SELECT id, format('{{:.6g}}', {number}) AS drop_detail FROM export.alive WHERE {condition}"


def _choose_answers(work: Work) -> None:
    """The best comes last: it is the best of those that nothing else speaks against."""
    settings = work.settings
    work.drop_where(Dropped.NO_REWARD, "reward IS NULL")
    work.drop_where(Dropped.GROUP, "NOT in_group")
    if settings.above is not None:
        work.drop(Dropped.BELOW, _detailed("reward", f"reward < {settings.above!r}"))
    if settings.select == "best":
        if settings.unanimous == "drop":
            work.drop_where(Dropped.UNANIMOUS, "unanimous")
        work.drop(Dropped.NOT_BEST, _WORSE)
