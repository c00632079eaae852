"""The votes held against gold: people's annotations, or a truth that is known (view gold). Its ties are left out.

Stages of one judge's vote on a pair, over principles by weight:

    one order     only the vote that showed the pair's answers in the order that its coin says: what a single call gives
    both orders   the mean of both
    controlled    the same, with the effect of style (or of length, where the labels were made so) taken out of the mean
                  over repeats, as it was read; a label takes it out of each vote, and then clamps
    calibrated    fitted to gold by the labels' method, or by temperature: each half of the prompts by the other half
    label         the run's own p_b; of all judges

Everything is turned by the pair's coin (audit.pairs.swapped): what is predicted is not that b is better but that the
answer is which the coin puts first, so that a judge who always prefers the revision, or the first answer of a file that
names the better one first, gains nothing by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from constitution.audit.charts import reliability
from constitution.audit.evidence import Array, Evidence
from constitution.audit.kinds import Exhibit, written
from constitution.measures import Estimate, agreement, calibrate, estimate
from constitution.records import Figure

STAGES = ("one order", "both orders", "controlled", "label")
"""Those that are stored; `calibrated` is made from one of them."""
BINS = 10
_OF_PROBABILITIES = ("brier", "ece", "reliability_predicted", "reliability_observed")


_LAYOUT = """
CREATE TABLE audit.gold AS
SELECT p.place, principle_id, side(g.p_b) = 1 AS b_better
FROM gold AS g JOIN audit.training_pairs AS p USING (pair_id)
WHERE g.run_id = $run AND side(g.p_b) <> 0;

CREATE MACRO audit.at_stages(votes) AS TABLE
SELECT
    c.judge, c.principle_id, c.place, c.weight, c.off AS p_b,
    CASE WHEN c.judge IN (SELECT judge FROM audit.shifts) THEN c.{control} END AS controlled,
    CASE WHEN p.swapped THEN coalesce(c.p_ba, c.p_ab) ELSE c.p_ab END AS once
FROM query_table(votes) AS c
JOIN audit.pairs AS p USING (place);

CREATE TABLE audit.votes AS
SELECT
    judge, ''::audit.principle AS principle_id, place, sum(weight * once) / sum(weight) AS "one order",
    sum(weight * p_b) / sum(weight) AS "both orders", sum(weight * controlled) / sum(weight) AS controlled,
    NULL::DOUBLE AS label
FROM audit.at_stages('audit.controlled') GROUP BY judge, place
UNION ALL
SELECT judge, principle_id, place, once, p_b, controlled, NULL
FROM audit.at_stages('audit.first_controlled') SEMI JOIN audit.gold USING (place)
UNION ALL
SELECT ''::audit.judge, ''::audit.principle, place, NULL, p_mean, NULL, p_b FROM audit.training_pairs;
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


def create_stages(evidence: Evidence) -> None:
    """Makes audit.votes and audit.gold; needs audit.controlled (style.fit_all)."""
    control = "length" if evidence.judge.get("control") == "length" else "style"
    evidence.create(_LAYOUT.format(control=control))


def figures(evidence: Evidence) -> Iterator[Figure]:
    whole: dict[tuple[str, str], Calls] = {}
    for call in _calls(evidence):
        before = None
        if not call.principle_id:
            whole[call.judge, call.stage] = call
            before = whole.get((call.judge, "both orders")) if call.stage == "controlled" else None
        yield alignment(evidence, call, before)
    if not whole:
        yield from map(evidence.missing, ("alignment", *_OF_PROBABILITIES, "kappa"))
    for call in whole.values():
        yield from scores(evidence, call)
        if call.stage == ("both orders" if call.judge else "label"):
            yield kappa(evidence, call)
    yield from _calibrated(evidence, whole)


def _calls(evidence: Evidence) -> Iterator[Calls]:
    """Every judge, as a whole and by principle, stage by stage, so that one stage is in memory at a time."""
    judges = evidence.rows("SELECT DISTINCT judge FROM audit.averaged")
    for stage in STAGES:
        for about, rows in evidence.groups(_CALLS.format(stage=stage), "judge", "principle_id"):
            if len(judges) == 1 and not about["judge"] and stage != "label":
                continue  # the plain mean of one judge's votes is that judge's
            columns = (rows[name] for name in ("p", "y", "cluster", "place"))
            yield Calls(about["judge"], about["principle_id"], stage, *columns)


