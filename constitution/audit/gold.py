"""The votes held against gold: people's labels, or a truth that is known (view gold). Its ties are left out.

Stages of one judge's vote on a pair, over principles by weight:

    one order     only the vote that showed the pair's answers in the order that its coin says: what a single call gives
    both orders   the mean of both
    controlled    the same, with the effect of style (or of length, where the labels were made so) taken out
    calibrated    fitted to gold by the labels' method, or by temperature: each half of the prompts by the other half
    label         the run's own p_b; of all judges

Everything is turned by the pair's coin (audit.pairs.swapped): what is predicted is not that b is better but that the
answer is which the coin puts first, so that a judge who always prefers the revision, or the first answer of a file that
names the better one first, gains nothing by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from constitution.audit.evidence import Array, Evidence
from constitution.measures import Estimate, agreement, calibrate
from constitution.records import Figure

NO_GOLD = "no judged pair has a gold label: `constitution annotations import`, or prompts.gold for given answers"
STAGES = ("one order", "both orders", "controlled", "label")
"""Those that are stored; `calibrated` is made from one of them."""
BINS = 10

_LAYOUT = """
CREATE TABLE audit.gold AS
SELECT p.place, principle_id, side(g.p_b) = 1 AS b_better
FROM gold AS g JOIN audit.pairs AS p USING (pair_id)
WHERE g.run_id = $run AND p.kind <> 'perturbation' AND side(g.p_b) <> 0;

CREATE TABLE audit.votes AS
WITH couple AS (
    SELECT
        c.judge, c.principle_id, c.place, c.weight, c.off AS p_b,
        CASE WHEN c.judge IN (SELECT judge FROM audit.shifts) THEN c.{control} END AS controlled,
        CASE WHEN p.swapped THEN coalesce(c.p_ba, c.p_ab) ELSE c.p_ab END AS once
    FROM audit.controlled AS c
    JOIN audit.pairs AS p USING (place)
)
SELECT
    judge, ''::audit.principle AS principle_id, place, sum(weight * once) / sum(weight) AS "one order",
    sum(weight * p_b) / sum(weight) AS "both orders", sum(weight * controlled) / sum(weight) AS controlled,
    NULL::DOUBLE AS label
FROM couple GROUP BY judge, place
UNION ALL
SELECT judge, principle_id, place, once, p_b, controlled, NULL FROM couple SEMI JOIN audit.gold USING (place)
UNION ALL
SELECT ''::audit.judge, ''::audit.principle, place, NULL, p_mean, NULL, p_b FROM audit.pairs
WHERE kind <> 'perturbation';
"""

_CALLS = """
WITH own AS (SELECT DISTINCT principle_id FROM audit.gold)
SELECT
    v.judge, v.principle_id, p.cluster, p.place,
    CASE WHEN p.swapped THEN v."{stage}" ELSE 1 - v."{stage}" END AS p,
    (p.swapped = g.b_better)::TINYINT AS y
FROM audit.votes AS v
JOIN audit.pairs AS p USING (place)
JOIN audit.gold AS g ON g.place = v.place
    AND g.principle_id = CASE WHEN v.principle_id IN (FROM own) THEN v.principle_id ELSE '' END
WHERE v."{stage}" IS NOT NULL
ORDER BY p.place
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
    places: Array
    """The pairs', in audit.pairs."""

    @property
    def about(self) -> dict[str, str]:
        return {"judge": self.judge, "principle_id": self.principle_id, "subject": self.stage}

    @property
    def right(self) -> Array:
        """(n) 1 where the side is gold's, one half where there is none."""
        return np.where(np.abs(self.p - 0.5) < 1e-12, 0.5, (self.p > 0.5) == (self.y == 1))


def lay_votes(evidence: Evidence) -> None:
    """Lays out audit.votes and audit.gold; needs audit.controlled (style.lay_shifts)."""
    control = "length" if evidence.judge.get("control") == "length" else "style"
    evidence.lay(_LAYOUT.format(control=control))


def figures(evidence: Evidence) -> Iterator[Figure]:
    whole: dict[tuple[str, str], Calls] = {}
    for call in _calls(evidence):
        before = None
        if not call.principle_id:
            whole[call.judge, call.stage] = call
            before = whole.get((call.judge, "both orders")) if call.stage == "controlled" else None
        yield alignment(evidence, call, before)
    if not whole:
        names = ("alignment", "brier", "ece", "reliability_predicted", "reliability_observed", "kappa")
        yield from (evidence.missing(name, NO_GOLD) for name in names)
        return
    for call in whole.values():
        yield from scores(evidence, call)
        if call.stage == ("both orders" if call.judge else "label"):
            yield kappa(evidence, call)
    yield from _calibrated(evidence, whole)


def _calls(evidence: Evidence) -> Iterator[Calls]:
    """Figures of every judge, as a whole and by principle, stage by stage: one stage's are in memory at a time."""
    judges = {str(row["judge"]) for row in evidence.ask("SELECT DISTINCT judge FROM audit.couples").to_pylist()}
    for stage in STAGES:
        for about, rows in evidence.groups(_CALLS.format(stage=stage), "judge", "principle_id"):
            if len(judges) == 1 and not about["judge"] and stage != "label":
                continue  # the plain mean of one judge's votes is that judge's
            columns = (rows[name] for name in ("p", "y", "cluster", "place"))
            yield Calls(about["judge"], about["principle_id"], stage, *columns)


