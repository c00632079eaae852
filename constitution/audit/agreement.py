"""Whether judges and people agree with each other, and whether a judge prefers its own model family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from constitution.audit.evidence import Array, Evidence, difference
from constitution.measures import agreement
from constitution.records import Figure


def figures(evidence: Evidence) -> Iterator[Figure]:
    """Needs audit.votes and audit.gold (gold.create_stages)."""
    yield from alphas(evidence)
    yield from self_preference(evidence)


def alphas(evidence: Evidence) -> Iterator[Figure]:
    """Krippendorff's alpha between the judges, between the people who labelled, and between all of them."""
    judges = """
        SELECT 'judge ' || judge AS rater, place, "both orders" AS p_b FROM audit.votes
        WHERE judge <> '' AND principle_id = ''
    """
    raters = """
        SELECT 'rater ' || rater, p.place, r.p_b FROM rated AS r JOIN audit.pairs AS p USING (pair_id)
        WHERE run_id = {run} AND principle_id = ''
    """
    for subject, said in {"judges": judges, "raters": raters, "all": f"{judges} UNION ALL {raters}"}.items():
        rows = evidence.ask(
            f"""
            SELECT rater, place, cluster, (swapped = (side(p_b) = 1))::INTEGER AS vote
            FROM ({said}) AS s(rater, place, p_b)
            JOIN (SELECT place, cluster, swapped FROM audit.training_pairs) USING (place)
            WHERE side(p_b) <> 0
            """
        )
        table, clusters = _table(*(rows.column(name).to_numpy() for name in ("rater", "place", "cluster", "vote")))
        found = agreement.alpha(table, clusters, replicates=evidence.replicates)
        note = f"fewer than two {_RATERS[subject]} judged the same pair"
        if found.n:
            note = "" if found.value is not None else f"all of {found.n} pairs got the same vote"
        yield evidence.figure("alpha", found, note, subject=subject)


_RATERS = {"judges": "judges", "raters": "people", "all": "judges and people"}


def _table(raters: Array, pairs: Array, clusters: Array, votes: Array) -> tuple[Array, Array]:
    """(raters, pairs) of votes, NaN where there is none; and the pairs' clusters."""
    names, row = np.unique(raters.astype(str), return_inverse=True)
    items, first, column = np.unique(pairs, return_index=True, return_inverse=True)
    table = np.full((len(names), len(items)), np.nan)
    table[row, column] = votes
    return table, clusters[first]


def self_preference(evidence: Evidence) -> Iterator[Figure]:
    """P(the judge picks its own family's answer | gold does) − P(it picks the other's | gold does), over the pairs of
    which just one answer is of the judge's family."""
    sql = """
        SELECT v.judge, p.a_family, p.b_family, prefers_b(v."both orders") AS prefers_b, g.b_better, p.cluster
        FROM audit.votes AS v
        JOIN audit.pairs AS p USING (place)
        JOIN audit.gold AS g ON g.place = v.place AND g.principle_id = ''
        WHERE v.judge <> '' AND v.principle_id = '' AND p.a_family <> p.b_family
        ORDER BY v.place
    """
    found = False
    for about, rows in evidence.groups(sql, "judge"):
        found = True
        yield _self_preference(evidence, about["judge"], rows)
    if not found:
        yield evidence.missing("self_preference")


def _self_preference(evidence: Evidence, judge: str, rows: dict[str, Array]) -> Figure:
    family = family_of(evidence.run.recipe, judge)
    if not family:
        return evidence.missing(
            "self_preference", "the judge's family is not known: `family` of its model", judge=judge
        )
    own = np.array([rows["a_family"] == family, rows["b_family"] == family])
    one = own[0] != own[1]
    gold_own = np.where(rows["b_better"].astype(bool), own[1], own[0])[one]
    picks_as_gold = np.where(rows["b_better"].astype(bool), rows["prefers_b"], 1 - rows["prefers_b"])[one]
    found = difference(picks_as_gold, gold_own, rows["cluster"][one], evidence.replicates)
    note = "" if found.value is not None else f"gold prefers {family}'s answer in all such pairs, or in none"
    return evidence.figure("self_preference", found, note, judge=judge)


def family_of(recipe: dict[str, Any], judge: str) -> str:
    """The family that the recipe gives the judge of this name; empty: none."""
    models = recipe.get("model") or {}
    section = (models.get("jury") or {}).get(judge) or models.get("judge") or models.get("policy") or {}
    return str(section.get("family") or "")
