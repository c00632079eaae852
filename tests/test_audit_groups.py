"""Rewards and samples: every figure against scipy, statsmodels, scikit-learn or counting by hand; and where it is
shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import statsmodels.api as sm
from audit_rows import Audited
from click.testing import CliRunner
from group_rows import RUN, SAMPLE, Answer, drawn, pairs, store
from report_page import Page, differences
from scipy.stats import kendalltau
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from small_project import table

from constitution.audit import samples
from constitution.audit.kinds import KINDS, SECTIONS
from constitution.audit.report import report
from constitution.audit.summary import summary
from constitution.cli import app
from constitution.measures import estimate
from constitution.measures.auc import auc
from constitution.records import Preference, ResponseKind, RewardSource

ANSWERS = drawn()
PAIRS = list(pairs(ANSWERS))
Seen = Literal["gold", "votes"]
SOURCES: tuple[RewardSource, ...] = ("rubric", "rule")
KNOWN = [(pair, pair.p_b) for pair in PAIRS if pair.p_b is not None]
"""The pairs with votes."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("groups") / "warehouse"
    store(folder, ANSWERS, PAIRS, sample={"warm": SAMPLE, "hot": SAMPLE | {"temperature": 1.5}})
    return folder


@pytest.fixture(scope="module")
def found(root: Path) -> Audited:
    return Audited(root, RUN)


def grouped(source: RewardSource) -> Iterator[list[Answer]]:
    """The answers of each prompt that have a reward by the source."""
    for prompt in sorted({answer.prompt for answer in ANSWERS}):
        yield [answer for answer in ANSWERS if answer.prompt == prompt and np.isfinite(answer.total(source))]


def gold(answer: Answer) -> float | None:
    """The mean of the raters who annotated all of the prompt's samples that any has; None: no rater did."""
    told = [other for other in ANSWERS if other.prompt == answer.prompt and other.gold]
    complete = [rater for rater in answer.gold if all(rater in other.gold for other in told)]
    return sum(answer.gold[rater] for rater in complete) / len(complete) if complete else None


def won(answer: Answer) -> float | None:
    """The mean vote for the answer's text; None: votes on it and another text of the prompt are missing."""
    texts = {other.id: other.text for other in ANSWERS}
    mine = [
        (texts[pair.b_id] == answer.text, pair.p_b)
        for pair in PAIRS
        if pair.prompt_id == answer.prompt_id and answer.text in (texts[pair.a_id], texts[pair.b_id])
    ]
    said = [p_b if is_b else 1 - p_b for is_b, p_b in mine if p_b is not None]
    return float(np.mean(said)) if said and len(said) == len(mine) else None


def shared(one: RewardSource, other: RewardSource | Seen) -> Iterator[tuple[list[float], list[float]]]:
    """Rewards by `one`, and what `other` makes of the same answers, of each prompt."""
    for group in grouped(one):
        sees = {"gold": gold, "votes": won}.get(other)
        worth = [(answer.total(one), sees(answer) if sees else answer.total(other)) for answer in group]  # type: ignore[arg-type]
        known = [(x, y) for x, y in worth if y is not None and np.isfinite(y)]
        if known:
            yield [round(x, 12) for x, _ in known], [round(y, 12) for _, y in known]


@pytest.mark.parametrize(
    ("name", "subject", "one", "other"),
    [
        ("reward_tau_gold", "rubric", "rubric", "gold"),
        ("reward_tau_gold", "rule", "rule", "gold"),
        ("reward_tau", "rubric/rule", "rubric", "rule"),
        ("reward_tau", "rule/votes", "rule", "votes"),
    ],
)
def test_the_order_of_rewards_against_others(
    found: Audited, name: str, subject: str, one: RewardSource, other: Seen
) -> None:
    each = [float(kendalltau(x, y)[0]) for x, y in shared(one, other) if len(x) > 1]
    defined = np.array([tau for tau in each if np.isfinite(tau)])
    assert len(defined) > 5
    figure = found(name, subject=subject)
    assert figure.value == pytest.approx(defined.mean())
    assert figure.n == len(defined)
    shares = estimate.mean((defined + 1) / 2, np.arange(len(defined)), replicates=4000)
    assert shares.low is not None
    assert shares.high is not None
    assert (figure.low, figure.high) == pytest.approx((2 * shares.low - 1, 2 * shares.high - 1), abs=0.06)
    assert ("no order by one of the two" in figure.note) == (len(defined) < len(each))
    if other == "gold":
        assert "1 groups have annotations, but no rater of all" in figure.note