def alignment(evidence: Evidence, call: Calls, before: Calls | None = None) -> Figure:
    """Share of the pairs on which the vote is on gold's side, ties half. before: what `call` was controlled from."""
    found = evidence.mean(call.right, call.clusters, share=True)
    notes = [_against_chance(found)]
    if before is not None:
        notes.append(_against_before(evidence.mean(call.right - before.right, call.clusters)))
    return evidence.figure("alignment", found, "; ".join(filter(None, notes)), **call.about)


def _against_chance(found: Estimate) -> str:
    if found.low is None or found.high is None or found.low <= 0.5 <= found.high:
        return f"no better than chance on {found.n} pairs"
    return f"worse than chance on {found.n} pairs" if found.high < 0.5 else ""


def _against_before(gain: Estimate) -> str:
    """What control has done for alignment."""
    assert gain.value is not None
    if gain.low is None or gain.high is None or gain.low <= 0 <= gain.high:
        return "" if gain.value >= 0 else "no better than both orders: control is of no use here that can be seen"
    if gain.high < 0:
        return "worse than both orders: what goes with style here is quality as well, so leave control off"
    return "better than both orders: control helps"


def scores(evidence: Evidence, call: Calls) -> Iterator[Figure]:
    """Brier score, ECE and reliability diagram of probabilities."""
    yield evidence.figure("brier", evidence.mean((call.p - call.y) ** 2, call.clusters), **call.about)
    ece = calibrate.ece_estimate(call.p, call.y, call.clusters, BINS, replicates=evidence.replicates)
    yield evidence.figure("ece", ece, **call.about)
    for place, bin in enumerate(calibrate.reliability(call.p, call.y, BINS)):
        about = call.about | {"subject": f"{call.stage}/{place}"}
        yield evidence.count("reliability_predicted", bin.predicted, bin.n, **about)
        yield evidence.figure("reliability_observed", _wilson(bin), **about)


def _calibrated(evidence: Evidence, whole: dict[tuple[str, str], Calls]) -> Iterator[Figure]:
    """Each judge's, from the stage that the labels are made from; and the jury's plain mean's."""
    prompts = evidence.ask("SELECT prompt_id FROM audit.pairs ORDER BY place").column("prompt_id").to_pylist()
    second = calibrate.half(prompts)
    control = evidence.judge.get("control", "off") != "off"
    for judge in dict.fromkeys(judge for judge, _ in whole):
        base = whole.get((judge, "controlled")) if control else None
        if call := base or whole.get((judge, "both orders")):
            yield from calibrated(evidence, call, second[call.places])


def calibrated(evidence: Evidence, call: Calls, half: Array) -> Iterator[Figure]:
    """The scores of what the other half's fit makes of each half; `call` is what it starts from."""
    method: calibrate.Calibration = "isotonic" if evidence.judge.get("calibrate") == "isotonic" else "temperature"
    sizes = int(half.sum()), int((~half).sum())
    if min(sizes) < calibrate.LEAST:
        note = (
            f"{calibrate.LEAST} gold labels in each half of the prompts are needed to calibrate, there are {min(sizes)}"
        )
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
        SELECT 'judge ' || judge AS rater, place, "both orders" AS p_b FROM audit.votes
        WHERE judge <> '' AND principle_id = ''
    """
    raters = f"""
        SELECT 'rater ' || rater, p.place, r.p_b FROM rated AS r JOIN audit.pairs AS p USING (pair_id)
        WHERE run_id = '{evidence.run.run_id}' AND principle_id = ''
    """
    for subject, said in {"judges": judges, "raters": raters, "all": f"{judges} UNION ALL {raters}"}.items():
        rows = evidence.ask(
            f"""
            SELECT rater, place, cluster, (swapped = (side(p_b) = 1))::INTEGER AS vote
            FROM ({said}) AS s(rater, place, p_b)
            JOIN (SELECT place, cluster, swapped, kind FROM audit.pairs) USING (place)
            WHERE kind <> 'perturbation' AND side(p_b) <> 0
            """
        )
        table, clusters = _table(*(rows.column(name).to_numpy() for name in ("rater", "place", "cluster", "vote")))
        found = agreement.alpha(table, clusters, replicates=evidence.replicates)
        note = f"fewer than two {_RATERS[subject]} said anything of the same pair"
        if found.n:
            note = "" if found.value is not None else f"{found.n} pairs are too few: all were said to be the same"
        yield evidence.figure("alpha", found, note, subject=subject)


_RATERS = {"judges": "judges", "raters": "people", "all": "judges and people"}


def _table(raters: Array, pairs: Array, clusters: Array, votes: Array) -> tuple[Array, Array]:
    """(raters, pairs) of votes, NaN where there is none; and the pairs' clusters."""
    names, row = np.unique(raters.astype(str), return_inverse=True)
    items, first, column = np.unique(pairs, return_index=True, return_inverse=True)
    table = np.full((len(names), len(items)), np.nan)
    table[row, column] = votes
    return table, clusters[first]


def _wilson(bin: calibrate.Bin) -> Estimate:
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(bin.observed * bin.n, bin.n, method="wilson")
    return Estimate(bin.observed, max(float(low), 0.0), min(float(high), 1.0), bin.n)
