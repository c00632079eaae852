"""The votes held against gold: people's labels, or a truth that is known (view gold). Its ties are left out.

Stages of one judge's vote on a pair, over principles by weight:

    one order     only the vote that showed the pair's answers in the order that its coin says: what a single call gives
    both orders   the mean of both
    controlled    the same, with the effect of style (or of length, where the recipe says so) taken out
    calibrated    fitted to gold by the recipe's method, or by temperature: each half of the prompts by the other half
    label         the run's own p_b; of all judges

Everything is turned by the pair's coin (audit.pairs.swapped): what is predicted is not that b is better but that the
answer is which the coin puts first, so that a judge who always prefers the revision, or the first answer of a file that
names the better one first, gains nothing by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from constitution.audit.evidence import Array, Evidence
from constitution.measures import Estimate, agreement, calibrate, estimate
from constitution.records import Figure

NO_GOLD = "no pair that was judged has a gold label: `constitution labels import`, or prompts.gold for given answers"
LEAST = 50
"""Gold labels that a half needs for a calibration."""
BINS = 10

_LAYOUT = """
CREATE TABLE audit.gold AS
SELECT pair_id, principle_id, side(g.p_b) = 1 AS b_better
FROM gold AS g JOIN audit.pairs AS p USING (pair_id)
WHERE g.run_id = $run AND p.kind <> 'infraction' AND side(g.p_b) <> 0;

CREATE TABLE audit.votes AS
WITH couple AS (
    SELECT
        c.judge, c.principle_id, c.pair_id, c.weight, c.p_b, k.{control} AS controlled,
        CASE WHEN p.swapped THEN coalesce(c.p_ba, c.p_ab) ELSE c.p_ab END AS once
    FROM audit.couples AS c
    JOIN audit.controlled AS k USING (judge, principle_id, pair_id)
    JOIN audit.pairs AS p USING (pair_id)
)
SELECT
    judge, '' AS principle_id, pair_id, sum(weight * once) / sum(weight) AS "one order",
    sum(weight * p_b) / sum(weight) AS "both orders", sum(weight * controlled) / sum(weight) AS controlled,
    NULL::DOUBLE AS label
FROM couple GROUP BY judge, pair_id
UNION ALL
SELECT judge, principle_id, pair_id, once, p_b, controlled, NULL FROM couple
UNION ALL
SELECT '', '', pair_id, NULL, p_mean, NULL, p_b FROM audit.pairs WHERE kind <> 'infraction';
"""

_CALLS = """
WITH own AS (SELECT DISTINCT principle_id FROM audit.gold),
long AS (UNPIVOT audit.votes ON "one order", "both orders", controlled, label INTO NAME stage VALUE p_b)
SELECT
    v.judge, v.principle_id, v.stage AS subject, p.cluster, p.prompt_id,
    CASE WHEN p.swapped THEN v.p_b ELSE 1 - v.p_b END AS p,
    (p.swapped = g.b_better)::INTEGER AS y
FROM long AS v
JOIN audit.pairs AS p USING (pair_id)
JOIN audit.gold AS g ON g.pair_id = v.pair_id
    AND g.principle_id = CASE WHEN v.principle_id IN (FROM own) THEN v.principle_id ELSE '' END
ORDER BY v.pair_id
"""


@dataclass(frozen=True)
class Calls:
    """What one judge, asked about one principle or all, said at one stage of the n pairs that have gold."""

    judge: str
    principle_id: str
    stage: str
    p: Array
    """(n) Probability that the answer is better which the pair's coin puts first."""
    y: Array
    """(n) 1 where gold says so, else 0."""
    clusters: Array
    prompts: Array

    @property
    def about(self) -> dict[str, str]:
        return {"judge": self.judge, "principle_id": self.principle_id, "subject": self.stage}

    @property
    def right(self) -> Array:
        """(n) 1 where the side is gold's, one half where there is none."""
        return np.where(np.abs(self.p - 0.5) < 1e-12, 0.5, (self.p > 0.5) == (self.y == 1))


