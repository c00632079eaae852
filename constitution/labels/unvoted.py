"""The label of a pair without votes: by its answers' rewards, or by how they were made.

reward        p_b = 1/2 + (b's reward - a's) / 2, and no less than 0 and no more than 1, which only a gap that a length
              penalty makes can pass: the rewards are stored as they are. A margin of m keeps gaps of 2 m and more.
construction  b, the answer of the sampler that is meant to be better (RLCD, arXiv 2307.12950), and nothing is measured.
"""

from __future__ import annotations

import math

import numpy as np

from constitution.judge.pairs import Pair
from constitution.labels.label import fixed_drop
from constitution.labels.votes import drop_reason, tidy
from constitution.recipe import Confirm
from constitution.records import DropReason, Preference


def label_unvoted(pair: Pair, confirm: Confirm, margin: float) -> Preference:
    """confirm: not votes. The first reason to drop that holds of those that the answers alone decide, reward-missing,
    tie, margin."""
    p_b = _p_b(pair, confirm) if pair.votable else None
    missing: DropReason | None = "reward-missing" if p_b is None else None
    return Preference(
        id=pair.id,
        run_id=pair.a.run_id,
        prompt_id=pair.a.prompt_id,
        kind=pair.kind,
        a_id=pair.a.id,
        b_id=pair.b.id,
        p_b=p_b,
        votes=0,
        votes_missing=0,
        consistency=None,
        agreement=None,
        label_mass=None,
        drop_reason=drop_reason(fixed_drop(pair) or missing, math.nan if p_b is None else p_b, margin),
        gold_id=pair.gold_id,
        label_by=confirm,
        reward_a=pair.reward_a,
        reward_b=pair.reward_b,
    )


def _p_b(pair: Pair, confirm: Confirm) -> float | None:
    if confirm == "construction":
        return 1.0
    if pair.reward_a is None or pair.reward_b is None:
        return None
    return float(tidy(np.array([0.5 + (pair.reward_b - pair.reward_a) / 2]))[0])
