"""Many voters' hard votes → one posterior per pair, with each voter's error rates learnt from all pairs: Dawid & Skene
1979 ("Maximum likelihood estimation of observer error-rates using the EM algorithm", Applied Statistics 28), by
crowd-kit."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

ITERATIONS = 100
TOLERANCE = 1e-5


def dawid_skene(pairs: ArrayLike, workers: ArrayLike, prefers_b: ArrayLike, *, seed: int = 0) -> dict[str, float]:
    """P(b is better) of each pair, from n votes: which pair, by whom, and whether b was preferred. Leave ties out.

    The model would learn that b (the later answer, the revision) is mostly better, and that a worker leans to it, so
    each pair's answers change places by the toss of a coin first. The same votes and seed give the same answer,
    whatever their order. A worker's errors are taken to be independent of the others', which judges' are not:
    posteriors are too sure, and want calibration.
    """
    names, tasks = np.unique(np.asarray(pairs), return_inverse=True)
    by, votes = np.asarray(workers), np.asarray(prefers_b)
    if not tasks.shape == by.shape == votes.shape:
        raise ValueError(f"{tasks.shape} pairs, {by.shape} workers, {votes.shape} votes")
    if votes.size and not np.isin(votes, (0, 1)).all():
        raise ValueError("prefers_b: true or false; leave ties out")
    if not votes.size:
        return {}
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    swapped = np.random.default_rng(seed).integers(2, size=len(names)).astype(bool)
    cast = pd.DataFrame({"task": tasks, "worker": np.unique(by, return_inverse=True)[1]})
    cast["label"] = (votes.astype(bool) ^ swapped[tasks]).astype(int)
    cast = cast.sort_values(["task", "worker"], ignore_index=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, to crowd-kit
        posterior = DawidSkene(n_iter=ITERATIONS, tol=TOLERANCE).fit_predict_proba(cast)
    second = posterior[1].reindex(range(len(names))) if 1 in posterior else pd.Series(0.0, index=range(len(names)))
    p_b = np.where(swapped, 1 - second.to_numpy(), second.to_numpy())
    return dict(zip(names.tolist(), np.clip(p_b, 0.0, 1.0).tolist(), strict=True))
