"""Many voters' hard votes → one posterior per pair, with each voter's error rates learnt from all pairs: Dawid & Skene
1979 ("Maximum likelihood estimation of observer error-rates using the EM algorithm", Applied Statistics 28)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constitution.measures.estimate import Floats

ITERATIONS = 100
TOLERANCE = 1e-5
"""The fit ends once an iteration raises the bound of the log-likelihood by less than this a vote."""
_EPSILON = 1e-10
"""No probability is taken for less."""


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
    swapped = np.random.default_rng(seed).integers(2, size=len(names)).astype(bool)
    voters = np.unique(by, return_inverse=True)[1]
    order = np.lexsort((voters, tasks))
    labels = (votes.astype(bool) ^ swapped[tasks]).astype(np.int64)
    second = _fit(tasks[order], voters[order], labels[order])[:, 1]
    return dict(zip(names.tolist(), np.where(swapped, 1 - second, second).tolist(), strict=True))


def _fit(tasks: NDArray[np.intp], voters: NDArray[np.intp], labels: NDArray[np.int64]) -> Floats:
    """P(each of two classes) of each task, by expectation and maximisation from the shares of its votes."""
    said = voters * 2 + labels
    cast = np.bincount(said, minlength=2 * (int(voters.max()) + 1)) > 0
    posterior = _summed(tasks, np.eye(2)[labels])
    posterior /= posterior.sum(axis=1, keepdims=True)
    prior, errors = _learnt(posterior, tasks, said, cast)
    last = -np.inf
    for _ in range(ITERATIONS):
        likely = np.log(prior) + _summed(tasks, np.log(errors[said]))
        posterior = np.exp(likely - likely.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        prior, errors = _learnt(posterior, tasks, said, cast)
        bounded = np.maximum(posterior, _EPSILON)
        expected = (posterior[tasks] * (np.log(errors[said]) + np.log(prior))).sum()
        bound = (expected - (bounded * np.log(bounded)).sum()) / len(tasks)
        if bound - last < TOLERANCE:
            break
        last = bound
    return np.clip(posterior, 0.0, 1.0)


def _learnt(
    posterior: Floats, tasks: NDArray[np.intp], said: NDArray[np.int64], cast: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """How common each class is, and the probability of each voter's label, given the class: (voters · labels, 2)."""
    errors = np.where(cast[:, None], np.maximum(_summed(said, posterior[tasks], len(cast)), _EPSILON), 0.0)
    errors /= errors.reshape(-1, 2, 2).sum(axis=1).repeat(2, axis=0)
    return np.maximum(posterior.mean(axis=0), _EPSILON), errors


def _summed(groups: NDArray[np.intp], rows: Floats, count: int = 0) -> Floats:
    """The sums of the rows (n, 2) of each group: (groups, 2)."""
    return np.column_stack([np.bincount(groups, column, count) for column in rows.T])