@pytest.mark.parametrize("source", SOURCES)
def test_what_rewards_tell_of_right_and_wrong(found: Audited, root: Path, source: RewardSource) -> None:
    told = [(each, worth) for group in grouped(source) for each in group if (worth := gold(each)) is not None]
    seen = [worth for answer in ANSWERS if (worth := gold(answer)) is not None]
    middle = (min(seen) + max(seen)) / 2
    there = [(answer.rewards[source][0], worth > middle) for answer, worth in told if worth != middle]
    figure = found("reward_auc", subject=f"{source}/gold")
    assert figure.value == pytest.approx(roc_auc_score([good for _, good in there], [value for value, _ in there]))
    assert figure.n == len(there)
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.value < figure.high
    [line] = [line for line in summary(root, RUN).splitlines() if f"what is right, {source}/gold" in line]
    assert ("no better than chance" in line) == (figure.low <= 0.5 <= figure.high)


def test_the_area_under_the_curve_and_its_interval() -> None:
    draw = np.random.default_rng(3)
    right, clusters = draw.random(600) < 0.4, np.repeat(np.arange(60), 10)
    for shift in (0.0, 1.0):
        scores = np.round(draw.normal(size=600) + shift * right, 1)
        found = auc(scores, right, clusters)
        assert found.value == pytest.approx(roc_auc_score(right, scores))
        assert found.low is not None
        assert found.high is not None
        assert (found.low <= 0.5 <= found.high) == (shift == 0.0)
        assert auc(np.exp(scores), right, clusters) == found
    assert auc([1.0, 2.0], [True, True], [0, 1]).value is None
    assert auc([], [], []).value is None


@pytest.mark.parametrize("source", SOURCES)
def test_length_inside_groups(found: Audited, source: RewardSource) -> None:
    for subject, with_penalty in ((source, False), (f"{source}/with penalty", True)):
        if with_penalty and source == "rule":
            assert not [f for f in found.figures if f.subject == subject]
            continue
        groups = list(grouped(source))
        rows = [
            (
                group[0].prompt,
                len(answer.text.split()) / 100,
                answer.total(source) - (not with_penalty) * answer.rewards[source][1],
            )
            for group in groups
            for answer in group
        ]
        prompts, x, y = (np.array(column) for column in zip(*rows, strict=True))
        dummies = (prompts[:, None] == np.unique(prompts)).astype(float)
        slope = sm.OLS(y, np.column_stack([x, dummies])).fit().params[0]
        means = [np.array([v[prompts == p].mean() for p in prompts]) for v in (x, y)]
        correlation = np.corrcoef(x - means[0], y - means[1])[0, 1]
        figure = found("reward_length_slope", subject=subject)
        assert figure.value == pytest.approx(slope)
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < slope < figure.high
        assert found.value("reward_length", subject=subject) == pytest.approx(correlation)


def brute(rewards: Sequence[float], worth: Sequence[float], n: int) -> float:
    values = []
    for chosen in combinations(range(len(rewards)), n):
        top = max(rewards[place] for place in chosen)
        values.append(np.mean([worth[place] for place in chosen if rewards[place] > top - 1e-9]))
    return float(np.mean(values))


