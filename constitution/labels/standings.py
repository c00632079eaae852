"""What the labels of a prompt's pairs say of each of its samples: rewards of the source `votes`.

Bradley–Terry strengths (measures/bradley_terry.py) of the labels between two samples, each of which counts as one game
with a probability for outcome. Equal texts are one thing that was compared, and each answer has its reward.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from constitution.identity import row_id
from constitution.measures.bradley_terry import standings
from constitution.records import Judgement, Preference, Response, Reward, RewardReason

Game = tuple[str, str, float | None]
"""Ids of a pair's two answers, and the probability that the second is better; None: no vote on it counts."""


class Standing(NamedTuple):
    """As the fields of `Reward`."""

    value: float | None
    raw: float | None
    low: float | None
    high: float | None
    readings: int
    missing: int
    reason: RewardReason | None


def standings_of(texts: Mapping[str, str], games: Iterable[Game]) -> dict[str, Standing]:
    """texts: of a prompt's samples, by id. games: with other answers too, which are passed over."""
    one_of: dict[str, str] = {}
    for id in sorted(texts, reverse=True):
        one_of[texts[id]] = id  # the least id of each text
    own = sorted((one_of[texts[a]], one_of[texts[b]], p) for a, b, p in games if a in texts and b in texts)
    readings, missing = dict.fromkeys(texts, 0), dict.fromkeys(texts, 0)
    for a, b, p in own:
        for id in (a, b):
            (missing if p is None else readings)[id] += 1
    there = sorted(id for id in one_of.values() if readings[id])
    place = {id: number for number, id in enumerate(there)}
    labelled = [(place[a], place[b], p) for a, b, p in own if p is not None]
    first, second, p_second = zip(*labelled, strict=True) if labelled else ((), (), ())
    found = standings(len(there), first, second, p_second)
    made = {}
    for id, text in texts.items():
        one = one_of[text]
        if one not in place:
            made[id] = Standing(None, None, None, None, 0, missing[one], "no-label" if text else "no-text")
            continue
        value, raw, low, high = (
            round(float(each[place[one]]), 12) for each in (found.chance, found.strength, found.low, found.high)
        )
        made[id] = Standing(value, raw, low, high, readings[one], missing[one], None)
    return made


def standing_rewards(
    samples: Iterable[Response], labels: Iterable[Preference], votes: Iterable[Judgement]
) -> list[Reward]:
    """A reward of each of a prompt's samples, by the votes on its pairs."""
    each, own = list(samples), list(labels)
    texts = {answer.id: answer.text for answer in each}
    voters: dict[str, set[str]] = {}
    for vote in votes:
        for id in (vote.first_id, vote.second_id):
            if id in texts:
                voters.setdefault(texts[id], set()).add(vote.judge)
    made = standings_of(texts, [(label.a_id, label.b_id, label.p_b) for label in own])
    return [
        Reward(
            id=row_id(answer.run_id, answer.id, "reward", "votes"),
            run_id=answer.run_id,
            prompt_id=answer.prompt_id,
            response_id=answer.id,
            source="votes",
            least_essential=None,
            length_penalty=None,
            judges=tuple(sorted(voters.get(answer.text, ()))),
            **made[answer.id]._asdict(),
        )
        for answer in each
    ]


_GROUPS = """
SELECT s.texts, coalesce(p.games, []) AS games
FROM (
    SELECT prompt_id, map_from_entries(list((id, CASE WHEN text = '' THEN '' ELSE md5(text) END))) AS texts
    FROM responses
    WHERE run_id = $run AND kind = 'sample'
        AND prompt_id IN (SELECT prompt_id FROM rewards WHERE run_id = $run AND source = 'votes')
    GROUP BY prompt_id
) AS s
LEFT JOIN (SELECT prompt_id, list((a_id, b_id, p_b)) AS games FROM standing_labels GROUP BY prompt_id) AS p
    USING (prompt_id)
"""


def standings_again(connection: duckdb.DuckDBPyConnection, run_id: str, preferences: pa.Table) -> pa.Table | None:
    """The run's rewards with those by votes as `preferences`, its labels made again, have them; None: it has none.

    connection: to the warehouse's views. Raises duckdb.Error for what cannot be read.
    """
    rewards = connection.sql("FROM rewards WHERE run_id = $run ORDER BY id", params={"run": run_id}).to_arrow_table()
    of_votes = pc.equal(rewards["source"], "votes")
    if not pc.any(of_votes).as_py():
        return None
    connection.register("standing_labels", preferences)
    asked, made = connection.execute(_GROUPS, {"run": run_id}), dict[str, Standing]()
    while groups := asked.fetchmany(1000):
        for texts, games in groups:
            made |= standings_of(texts, games)
    ids = [made.get(id) if own else None for id, own in zip(rewards["response_id"].to_pylist(), of_votes, strict=True)]
    columns = dict(zip(rewards.column_names, rewards.columns, strict=True))
    for place, name in enumerate(Standing._fields):
        new = pa.array([each and each[place] for each in ids], rewards.schema.field(name).type)
        columns[name] = pc.if_else(of_votes, new, columns[name])
    return pa.table(columns)
