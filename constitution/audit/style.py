"""What length and markdown do to the votes, and what is left of the revisions' wins without them.

Features and model as in measures.style. One row per pair and judge: the mean of its order-averaged votes' log-odds over
principles; pairs of all kinds but perturbation, whose differences in style were made on purpose. Every kind has its own
intercept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from constitution.audit.evidence import Array, Evidence
from constitution.measures import Estimate, StyleFit, estimate
from constitution.measures import style as measure
from constitution.records import Figure

REVISED = ("first-last", "parent")

_ROWS = """
    WITH said AS (
        SELECT judge, place, avg(coalesce((l_ab + l_ba) / 2, l_ab)) AS log_odds, avg(p_b) AS p
        FROM audit.training_votes GROUP BY ALL
    )
    SELECT judge, place, p.cluster, log_odds, p, p.kind::VARCHAR AS kind, length, headers, lists, bold
    FROM said JOIN audit.pairs AS p USING (place) WHERE length IS NOT NULL
    ORDER BY judge, place
"""

_CONTROLLED = """
CREATE TABLE audit.shifts AS SELECT * REPLACE (judge::audit.judge AS judge) FROM laid;

CREATE MACRO audit.sigma(x) AS 1 / (1 + exp(-x));

CREATE MACRO audit.without(ab, ba, shift) AS
    (audit.sigma(ab - shift) + audit.sigma(coalesce(ba, ab) - shift)) / 2;

CREATE MACRO audit.slope(ab, ba, shift) AS (
    audit.sigma(ab - shift) * audit.sigma(shift - ab)
    + audit.sigma(coalesce(ba, ab) - shift) * audit.sigma(shift - coalesce(ba, ab))
) / 2;
"""

_VIEW = """
CREATE VIEW audit.{name} AS
SELECT
    c.judge, c.principle_id, c.place, c.kind, c.p_ab, c.p_ba, c.cluster, c.weight, c.p_b AS off,
    audit.without(c.l_ab, c.l_ba, coalesce(s.length, 0)) AS length,
    audit.without(c.l_ab, c.l_ba, coalesce(s.style, 0)) AS style,
    audit.without(c.l_ab, c.l_ba, coalesce(s.length_whole, 0)) AS length_whole,
    audit.without(c.l_ab, c.l_ba, coalesce(s.style_whole, 0)) AS style_whole,
    audit.slope(c.l_ab, c.l_ba, coalesce(s.length_whole, 0)) AS length_slope,
    audit.slope(c.l_ab, c.l_ba, coalesce(s.style_whole, 0)) AS style_slope
FROM audit.{votes} AS c LEFT JOIN audit.shifts AS s ON s.judge = c.judge AND s.place = c.place
WHERE c.kind <> 'perturbation';
"""

SHIFTS = ("length", "length_whole", "style", "style_whole")

_TOO_FEW = f"fewer than {measure.LEAST} pairs have votes: too few for a regression on length and style"


@dataclass(frozen=True)
class Fits:
    """One judge's."""

    judge: str
    style: StyleFit
    length: StyleFit
    """Length alone."""
    shifts: dict[str, Array]
    """One row per pair: what labels are controlled by (`length`, `style`), and with `_whole` the whole fits'."""
    logistic: dict[str, Estimate]
    rows: dict[str, Array]
    """One per pair, in the order of their ids: kind, cluster, log_odds, features."""


def fit_all(evidence: Evidence) -> None:
    """Fits every judge, and lays out what the fits take away from its votes: audit.shifts, audit.controlled."""
    shifts: list[pa.Table] = []
    for about, rows in evidence.groups(_ROWS, "judge"):
        features = np.column_stack([rows[name] for name in measure.FEATURES])
        if len(features) < measure.LEAST:
            continue
        fits = _fit(about["judge"], rows, features, evidence.replicates)
        evidence.fits.append(fits)
        judge = pa.array([fits.judge] * len(features)).dictionary_encode()
        shifts.append(pa.table({"judge": judge, "place": pa.array(rows["place"], pa.int32()), **fits.shifts}))
    nothing = pa.table({"judge": [""], "place": pa.array([0], pa.int32()), **{name: [0.0] for name in SHIFTS}})
    laid = [table.cast(nothing.schema) for table in shifts] or [nothing.slice(0, 0)]
    evidence.connection.register("laid", pa.concat_tables(laid))
    evidence.create(_CONTROLLED)
    for name, votes in (("controlled", "averaged"), ("first_controlled", "first_votes")):
        evidence.create(_VIEW.format(name=name, votes=votes))
    evidence.connection.unregister("laid")


def _fit(judge: str, rows: dict[str, Array], features: Array, replicates: int) -> Fits:
    target, clusters, kinds = rows["log_odds"], rows["cluster"], rows["kind"].astype(str)
    shifts: dict[str, Array] = {}
    whole: dict[str, StyleFit] = {}
    for control, names in measure.CONTROLS.items():
        given = features[:, : len(names)]
        whole[control] = measure.fit(target, given, clusters, names, strata=kinds, replicates=replicates)
        shifts[control] = measure.control(target, given, clusters, names, strata=kinds).shift(given)
        shifts[f"{control}_whole"] = whole[control].shift(given)
    logistic = measure.logistic(rows["p"], features, clusters, measure.FEATURES, strata=kinds)
    known = {"kind": kinds, "cluster": clusters, "log_odds": target, "features": features}
    return Fits(judge, whole["style"], whole["length"], shifts, logistic, known)


