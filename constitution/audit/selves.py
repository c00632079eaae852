"""Whether judges prefer their own family, and what they make of answers that were spoiled on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from constitution.audit.evidence import Array, Evidence, difference
from constitution.records import Figure

NOT_SPOILED = "no answer was spoiled on purpose: [perturb] in the recipe"


def perturbation_penalty(evidence: Evidence) -> Iterator[Figure]:
    """Share of the couples of votes, ties half, that prefer the answer as it was to its perturbation."""
    sql = """
        SELECT c.judge, c.principle_id, p.perturbation AS subject, 1 - prefers_b(c.p_b) AS value, c.cluster
        FROM audit.couples AS c JOIN audit.pairs AS p USING (place)
        WHERE c.kind = 'perturbation' AND p.perturbation IS NOT NULL
    """
    for keys in (("judge", "subject"), ("judge", "principle_id", "subject")):
        nothing = NOT_SPOILED if len(keys) == 2 else ""
        yield from evidence.means("perturbation_penalty", sql, *keys, share=True, otherwise=nothing)


def self_preference(evidence: Evidence) -> Iterator[Figure]:
    """P(the judge picks its own family's answer | gold does) − P(it picks the other's | gold does), over the pairs of
    which just one answer is of the judge's family. Needs audit.votes and audit.gold (gold.figures)."""
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
        note = (
            "no pair with gold has answers of two known families: `family` of models, prompts.families of given answers"
        )
        yield evidence.missing("self_preference", note)


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
    estimate = difference(picks_as_gold, gold_own, rows["cluster"][one], evidence.replicates)
    note = "" if estimate.value is not None else f"gold prefers {family}'s answer in all such pairs, or in none"
    return evidence.figure("self_preference", estimate, note, judge=judge)


def family_of(recipe: dict[str, Any], judge: str) -> str:
    """The family that the recipe gives the judge of this name; empty: none."""
    models = recipe.get("model") or {}
    section = (models.get("jury") or {}).get(judge) or models.get("judge") or models.get("policy") or {}
    return str(section.get("family") or "")
