"""What the order in which the answers are shown does to the votes, and what asking again does.

Position bias as in arXiv 2309.00267 (RLAIF), section 4.3 of its appendix: the share of pairs for which the same
position is preferred after the answers have changed places. All pairs count, those with a perturbed answer too.
"""

from __future__ import annotations

from collections.abc import Iterator

from constitution.audit.evidence import Evidence
from constitution.records import Figure

_ONE_ORDER = "no votes in both orders: judge.method label, rationale or verdict shows the answers both ways round"
_ALL_CENSORED = "no vote in both orders of which no label is censored"


_REPEATS = """
    WITH asked AS (
        SELECT judge, principle_id, pair_id, first_id, prompt_id, side(p_first) AS side, count(*) AS repeats
        FROM judgements WHERE run_id = {run} AND wave = 0 GROUP BY ALL
    )
    SELECT judge, principle_id, max(repeats) / sum(repeats) AS value, any_value(cluster) AS cluster
    FROM asked JOIN audit.prompts USING (prompt_id)
    GROUP BY judge, principle_id, pair_id, first_id HAVING sum(repeats) > 1
"""


def figures(evidence: Evidence) -> Iterator[Figure]:
    yield from evidence.measured("position")
    effects = "SELECT judge, principle_id, position AS value, cluster FROM audit.first_votes WHERE position IS NOT NULL"
    [row] = evidence.rows("SELECT count(p_ba) AS swapped FROM audit.first_votes")
    yield from evidence.means("position_effect", effects, _ALL_CENSORED if row["swapped"] else _ONE_ORDER)
    [row] = evidence.rows("SELECT max(repeat) AS most FROM judgements WHERE run_id = {run} AND wave = 0")
    if row["most"]:  # the query groups every vote of the run
        yield from evidence.means("repetition_stability", _REPEATS)
    else:
        yield evidence.missing("repetition_stability")
