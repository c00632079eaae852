"""What the order in which the answers are shown does to the votes, and what asking again does.

Position bias as in arXiv 2309.00267 (RLAIF), section 4.3 of its appendix: the share of pairs for which the same place
is preferred after the answers have changed places. All pairs count, those with a perturbation too.
"""

from __future__ import annotations

from collections.abc import Iterator

from constitution.audit.evidence import Evidence
from constitution.records import Figure

LEVELS = (("judge",), ("judge", "principle_id"))

ALL_BOUNDED = "no couple of votes in both orders of which no label is bounded (`censored`)"
ONE_ORDER = "no votes in both orders: judge.method label or rationale shows the answers both ways round"


def figures(evidence: Evidence) -> Iterator[Figure]:
    for keys in LEVELS:
        yield from position_bias(evidence, keys)
        yield from position_effect(evidence, keys)
        yield from repetition_stability(evidence, keys)
    yield from first_place(evidence)


def position_bias(evidence: Evidence, keys: tuple[str, ...]) -> Iterator[Figure]:
    sql = """
        SELECT judge, principle_id, same_place::INTEGER AS value, cluster FROM audit.couples
        WHERE same_place IS NOT NULL
    """
    yield from evidence.means("position_bias", sql, *keys, share=True, otherwise=_once(keys, ONE_ORDER))


def first_place(evidence: Evidence) -> Iterator[Figure]:
    sql = "SELECT judge, first_place::INTEGER AS value, cluster FROM audit.couples WHERE same_place"
    nothing = "no couple of votes prefers the same place in both orders"
    yield from evidence.means("first_place", sql, "judge", share=True, otherwise=nothing)


def position_effect(evidence: Evidence, keys: tuple[str, ...]) -> Iterator[Figure]:
    sql = "SELECT judge, principle_id, position AS value, cluster FROM audit.couples WHERE position IS NOT NULL"
    swapped = evidence.connection.execute("SELECT count(p_ba) FROM audit.couples").fetchall()[0][0]
    nothing = ALL_BOUNDED if swapped else ONE_ORDER
    yield from evidence.means("position_effect", sql, *keys, otherwise=_once(keys, nothing))


def repetition_stability(evidence: Evidence, keys: tuple[str, ...]) -> Iterator[Figure]:
    """Share of a vote's repeats that fall on the side that most of them take (a tie is a side)."""
    nothing = _once(keys, "every vote was cast once: judge.repeats = 2 or more asks again")
    [most] = evidence.connection.execute(
        "SELECT max(repeat) FROM judgements WHERE run_id = ?", [evidence.run.run_id]
    ).fetchall()[0]
    if not most:
        if nothing:
            yield evidence.missing("repetition_stability", nothing)
        return
    sql = f"""
        WITH asked AS (
            SELECT judge, principle_id, pair_id, first_id, prompt_id, side(p_first) AS side, count(*) AS repeats
            FROM judgements WHERE run_id = '{evidence.run.run_id}' GROUP BY ALL
        )
        SELECT judge, principle_id, max(repeats) / sum(repeats) AS value, any_value(cluster) AS cluster
        FROM asked JOIN audit.prompts USING (prompt_id)
        GROUP BY judge, principle_id, pair_id, first_id HAVING sum(repeats) > 1
    """
    yield from evidence.means("repetition_stability", sql, *keys, share=True, otherwise=nothing)


def _once(keys: tuple[str, ...], note: str) -> str:
    """What cannot be measured is said once, and not again for principles."""
    return note if keys == LEVELS[0] else ""