def alignment(evidence: Evidence, call: Calls, before: Calls | None = None) -> Figure:
    """before: what `call` was controlled from."""
    found = evidence.mean(call.right, call.clusters, proportion=True)
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
        return "" if gain.value >= 0 else "no better than both orders: control has no benefit here"
    if gain.high < 0:
        return "worse than both orders: style goes with quality here, so leave control off"
    return "better than both orders: control helps"


def scores(evidence: Evidence, call: Calls) -> Iterator[Figure]:
    """Brier score, "ece" and reliability diagram of probabilities, which labels without votes are not."""
    if (made_by := evidence.judge.get("confirm", "votes")) != "votes":
        note = f"labels by {made_by} are no probabilities"
        yield from (evidence.missing(name, note, len(call.p), **call.about) for name in _OF_PROBABILITIES)
        return
    yield evidence.figure("brier", evidence.mean((call.p - call.y) ** 2, call.clusters), **call.about)
    ece = calibrate.ece_estimate(call.p, call.y, call.clusters, BINS, replicates=evidence.replicates)
    bins = calibrate.reliability(call.p, call.y, BINS)
    yield evidence.figure("ece", ece, _lean(ece, bins), **call.about)
    for place, bin in enumerate(bins):
        about = call.about | {"subject": f"{call.stage}/{place}"}
        yield evidence.count("reliability_predicted", bin.predicted, bin.n, **about)
        yield evidence.figure(
            "reliability_observed",
            Estimate(bin.observed, *estimate.wilson(bin.observed * bin.n, bin.n), bin.n),
            **about,
        )


def _lean(ece: Estimate, bins: Sequence[calibrate.Bin]) -> str:
    """On which side of the truth the probabilities are, where most of the error is there."""
    sure = sum(bin.n * (bin.predicted - bin.observed) * np.sign(bin.predicted - 0.5) for bin in bins)
    lean = sure / sum(bin.n for bin in bins)
    if ece.value is None or abs(lean) < ece.value / 2 or not ece.low:
        return ""
    return "overconfident" if lean > 0 else "underconfident"


def _calibrated(evidence: Evidence, whole: dict[tuple[str, str], Calls]) -> Iterator[Figure]:
    """Each judge's, from the stage that the labels are made from; and the jury's plain mean's."""
    asked = "SELECT conversation FROM audit.pairs JOIN audit.prompts USING (prompt_id) ORDER BY place"
    second = calibrate.half(evidence.ask(asked).column("conversation").to_pylist())
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
        for kind in ("alignment", "brier", "ece"):
            yield evidence.missing(kind, note, len(call.p), **about)
        return
    p = np.empty(len(call.p))
    for side in (half, ~half):
        p[side] = calibrate.fit(method, call.p[~side], call.y[~side])(call.p[side])
    made = replace(call, stage="calibrated", p=p)
    how = f"{method}, from {call.stage}; each half of the prompts fitted on the other"
    for figure in (alignment(evidence, made), *scores(evidence, made)):
        yield replace(figure, note="; ".join(filter(None, (figure.note, how))))


def kappa(evidence: Evidence, call: Calls) -> Figure:
    said = np.abs(call.p - 0.5) >= 1e-12
    found = agreement.kappa(call.p[said] > 0.5, call.y[said] == 1, call.clusters[said], replicates=evidence.replicates)
    note = "no sides to compare"
    if found.value is not None:
        note = f"exact agreement {written(float((call.right[said]).mean()), 'share')}"
    return evidence.figure("kappa", found, note, judge=call.judge)


_RELIABILITY = """SELECT CASE WHEN p.judge = '' AND count(DISTINCT p.judge) OVER () = 2 THEN max(p.judge) OVER ()
    ELSE p.judge END AS judge,  -- the run's label and a judge alone share a diagram
  split_part(p.subject, '/', 1) AS stage, split_part(p.subject, '/', 2)::INTEGER AS bin,
  p.value AS predicted, o.value AS value, o.low, o.high, p.n
FROM figures p JOIN figures o ON o.run_id = p.run_id AND o.judge = p.judge AND o.subject = p.subject
  AND o.figure = 'reliability_observed'
WHERE p.run_id = {run} AND p.figure = 'reliability_predicted' AND p.value IS NOT NULL AND o.value IS NOT NULL
ORDER BY p.judge = '', p.judge,
  list_position(['one order', 'both orders', 'controlled', 'calibrated', 'label'], stage), bin"""

EXHIBITS = (
    Exhibit(
        "reliability",
        "Reliability",
        _RELIABILITY,
        "Observed share against predicted probability, in bins of equally many pairs. Below the diagonal at the right, "
        "probabilities are overconfident.",
        chart=reliability,
    ),
)