def figures(evidence: Evidence) -> Iterator[Figure]:
    yield from evidence.measured("style")
    yield from effects(evidence)
    yield from controlled_win_rates(evidence)
    yield from labels_changed(evidence)


def effects(evidence: Evidence) -> Iterator[Figure]:
    kinds = ("style_effect", "style_effect_sd", "style_logistic")
    judges = {row["judge"] for row in evidence.rows("SELECT DISTINCT judge::VARCHAR AS judge FROM audit.averaged")}
    if not judges:
        yield from map(evidence.missing, kinds)
    for judge in sorted(judges - {fit.judge for fit in evidence.fits}):
        yield from (evidence.missing(kind, _TOO_FEW, judge=judge) for kind in kinds)
    for fit in evidence.fits:
        for kind, found in zip(kinds, (fit.style.effects, fit.style.effects_sd, fit.logistic), strict=True):
            for feature, effect in found.items():
                note = "" if effect.value is not None else _why_none(fit, feature)
                yield evidence.figure(kind, effect, note, judge=fit.judge, subject=feature)


def _why_none(fit: Fits, feature: str) -> str:
    if fit.style.effects[feature].value is None:
        return "the answers of a pair never differ in it, or only as an earlier feature does"
    return "the logistic fit does not converge: the features tell the votes apart completely"


def controlled_win_rates(evidence: Evidence) -> Iterator[Figure]:
    """The intervals account for the effect being an estimate itself."""
    rows_of = {fit.judge: fit for fit in evidence.fits}
    for control, names in measure.CONTROLS.items():
        name, empty = f"win_rate_{control}_controlled", True
        sql = f"""
            SELECT judge, place, sum({control}_whole) AS total, sum({control}_slope) AS slope, count(*) AS votes
            FROM audit.first_controlled SEMI JOIN audit.shifts USING (judge, place)
            GROUP BY judge, place ORDER BY place
        """
        for about, sums in evidence.groups(sql, "judge"):
            rows = rows_of[about["judge"]].rows
            for kind in sorted(set(rows["kind"]) & set(REVISED)):
                empty = False
                found = controlled(rows, rows["features"][:, : len(names)], sums, kind, evidence.replicates)
                yield evidence.figure(name, found, judge=about["judge"], subject=kind)
        if empty:
            yield evidence.missing(name, "" if evidence.fits else _TOO_FEW)


def controlled(rows: dict[str, Array], features: Array, sums: dict[str, Array], kind: str, replicates: int) -> Estimate:
    """Mean of the controlled votes of the pairs of one kind, and the bootstrap's interval of its linear part, which is
    that of the mean given the effects, and of the effects: least squares within kinds.

    rows, features (n, k): of the pairs that the effects were fitted on. sums: of each of them, over its votes: the
    controlled votes (total), their derivative by the shift (slope, without its sign), and their number (votes).
    """
    of_kind, n = rows["kind"] == kind, len(features)
    inside, target = features.astype(np.float64), rows["log_odds"].copy()
    for each in np.unique(rows["kind"]):
        there = rows["kind"] == each
        inside[there] -= inside[there].mean(axis=0)
        target[there] -= target[there].mean()
    products = np.linalg.pinv(inside.T @ inside, hermitian=True)
    left = target - inside @ (products @ (inside.T @ target))
    votes = int(sums["votes"][of_kind].sum())
    value = float(sums["total"][of_kind].sum()) / votes
    gradient = -(sums["slope"] * of_kind) @ features / votes
    linear = np.where(of_kind, sums["total"] - value * sums["votes"], 0.0) * (n / votes)
    linear += n * left * (inside @ products @ gradient)
    found = estimate.mean(linear + value, rows["cluster"], replicates=replicates)
    low, high = (None if end is None else float(np.clip(end, 0, 1)) for end in (found.low, found.high))
    return Estimate(value, low, high, votes)


def labels_changed(evidence: Evidence) -> Iterator[Figure]:
    for control in measure.CONTROLS:
        sql = f"""
            SELECT
                '{control}' AS subject, any_value(cluster) AS cluster,
                (side(sum(weight * off) / sum(weight)) <> side(sum(weight * {control}) / sum(weight)))::INTEGER AS value
            FROM audit.controlled GROUP BY place
        """
        changed = list(evidence.means("labels_changed", sql, takes=None))
        yield from changed or [evidence.missing("labels_changed", subject=control)]
    sql = """
        SELECT 'label' AS subject, cluster, (side(p_b) <> side(p_mean))::INTEGER AS value FROM audit.training_pairs
        WHERE p_b IS NOT NULL AND p_mean IS NOT NULL
    """
    yield from evidence.means("labels_changed", sql, takes=None)
