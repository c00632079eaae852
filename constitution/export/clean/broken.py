"""Answers to be learnt that a principle's own votes speak against, whatever the label made of all of them says."""

from __future__ import annotations

from constitution.export.clean.answers import learnt
from constitution.export.reasons import Dropped
from constitution.export.work import Work

MIDDLE = 0.5 - 1e-9
"""Below it a principle is broken; just in the middle it is not."""

# What each principle says, as the mean over judges. Of comparisons: the probability that the answer is the better one
# of its pair; an answer that is a candidate by itself is looked at in all pairs that it is in. Of readings of the
# answer by itself: their value.
_BROKEN = """
WITH learnt AS ({learnt}),
sides AS (
    SELECT c.id, p.id AS pair_id, p.b_id = c.answer_id AS is_b
    FROM (SELECT id, b_id, unnest([a_id, b_id]) AS answer_id FROM training_pairs WHERE run_id = $run) AS p
    JOIN learnt AS c ON c.answer_id = p.answer_id AND (c.other_id IS NULL OR c.id = p.id)
),
compared AS (
    SELECT s.id, v.principle_id, CASE WHEN s.is_b THEN v.p_b ELSE 1 - v.p_b END AS p
    FROM averaged_votes AS v JOIN sides AS s ON s.pair_id = v.pair_id WHERE v.run_id = $run
),
valued AS (
    SELECT c.id, r.principle_id, r.value AS p
    FROM readings AS r JOIN learnt AS c ON c.answer_id = r.response_id WHERE r.run_id = $run
),
against AS (
    SELECT id, principle_id FROM compared {chosen} GROUP BY ALL HAVING avg(p) < $middle
    UNION
    SELECT id, principle_id FROM valued {chosen} GROUP BY ALL HAVING avg(p) < $middle
)
SELECT id, string_agg(principle_id, ', ' ORDER BY principle_id) AS drop_detail FROM against GROUP BY id
"""


def broken(work: Work) -> None:
    """Reason `broken`: the votes of a principle, asked of this pair, prefer the other answer, or a principle's own
    readings of the answer are below the middle; detail: the principles' ids. Pairs and kto with --principles or
    --profile: of those alone, as their labels are."""
    settings = work.settings
    alone = (settings.principles or settings.profile) and (settings.spec.unit == "pair" or settings.spec.scored)
    found = work.connection.execute(
        _BROKEN.format(
            learnt=learnt(work, "id, answer_id, other_id"),
            chosen="SEMI JOIN chosen_principles USING (principle_id)" if alone else "",
        ),
        {"run": work.run.run_id, "middle": MIDDLE},
    ).fetchall()
    work.drop_found(Dropped.BROKEN, found)