def lay_votes(evidence: Evidence) -> None:
    """Lays out audit.votes and audit.gold; needs audit.controlled (style.lay_shifts)."""
    control = "length" if _section(evidence).get("control") == "length" else "style"
    evidence.lay(_LAYOUT.format(control=control))


def figures(evidence: Evidence) -> Iterator[Figure]:
    judge = _section(evidence)
    calls = [
        Calls(
            about["judge"],
            about["principle_id"],
            about["subject"],
            *(rows[n] for n in ("p", "y", "cluster", "prompt_id")),
        )
        for about, rows in evidence.groups(_CALLS, "judge", "principle_id", "subject")
    ]
    if len({call.judge for call in calls if call.judge}) == 1:
        # The plain mean of one judge's votes is that judge's.
        calls = [call for call in calls if call.judge or call.stage == "label"]
    if not calls:
        names = ("alignment", "brier", "ece", "reliability_predicted", "reliability_observed", "kappa")
        yield from (evidence.missing(name, NO_GOLD) for name in names)
        return
    base = "both orders" if judge.get("control", "off") == "off" else "controlled"
    method: calibrate.Calibration = "isotonic" if judge.get("calibrate") == "isotonic" else "temperature"
    for call in calls:
        yield alignment(evidence, call)
        if call.principle_id:
            continue
        yield from scores(evidence, call)
        if call.stage == ("both orders" if call.judge else "label"):
            yield kappa(evidence, call)
        if call.stage == (base if call.judge else "both orders"):
            yield from calibrated(evidence, call, method)


def alignment(evidence: Evidence, call: Calls) -> Figure:
    """Share of the pairs on which the vote is on gold's side, ties half."""
    found = evidence.mean(call.right, call.clusters, share=True)
    return evidence.figure("alignment", found, _against_chance(found), **call.about)


