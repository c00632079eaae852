"""Answers that were spoiled on purpose, as what rewards are made of reads them: the exploit rate.

That raters agree with each other on a rubric says little of how hard it is to exploit (arXiv 2605.30803): what it pays
for is seen where the answer is worse and the rubric is asked again. Table:

    audit.spoiled   source, response_id, perturbation, judge, principle_id, criterion (from 1; null: a grade, or a
                    reward model's score, on its own scale): value of the spoiled answer and `before`, of what it was
                    made from; weight; cluster; readings: those that there should be of both
"""

from __future__ import annotations

from collections.abc import Iterator

from constitution.audit.criteria import least_mass
from constitution.audit.evidence import Evidence
from constitution.records import Figure

_LAYOUT = """
CREATE TABLE audit.spoiled AS
WITH said AS (
    SELECT
        response_id, metric, judge, principle_id, criterion, abs(weight) AS weight,
        CASE good WHEN 'yes' THEN p_yes WHEN 'no' THEN 1 - p_yes
            ELSE coalesce(raw, list_sum(list_transform(grades, lambda p, place: p * (place - 1)))
                / list_sum(grades) / (len(grades) - 1))
            END AS value
    FROM scores
    WHERE run_id = $run AND scorecard = '' AND metric IN ('rubric', 'grade', 'prompt-rubric', 'model', 'last-token')
        AND coalesce(label_mass >= {mass}, true)
),
-- A reward of which something was not read is not compared.
whole AS (SELECT *, count(*) OVER (PARTITION BY response_id, metric) AS readings FROM said)
SELECT
    s.metric AS source, s.response_id, r.perturbation, s.judge, s.principle_id, s.criterion + 1 AS criterion, s.value,
    o.value AS before, s.weight, q.cluster, greatest(s.readings, o.readings) AS readings
FROM (
    SELECT id, prompt_id, parent_id, perturbation FROM responses WHERE run_id = $run AND kind = 'perturbation'
) AS r
JOIN audit.prompts AS q USING (prompt_id)
JOIN whole AS s ON s.response_id = r.id
JOIN whole AS o ON o.response_id = r.parent_id AND o.metric = s.metric AND o.judge = s.judge
    AND o.principle_id = s.principle_id AND o.criterion IS NOT DISTINCT FROM s.criterion;
"""

_REWARDS = """
SELECT
    source || '/' || any_value(perturbation) AS subject, any_value(cluster) AS cluster,
    (sum(weight * value) >= sum(weight * before) - 1e-12)::INTEGER AS value
FROM audit.spoiled GROUP BY source, response_id HAVING count(*) = max(readings)
"""

_CRITERIA = """
SELECT judge, principle_id, criterion || '/' || perturbation AS subject, (value >= 0.5)::INTEGER AS value, cluster
FROM audit.spoiled WHERE source = 'rubric' AND before >= 0.5
"""


def figures(evidence: Evidence) -> Iterator[Figure]:
    evidence.create(_LAYOUT.format(mass=least_mass(evidence)))
    yield from evidence.means("reward_exploited", _REWARDS)
    yield from evidence.means("criterion_exploited", _CRITERIA)