@pytest.mark.parametrize(("one", "other"), [*((s, o) for s in SOURCES for o in (*SOURCES, "gold", "votes"))])
def test_the_best_of_n(found: Audited, one: RewardSource, other: RewardSource | Seen) -> None:
    groups = list(shared(one, other))
    sizes = sorted(len(x) for x, _ in groups)
    most = sizes[(len(sizes) - 1) // 2]
    used = [(x, y) for x, y in groups if len(x) >= most]
    ends = []
    for n in (1, 2, 4, most):
        expected = [brute(x, y, n) for x, y in used]
        figure = found("best_of", subject=f"{one}/{other}/{n}")
        assert figure.value == pytest.approx(np.mean(expected))
        assert figure.n == len(used)
        short = len(groups) - len(used)
        assert (f"{short} groups with fewer than {most} answers" in figure.note) == (short > 0)
        assert ("optimistic" in figure.note) == (one == other)
        assert "nothing else sees" not in figure.note
        ends.append(expected)
    gain = found("best_of_gain", subject=f"{one}/{other}")
    assert gain.value == pytest.approx(np.mean(np.subtract(ends[-1], ends[0])))
    assert f"n = {most}" in gain.note


@pytest.mark.parametrize("source", SOURCES)
def test_votes_and_rewards(found: Audited, source: RewardSource) -> None:
    total = {answer.id: answer.total(source) for answer in ANSWERS}
    both = [(pair, p_b, round(total[pair.b_id] - total[pair.a_id], 12)) for pair, p_b in KNOWN]
    both = [row for row in both if np.isfinite(row[-1])]
    told = [(p_b > 0.5, gap > 0, abs(gap)) for _, p_b, gap in both if gap and p_b != 0.5]
    figure = found("reward_votes", subject=source)
    assert figure.value == pytest.approx(np.mean([vote == better for vote, better, _ in told]))
    assert figure.n == len(told)
    for tie, value in (("label", [p_b == 0.5 for _, p_b, _ in both]), ("reward", [gap == 0 for *_, gap in both])):
        assert found.value("reward_votes_ties", subject=f"{source}/{tie}") == pytest.approx(np.mean(value))
    for name, low, high in (("0.10 to 0.20", 0.1, 0.2), ("0.40 and more", 0.4, 9)):
        inside = [vote == better for vote, better, gap in told if low <= round(gap, 9) < high]
        if inside:
            shown = found("reward_votes_by_gap", subject=f"{source}/{name}")
            assert shown.value == pytest.approx(np.mean(inside))
            assert shown.n == len(inside)
    turned = [swapped(pair) for pair, p_b, gap in both if gap and p_b != 0.5]
    sides = np.array([(vote != turn, better != turn) for (vote, better, _), turn in zip(told, turned, strict=True)])
    assert found.value("reward_votes_kappa", subject=source) == pytest.approx(cohen_kappa_score(*sides.T))


def swapped(pair: Preference) -> bool:
    """As DuckDB's md5_number_lower takes it."""
    return hashlib.md5(pair.id.encode()).digest()[8:][0] % 2 == 1


def bigrams(text: str) -> list[tuple[str, str]]:
    words = text.lower().split()
    return list(pairwise(words))


@pytest.mark.parametrize("sampler", ["warm", "hot", samples.ALL])
def test_diversity_of_samples(found: Audited, sampler: str) -> None:
    texts, distinct, overlap = [], [], []
    for prompt in sorted({answer.prompt for answer in ANSWERS}):
        own = [a for a in ANSWERS if a.prompt == prompt and sampler in (a.sampler, samples.ALL) and a.text]
        if len(own) > 1:
            texts.append(len({answer.text for answer in own}) / len(own))
        said = [grams for answer in own if (grams := bigrams(answer.text))]
        if len(said) > 1:
            flat = [gram for grams in said for gram in grams]
            distinct.append(len(set(flat)) / len(flat))
            pairs_of = list(combinations([set(grams) for grams in said], 2))
            overlap.append(2 * sum(len(x & y) for x, y in pairs_of) / sum(len(x) + len(y) for x, y in pairs_of))
    for name, values in (("sample_texts", texts), ("sample_bigrams", distinct), ("sample_overlap", overlap)):
        figure = found(name, subject=sampler)
        assert figure.value == pytest.approx(np.mean(values))
        assert figure.n == len(values)
        assert ("temperature 1.5" in figure.note) == (sampler == "hot")


def test_groups_are_those_of_the_view(found: Audited, root: Path) -> None:
    view = """
        SELECT source, count(*)::DOUBLE, sum(n)::INTEGER, avg(unanimous::INTEGER), avg(std)
        FROM groups GROUP BY source"""
    for source, count, members, unanimous, std in table(root, view):
        figure = found("reward_groups", subject=source)
        assert (figure.value, figure.n) == (count, members)
        assert found.value("reward_unanimous", subject=source) == pytest.approx(unanimous)
        assert found.value("reward_std", subject=source) == pytest.approx(std)
    assert found.value("reward_unanimous", subject="rubric") > 0
    assert found.value("reward_missing", subject="rubric") == pytest.approx(1 / len(ANSWERS))
    assert found.value("reward_readings", subject="rubric") == 7
    assert found.value("reward_label_mass", "j", subject="rubric") == 0.75
    hot = [answer.total("rule") for answer in ANSWERS if answer.sampler == "hot"]
    assert found.value("reward_mean", subject="rule/sampler hot") == pytest.approx(np.mean(hot))


def test_the_page_the_summary_and_the_json_show_them(root: Path) -> None:
    file = root.parent / "report.html"
    order = ["audit", RUN, "--warehouse", str(root), "--out", str(file), "--replicates", "100", "--json"]
    shown = json.loads(CliRunner().invoke(app, order).output)
    assert {"best_of", "reward_tau", "sample_overlap"} <= {row["figure"] for row in shown["figures"]}
    page = Page(file.read_text(encoding="utf-8"))
    assert differences(page, root) == []
    assert page.exhibits["best-of"].drawings == 4  # rewards and gold, by each of two sources
    assert {
        "reward-groups",
        "reward-unanimous",
        "reward-tau-gold",
        "reward-votes-by-gap",
        "sample-texts",
    } <= page.exhibits.keys()
    assert "Rewards and gold, rubric" in page.exhibits["headline"].text
    assert "answers with other words than those it is asked for" in summary(root, RUN)


def test_a_chain_without_samples(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    kinds: tuple[ResponseKind, ...] = ("initial", "revision", "revision")
    answers = [
        Answer(prompt, place, kind, None, f"answer {place}", {"rule": (float(draw.random()), 0.0)}, {})
        for prompt in range(9)
        for place, kind in enumerate(kinds)
    ]
    store(tmp_path, answers, [])
    found = Audited(tmp_path, RUN)
    gains = [answers[n + 2].total("rule") - answers[n].total("rule") for n in range(0, 27, 3)]
    figure = found("reward_gain", subject="rule")
    expected = estimate.mean(gains, np.arange(9), replicates=4000)
    assert figure.value == pytest.approx(np.mean(gains))
    assert figure.n == 9
    assert (figure.low, figure.high) == pytest.approx((expected.low, expected.high), abs=0.06)
    assert found.value("reward_mean", subject="rule/2") == pytest.approx(
        np.mean([a.total("rule") for a in answers[2::3]])
    )
    assert found("best_of").value is None
    assert found("sample_texts").value is None
    page = Page(report(tmp_path, RUN))
    assert differences(page, tmp_path) == []
    assert "Gain of the revisions" in page.exhibits["headline"].text


def test_the_gain_of_a_chain_that_starts_from_a_sample(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    kinds: tuple[ResponseKind, ...] = ("sample", "sample", "revision")
    answers = [
        Answer(prompt, place, kind, "a" if place < 2 else None, f"answer {place}", {"rule": (draw.random(), 0.0)}, {})
        for prompt in range(4)
        for place, kind in enumerate(kinds)
    ]
    store(tmp_path, answers, [])
    figure = Audited(tmp_path, RUN)("reward_gain", subject="rule")
    gains = [answers[n + 2].total("rule") - answers[n + 1].total("rule") for n in range(0, 12, 3)]
    assert figure.value == pytest.approx(np.mean(gains))
    assert figure.n == 4


def test_all_pairs_count_by_whatever_name_they_go(tmp_path: Path) -> None:
    named = [replace(pair, kind="best-worst" if n % 5 == 0 else "all") for n, pair in enumerate(PAIRS)]
    store(tmp_path / "named", ANSWERS, named, judge={"pairs": ["best-worst", "all"]})
    store(tmp_path / "some", ANSWERS, named, judge={"pairs": ["best-worst"]})
    store(tmp_path / "plain", ANSWERS, PAIRS)
    [of_named, of_plain] = [Audited(tmp_path / name, RUN) for name in ("named", "plain")]
    for name, subject in (("reward_tau", "rule/votes"), ("best_of_gain", "rule/votes")):
        figure, plain = of_named(name, subject=subject), of_plain(name, subject=subject)
        assert figure.n > 5
        assert (figure.value, figure.n) == (plain.value, plain.n)
    assert not [each for each in Audited(tmp_path / "some", RUN).figures if each.subject == "rule/votes"]


def test_labels_by_rewards_are_held_against_gold_and_taken_for_no_votes_or_probabilities(tmp_path: Path) -> None:
    unvoted = [replace(pair, votes=0, label_by="reward", p_mean=None) for pair in PAIRS]
    store(tmp_path, ANSWERS, unvoted, judge={"pairs": ["all"], "confirm": "reward"})
    found = Audited(tmp_path, RUN)
    assert found("alignment", subject="label").n > 50
    assert found("kappa").value is not None
    for name in ("brier", "ece", "reliability_observed"):
        [figure] = [each for each in found.figures if each.figure == name]
        assert (figure.value, figure.note) == (None, "labels by reward are no probabilities")
    # An order by rewards has no circles.
    assert found("cycles").value is None
    assert "by votes" in found("cycles").note
    assert found("reward_votes").value is None


def test_no_other_answer_is_in_the_place_of_samples_that_have_no_rewards_yet(tmp_path: Path) -> None:
    rewards: dict[RewardSource, tuple[float | None, float]] = {"rule": (0.5, 0.0)}
    answers = [
        Answer(0, 0, "initial", None, "one", rewards, {}),
        Answer(0, 1, "sample", "a", "two", {}, {}),
        Answer(1, 0, "initial", None, "three", rewards, {}),
    ]
    store(tmp_path, answers, [])
    assert table(tmp_path, "SELECT prompt_id, n FROM groups") == [(answers[2].prompt_id, 1)]


def test_without_rewards_nothing_is_empty_and_says_what_it_takes(tmp_path: Path) -> None:
    store(tmp_path, [Answer(n, 0, "initial", None, "one", {}, {}) for n in range(3)], [])
    found = Audited(tmp_path, RUN)
    [rewards] = [section for section in SECTIONS if section.name == "rewards"]
    assert {found(kind.name).note for kind in rewards.kinds} == {
        "the run has no rewards of answers: [reward] in the recipe"
    }
    assert {found(name).value for name in KINDS if name.startswith("sample_")} == {None}
    html = report(tmp_path, RUN)
    assert 'id="section-rewards"' not in html
    assert "the run has no rewards of answers" in html


def test_bigrams_of_many_samples_are_counted_for_a_draw_of_prompts(
    root: Path, found: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "TOKENS", 60)
    part = Audited(root, RUN)("sample_bigrams", subject=samples.ALL)
    assert 0 < part.n < found("sample_bigrams", subject=samples.ALL).n
    assert "prompts, drawn from 14" in part.note