def _against_chance(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return "one prompt alone has gold: no interval"
    if found.low <= 0.5 <= found.high:
        return f"no better than chance on {found.n} pairs"
    return f"worse than chance on {found.n} pairs" if found.high < 0.5 else ""


def scores(evidence: Evidence, call: Calls) -> Iterator[Figure]:
    """Brier score, ECE and reliability diagram of probabilities."""
    yield evidence.figure("brier", evidence.mean((call.p - call.y) ** 2, call.clusters), **call.about)
    yield evidence.figure("ece", _ece(call, evidence.replicates), **call.about)
    for place, bin in enumerate(calibrate.reliability(call.p, call.y, BINS)):
        about = call.about | {"subject": f"{call.stage}/{place}"}
        yield evidence.count("reliability_predicted", bin.predicted, bin.n, **about)
        yield evidence.figure("reliability_observed", _wilson(bin), **about)


def calibrated(evidence: Evidence, call: Calls, method: calibrate.Calibration) -> Iterator[Figure]:
    """The scores of what the other half's fit makes of each half; `call` is what it starts from."""
    half = calibrate.half(call.prompts.tolist())
    sizes = int(half.sum()), int((~half).sum())
    if min(sizes) < LEAST:
        note = f"{LEAST} gold labels in each half of the prompts are needed to calibrate, there are {min(sizes)}"
        about = {"judge": call.judge, "subject": "calibrated"}
        for name in ("alignment", "brier", "ece"):
            yield evidence.missing(name, note, len(call.p), **about)
        return
    p = np.empty(len(call.p))
    for side in (half, ~half):
        p[side] = calibrate.fit(method, call.p[~side], call.y[~side])(call.p[side])
    made = replace(call, stage="calibrated", p=p)
    told = f"{method}, from {call.stage}; each half of the prompts fitted on the other"
    for figure in (alignment(evidence, made), *scores(evidence, made)):
        yield replace(figure, note="; ".join(filter(None, (figure.note, told))))


def kappa(evidence: Evidence, call: Calls) -> Figure:
    """Cohen's, of the judge's sides and gold's; ties left out."""
    said = np.abs(call.p - 0.5) >= 1e-12
    found = agreement.kappa(call.p[said] > 0.5, call.y[said] == 1, call.clusters[said], replicates=evidence.replicates)
    return evidence.figure("kappa", found, "" if found.value is not None else "no sides to compare", judge=call.judge)


def alphas(evidence: Evidence) -> Iterator[Figure]:
    """Krippendorff's alpha between the judges, between the people who labelled, and between all of them."""
    judges = """
        SELECT 'judge ' || judge AS rater, pair_id, "both orders" AS p_b FROM audit.votes
        WHERE judge <> '' AND principle_id = ''
    """
    raters = f"""
        SELECT 'rater ' || rater, pair_id, p_b FROM rated
        WHERE run_id = '{evidence.run.run_id}' AND principle_id = ''
    """
    for subject, said in {"judges": judges, "raters": raters, "all": f"{judges} UNION ALL {raters}"}.items():
        rows = evidence.ask(
            f"""
            SELECT rater, pair_id, cluster, (swapped = (side(p_b) = 1))::INTEGER AS vote
            FROM ({said}) AS s(rater, pair_id, p_b)
            JOIN (SELECT pair_id, cluster, swapped, kind FROM audit.pairs) USING (pair_id)
            WHERE kind <> 'infraction' AND side(p_b) <> 0
            """
        )
        table, clusters = _table(*(rows.column(name).to_numpy() for name in ("rater", "pair_id", "cluster", "vote")))
        found = agreement.alpha(table, clusters, replicates=evidence.replicates)
        note = "" if found.value is not None else f"fewer than two {_RATERS[subject]} said anything of the same pair"
        yield evidence.figure("alpha", found, note, subject=subject)


_RATERS = {"judges": "judges", "raters": "people", "all": "judges and people"}


def _section(evidence: Evidence) -> dict[str, Any]:
    """The recipe's [judge]; empty where it has none."""
    return evidence.run.recipe.get("judge") or {}


def _table(raters: Array, pairs: Array, clusters: Array, votes: Array) -> tuple[Array, Array]:
    """(raters, pairs) of votes, NaN where there is none; and the pairs' clusters."""
    names, row = np.unique(raters.astype(str), return_inverse=True)
    items, first, column = np.unique(pairs.astype(str), return_index=True, return_inverse=True)
    table = np.full((len(names), len(items)), np.nan)
    table[row, column] = votes
    return table, clusters[first]


def _ece(call: Calls, replicates: int) -> Estimate:
    """ECE, with the interval of the basic bootstrap, over the bins of all pairs: a replicate's ECE is larger than the
    run's by about as much as the run's is larger than the truth, and the basic bootstrap puts that right."""
    value = calibrate.ece(call.p, call.y, BINS)
    if value is None:
        return Estimate(None, None, None, 0)
    p, y = np.concatenate([call.p, 1 - call.p]), np.concatenate([call.y, 1 - call.y])
    places = np.searchsorted(np.quantile(p, np.linspace(0, 1, BINS + 1))[1:-1], p)
    gaps = np.zeros((len(p), BINS))
    gaps[np.arange(len(p)), places] = p - y
    drawn = estimate.sums(gaps, np.tile(call.clusters, 2), replicates=replicates)
    low, high = estimate.percentiles(np.abs(drawn).sum(axis=1) / len(p))
    if low is None or high is None or len(np.unique(call.clusters)) < 2:
        return Estimate(value, None, None, len(call.p))
    return Estimate(value, max(2 * value - high, 0.0), max(2 * value - low, 0.0), len(call.p))


def _wilson(bin: calibrate.Bin) -> Estimate:
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(bin.observed * bin.n, bin.n, method="wilson")
    return Estimate(bin.observed, max(float(low), 0.0), min(float(high), 1.0), bin.n)
