"""The audit of principles, rounds, drift and style, on runs written by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from audit_rows import RUN, Audited, Pair, store

from constitution.audit.evidence import Array, correlation, difference
from constitution.audit.style import controlled
from constitution.measures import style
from constitution.records import PairKind
from constitution.warehouse import ask, connect

YES, NO, TIE = (0.75, 0.75), (0.25, 0.25), (0.5, 0.5)


def votes(
    kind: tuple[float, float], true: tuple[float, float], calm: tuple[float, float]
) -> dict[tuple[str, str], tuple[float, float]]:
    return {("one", "kind"): kind, ("one", "true"): true, ("one", "calm"): calm}


def test_principles_on_paper(tmp_path: Path) -> None:
    """24 pairs: kind always prefers the revision; true does on every other; calm never has a side."""
    pairs = [
        Pair(n, votes(YES, YES if n % 2 else NO, TIE), revised_by="kind" if n < 12 else "true", outcome="ok")
        for n in range(23)
    ]
    pairs.append(Pair(23, votes(YES, YES, TIE), revised_by="true", outcome="unchanged"))
    store(tmp_path, pairs)
    found = Audited(tmp_path)
    assert found.value("drawn", principle_id="kind") == 12
    assert found.value("drawn", principle_id="calm") == 0
    assert found("drawn", principle_id="calm").n == 24
    assert found.value("changed", principle_id="true") == pytest.approx(11 / 12)
    # Of kind's twelve revisions the others' mean is .625 on six, .375 on six.
    assert found.value("change_won", principle_id="kind") == pytest.approx(0.5)
    assert found.value("change_won", principle_id="true") == 1.0  # kind's .75 outweighs true, which does not count
    assert found.value("principle_win_rate", principle_id="kind") == 1.0
    assert found.value("principle_win_rate", principle_id="true") == pytest.approx(12 / 24)
    assert found.value("principle_win_rate", principle_id="calm") == 0.5
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert found.value("entropy", principle_id="kind") == pytest.approx(quarter)
    assert found.value("entropy", principle_id="calm") == 1.0
    assert found.value("majority_agreement", principle_id="kind") == pytest.approx(12 / 24)
    assert found.value("round_changed", subject="1") == pytest.approx(23 / 24)


def test_dead_principles_are_named_with_the_reason(tmp_path: Path) -> None:
    store(tmp_path, [Pair(n, votes(YES, YES if n % 2 else NO, TIE)) for n in range(24)])
    found = Audited(tmp_path)
    assert found.value("dead", principle_id="kind") == 1.0
    assert found("dead", principle_id="kind").note == "always prefers the revision, on 24 pairs"
    assert found.value("dead", principle_id="calm") == 1.0
    assert "prefers neither" in found("dead", principle_id="calm").note
    assert found.value("dead", principle_id="true") == 1.0
    assert found("dead", principle_id="true").note == "never drawn for 24 revisions"


def test_a_principle_that_prefers_the_first_of_every_given_pair_is_not_dead(tmp_path: Path) -> None:
    """The file names the better answer first: to prefer it always is no fault."""
    store(tmp_path, [Pair(n, votes(NO, NO, NO), "given") for n in range(24)], revise={"rounds": 0})
    found = Audited(tmp_path)
    assert found.value("dead", principle_id="kind") == 0.0
    assert found("principle_win_rate").value is None


def test_redundancy(tmp_path: Path) -> None:
    """kind and true always agree, calm says the opposite; and twenty pairs are too few by one."""
    pairs = [Pair(n, votes(YES, YES, NO) if n % 3 else votes(NO, NO, YES)) for n in range(24)]
    store(tmp_path, pairs)
    found = Audited(tmp_path)
    assert found.value("phi", principle_id="kind", subject="true") == pytest.approx(1)
    assert found.value("phi", principle_id="true", subject="kind") == pytest.approx(1)
    assert found.value("phi", principle_id="calm", subject="kind") == pytest.approx(-1)
    few = tmp_path / "few"
    store(few, pairs[:19])
    assert "fewer than 20" in Audited(few)("phi", principle_id="kind", subject="true").note


def test_drift_against_the_version_before_on_the_same_prompts(tmp_path: Path) -> None:
    """true went from .25 to .75 on the two prompts that both runs have; the later version is none before."""
    old = [Pair(n, votes(YES, NO, TIE)) for n in range(2)]
    new = [Pair(n, votes(YES, YES, TIE)) for n in range(4)]
    store(tmp_path, old, run_id="hand-old", version="1.9.0")
    store(tmp_path, new, run_id="hand-later", version="2.0.0")
    store(tmp_path, new, version="1.10.0")
    found = Audited(tmp_path)
    drift = found("drift", principle_id="true", subject="1.9.0")
    assert drift.value == pytest.approx(0.5)
    assert drift.n == 2
    assert drift.note == "over the prompts of both runs; 2 are only in this one, 0 only in hand-old"
    assert found.value("drift", principle_id="kind", subject="1.9.0") == 0.0
    assert "lower version" in Audited(tmp_path, "hand-old")("drift").note
    assert Audited(tmp_path, "hand-later")("drift", principle_id="true", subject="1.10.0").note == ""


def test_another_judges_votes_are_no_drift(tmp_path: Path) -> None:
    """The judge was replaced between the versions: what changed need not be the principles."""
    store(tmp_path, [Pair(n, {("two", "kind"): NO}) for n in range(3)], run_id="hand-old", version="1.9.0")
    store(tmp_path, [Pair(n, {("one", "kind"): YES}) for n in range(3)], version="1.10.0")
    assert "no votes by the same judges" in Audited(tmp_path)("drift").note


def test_style_effects_that_were_planted(tmp_path: Path) -> None:
    """Log-odds = 1 + 2 · length of the revision, −1 of given pairs: the kinds differ in length too, which must not
    pass for an effect of length."""
    generator = np.random.default_rng(1)
    pairs = []
    for n in range(240):
        kind: PairKind = "given" if n % 2 else "first-last"
        a, b = generator.integers(5, 40, size=2) + (0 if n % 2 else np.array([0, 40]))
        length = (b - a) / (a + b)
        logit = (-1 if n % 2 else 1) + 2 * length + generator.normal(0, 0.1)
        p = 1 / (1 + math.exp(-logit))
        texts = (" ".join(["word"] * a), " ".join(["word"] * b))
        pairs.append(Pair(n, {("one", "kind"): (p, p)}, kind, texts))
    store(tmp_path, pairs)
    found = Audited(tmp_path)
    effect = found("style_effect", "one", subject="length")
    assert effect.value == pytest.approx(2, abs=0.1)
    assert effect.low is not None
    assert effect.high is not None
    assert effect.low < 2 < effect.high
    assert "never differ" in found("style_effect", "one", subject="bold").note
    assert found.value("style_logistic", "one", subject="length") == pytest.approx(2, abs=0.2)
    plain = found.value("win_rate", "one", subject="first-last")
    assert plain > found.value("win_rate_length_controlled", "one", subject="first-last")
    assert found.value("win_rate_length_controlled", "one", subject="first-last") == pytest.approx(0.73, abs=0.02)
    assert found.value("labels_changed", subject="length") > 0


def test_every_plain_share_is_what_sql_says_of_the_judgements(tmp_path: Path) -> None:
    """Not of the views that the audit asks: of the votes themselves."""
    generator = np.random.default_rng(2)
    pairs = [
        Pair(
            n,
            {
                (judge, principle): (float(generator.uniform()), float(generator.uniform()))
                for judge in ("one", "two")
                for principle in ("kind", "true", "calm")
            },
            gold="ab"[int(generator.integers(2))],
        )
        for n in range(60)
    ]
    store(tmp_path, pairs, model={"jury": {"one": {}, "two": {}}})
    found = Audited(tmp_path)
    with connect(tmp_path) as connection:
        rows = list(
            ask(
                connection,
                f"""
                SELECT x.judge, x.principle_id,
                    avg(((x.p_first > 0.5) = (y.p_first > 0.5))::INTEGER),
                    avg(((1 - x.p_first + y.p_first > 1) = (q.gold_id = q.b_id))::INTEGER),
                    avg((1 - x.p_first + y.p_first > 1)::INTEGER)
                FROM judgements AS x
                JOIN preferences AS q ON q.id = x.pair_id AND x.first_id = q.a_id
                JOIN judgements AS y ON y.pair_id = x.pair_id AND y.judge = x.judge
                    AND y.principle_id = x.principle_id AND y.first_id = q.b_id
                WHERE x.run_id = '{RUN}' GROUP BY ALL
                """,
            ).rows
        )
    assert len(rows) == 6
    for judge, principle, same_place, aligned, _ in rows:
        assert found.value("position_bias", judge, principle) == pytest.approx(same_place)
        assert found.value("alignment", judge, principle, "both orders") == pytest.approx(aligned)
    for principle in ("kind", "true", "calm"):
        wins = [win for _, of, _, _, win in rows if of == principle]
        assert found.value("principle_win_rate", principle_id=principle) == pytest.approx(sum(wins) / 2)


def test_correlation_and_difference_have_the_intervals_of_the_plain_bootstrap() -> None:
    generator = np.random.default_rng(3)
    clusters = np.repeat(np.arange(150), 2)
    x = generator.normal(size=300)
    y = 0.5 * x + generator.normal(size=300)
    ours = generator.uniform(size=300) < 0.4
    right = (y > 0).astype(float)
    correlated, differs = correlation(x, y, clusters, 2000), difference(right, ours, clusters, 2000)
    assert correlated.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert differs.value == pytest.approx(right[ours].mean() - right[~ours].mean())
    drawn = []
    for _ in range(2000):
        rows = (generator.integers(150, size=150)[:, None] * 2 + np.arange(2)).ravel()
        own, others = (right[rows][which].mean() for which in (ours[rows], ~ours[rows]))
        drawn.append((np.corrcoef(x[rows], y[rows])[0, 1], own - others))
    ends = np.quantile(np.array(drawn), [0.025, 0.975], axis=0)
    assert (correlated.low, correlated.high) == pytest.approx(tuple(ends[:, 0]), abs=0.03)
    assert (differs.low, differs.high) == pytest.approx(tuple(ends[:, 1]), abs=0.03)
    assert correlation(x, np.ones(300), clusters, 10).value is None
    assert difference(right, np.ones(300, bool), clusters, 10).value is None


def test_few_that_all_agree_are_no_certainty() -> None:
    """Nothing varies, so a bootstrap sees nothing: the intervals are made of Wilson's, as a share's is."""
    own = np.arange(20) % 2 == 0
    sides, clusters = np.where(own, 1.0, -1.0), np.arange(20)
    least = 2 * 20 / (20 + 1.96**2) - 1
    same, other = correlation(sides, sides, clusters, 10), correlation(sides, -sides, clusters, 10)
    assert (same.low, same.value, same.high) == pytest.approx((least, 1.0, 1.0), abs=1e-3)
    assert (other.low, other.value, other.high) == pytest.approx((-1.0, -1.0, -least), abs=1e-3)
    found = difference(own.astype(float), own, clusters, 10)
    assert found.value == found.high == 1.0
    assert found.low == pytest.approx(1 - math.sqrt(2) * (1 - 10 / (10 + 1.96**2)), abs=1e-3)


def test_the_interval_of_a_controlled_win_rate_knows_that_the_effect_is_an_estimate() -> None:
    """Revisions are much longer, so the effect's error moves the win rate: as a bootstrap that fits again finds."""
    generator = np.random.default_rng(4)
    n = 200
    kinds = np.where(np.arange(n) % 4 == 0, "given", "first-last")
    length = generator.uniform(-0.3, 0.3, n) + np.where(kinds == "given", 0.0, 0.4)
    odds = 0.2 + 2 * length + generator.normal(0, 1, n)

    def win_rate(rows: Array) -> tuple[float, Array]:
        """The mean of the revisions' controlled votes, and those of all rows."""
        x, votes = length[rows][:, None], odds[rows]
        fit = style.fit(votes, x, rows, ["length"], strata=kinds[rows], replicates=0)
        p: Array = 1 / (1 + np.exp(fit.shift(x) - votes))
        return float(p[kinds[rows] == "first-last"].mean()), p

    value, p = win_rate(np.arange(n))
    drawn = [win_rate(generator.integers(n, size=n))[0] for _ in range(500)]
    rows = {"kind": kinds, "cluster": np.arange(n), "log_odds": odds}
    sums = {"total": p, "slope": p * (1 - p), "votes": np.ones(n, int)}
    found = controlled(rows, length[:, None], sums, "first-last", 2000)
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.015)
    given_the_effect = 2 * 1.96 * p[kinds == "first-last"].std() / math.sqrt((kinds == "first-last").sum())
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low > 1.1 * given_the_effect
