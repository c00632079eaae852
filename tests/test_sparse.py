"""The sparse fit: against scikit-learn and statsmodels, and where the data say little or nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from constitution.measures import sparse
from constitution.measures.sparse import select

NAMES = ["polite", "brief", "kind", "long"]


def planted(n: int = 200, seed: int = 1, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes of −1, 0, 1; polite and brief decide; kind goes along with polite; long says nothing."""
    draw = np.random.default_rng(seed)
    votes = draw.integers(-1, 2, size=(n, 4)).astype(float)
    votes[:, 2] = np.where(draw.random(n) < 0.7, votes[:, 0], votes[:, 2])
    score = votes[:, 0] + votes[:, 1]
    labels = (score + draw.normal(0, 0.01, n) > 0).astype(float)
    return votes, np.where(draw.random(n) < noise, 1 - labels, labels), np.arange(n)


def test_path_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    votes, labels, _ = planted(120)
    n, turned = len(labels), np.where(np.arange(120) % 2, 1.0, -1.0)
    penalties = np.array([0.2, 0.05, 0.01])
    path = sparse.l1_path(votes, labels, np.full((1, n), 1 / n), penalties, tolerance=1e-9)[0]
    for penalty, ours in zip(penalties, path, strict=True):
        # Turned so that both classes are there; the loss is the same.
        toward = np.where(labels > 0.5, 1, -1) * turned
        theirs = LogisticRegression(
            l1_ratio=1, C=1 / (penalty * n), solver="liblinear", fit_intercept=False, tol=1e-10, max_iter=100_000
        ).fit(votes * toward[:, None], turned)
        assert ours == pytest.approx(theirs.coef_[0], abs=2e-4)


def test_weights_and_test_are_those_of_statsmodels() -> None:
    import statsmodels.api as sm

    votes, labels, prompts = planted(400)
    ours = sparse.ridge(votes, labels, np.ones((1, 400)), prior=1e6)[0]
    assert ours == pytest.approx(sm.GLM(labels, votes, family=sm.families.Binomial()).fit().params, abs=1e-6)
    data = sparse._Data(votes, np.ones(4), labels, prompts)
    base = sm.GLM(labels, votes[:, :2], family=sm.families.Binomial())
    # By hand, as Boos (1992) has it: the residuals of the small model, weighted by what of the column is its own.
    rate = base.fit().predict()
    inside = rate * (1 - rate)
    beside = sm.WLS(votes[:, 3], votes[:, :2], weights=inside).fit().resid
    score = beside * (labels - rate)
    expected = 2 * norm.sf(abs(score.sum()) / np.sqrt((score**2).sum()))
    assert data.p_value(3, [0, 1]) == pytest.approx(expected, abs=5e-3)


def test_finds_what_was_planted_and_no_correlate() -> None:
    votes, labels, prompts = planted()
    found = select(votes, labels, prompts, NAMES, replicates=200)
    assert found.chosen == ("polite", "brief")
    assert found.rivals["brief"] == ()
    assert all(w.low is not None and w.low > 0 for w in found.weights.values())
    # By its own agreement the correlate would have passed.
    alone = (np.sign(votes[:, 2]) == np.sign(labels - 0.5))[votes[:, 2] != 0].mean()
    assert alone > 0.6


def test_no_matter_which_answer_is_a() -> None:
    votes, labels, prompts = planted()
    first = select(votes * np.where(labels > 0.5, 1, -1)[:, None], np.ones(200), prompts, NAMES, replicates=50)
    whole = select(votes, labels, prompts, NAMES, replicates=50)
    assert first.chosen == whole.chosen
    assert [w.value for w in first.weights.values()] == pytest.approx([w.value for w in whole.weights.values()])


def test_two_that_are_the_same_are_one_group() -> None:
    votes, labels, prompts = planted()
    table = np.column_stack([votes, votes[:, 0], -votes[:, 1]])
    found = select(table, labels, prompts, [*NAMES, "courteous", "wordy"], replicates=50)
    assert found.chosen == ("polite", "brief")
    assert found.groups["polite"] == (("polite", 1), ("courteous", 1))
    assert found.groups["brief"] == (("brief", 1), ("wordy", -1))


def test_one_that_would_do_as_well_is_a_rival() -> None:
    votes, labels, prompts = planted(noise=0.2)
    draw = np.random.default_rng(3)
    like = np.where(draw.random(200) < 0.1, 0, votes[:, 0])
    found = select(np.column_stack([votes, like]), labels, prompts, [*NAMES, "civil"], replicates=200)
    one = {"polite", "civil"} & set(found.chosen)
    assert len(one) == 1
    assert {"polite", "civil"} - one <= set(found.rivals[one.pop()])


def test_separated_votes_have_finite_weights() -> None:
    votes, _, prompts = planted(60)
    labels = np.where(votes[:, 0] == 0, 0.5, (votes[:, 0] > 0).astype(float))
    found = select(votes, labels, prompts, NAMES, replicates=100)
    assert found.chosen == ("polite",)
    assert found.separated
    assert found.weights["polite"].value is not None
    assert 1 < found.weights["polite"].value < 20
    assert found.n == int((votes[:, 0] != 0).sum())


def test_constant_missing_and_few() -> None:
    votes, labels, prompts = planted()
    table = np.column_stack([votes, np.full(200, np.nan), np.zeros(200)])
    found = select(table, labels, prompts, [*NAMES, "unheard", "undecided"], replicates=50)
    assert found.useless == {"unheard": "no vote", "undecided": "prefers neither answer of any pair"}
    assert found.chosen == ("polite", "brief")
    few = select(votes[:9], labels[:9], prompts[:9], NAMES)
    assert few.chosen == ()
    assert "10 are needed" in few.note
    one_prompt = select(votes, labels, np.zeros(200), NAMES)
    assert one_prompt.chosen == ()
    assert "1 prompts" in one_prompt.note
    nothing = select(votes, np.full(200, 0.5), prompts, NAMES)
    assert nothing.chosen == ()
    assert nothing.n == 0
    silent = select(np.zeros((200, 4)), labels, prompts, NAMES)
    assert silent.chosen == ()
    assert silent.note.startswith("no candidate")


def test_a_vote_that_is_missing_is_no_vote() -> None:
    votes, labels, prompts = planted()
    draw = np.random.default_rng(5)
    holes = votes.copy()
    holes[draw.random(200) < 0.2, 1] = np.nan  # of polite, its correlate would take the place
    found = select(holes, labels, prompts, NAMES, replicates=50)
    assert found.chosen == ("polite", "brief")
    assert found.log_odds([[np.nan, 0, 1, 1]], NAMES) == pytest.approx([0.0])


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="names"):
        select(np.zeros((3, 2)), np.zeros(3), np.zeros(3), ["one"])
    with pytest.raises(ValueError, match="finite"):
        select(np.full((3, 1), np.inf), np.zeros(3), np.zeros(3), ["one"])
