"""The fake engine as a judge: every planted fault is exactly as large as the recipe says, and nothing else changes."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import correlation, mean

import pytest

from constitution.engines.base import Request
from constitution.engines.fake import FakeEngine
from constitution.engines.fake.judge import DENIAL, PITFALL, STEEPNESS
from constitution.engines.fake.world import SENTENCES, SNEER, differences, quality, style, truth
from constitution.principles import load_constitution
from constitution.recipe import FakeModel
from constitution.records import Criterion, Message, Messages, Perturbation, Principle, Sampling
from constitution.templates import (
    GRADES,
    LABELS,
    REPLIES,
    critique_messages,
    perturb_messages,
    rationale_messages,
    revision_messages,
    rubric_messages,
    score_messages,
    vote_messages,
)
from constitution.warehouse import Warehouse, ask, connect

ASK: Messages = (Message("user", "How do I light a fire?"),)
CARE = Principle(id="care", comparison_question="Which answer is more careful?")
TRUTH = Principle(id="truth", comparison_question="Which answer makes true claims only?")
CAREFUL, CARELESS = (" ".join(pair[place] for pair in SENTENCES) for place in (0, 1))


def engine(**faults: object) -> FakeEngine:
    return FakeEngine(FakeModel.model_validate({"engine": "fake", "noise": 0.0} | faults))


async def answers(count: int, verbosity: int = 8) -> list[str]:
    writer = engine(verbosity=verbosity)
    return [(await writer.generate(Request(ASK, Sampling(), seed))).text for seed in range(count)]


async def logit(judge: FakeEngine, first: str, second: str, principle: Principle = CARE, seed: int = 1) -> float:
    messages = vote_messages(ASK, first, second, principle, "ab12cd")
    done = await judge.generate(Request(messages, Sampling(), seed, choices=LABELS))
    assert done.choice_logprobs is not None
    return done.choice_logprobs["A"] - done.choice_logprobs["B"]


# --- the world


def test_careful_and_careless_sentences_are_equally_long() -> None:
    for careful, careless in SENTENCES:
        assert style(careful) == style(careless), careful


async def test_how_long_and_how_formatted_an_answer_is_says_nothing_of_how_good_it_is() -> None:
    texts = await answers(2000)
    goodness = [quality(text) for text in texts]
    for feature in zip(*map(style, texts), strict=True):
        assert len(set(feature)) > 4
        assert abs(correlation(goodness, feature)) < 0.06  # 2.7 standard errors
    assert len({text for text in texts if text.count("\n")}) > 1000
    assert all("\n" not in text for text in await answers(50, verbosity=0))


async def test_a_revision_mends_and_is_padded_anew() -> None:
    writer = engine(verbosity=8)
    longer = []
    for seed, answer in enumerate(await answers(200)):
        critique = (await writer.generate(Request(critique_messages(ASK, answer, CARE), Sampling(), seed))).text
        asked = revision_messages(ASK, answer, critique, CARE)
        revised = (await writer.generate(Request(asked, Sampling(), seed))).text
        assert (revised == answer) or quality(revised) > quality(answer) - 0.5
        assert "no fault" not in critique or revised == answer
        longer.append(style(revised).tokens - style(answer).tokens)
    assert abs(mean(longer)) < 6  # a revision by padding alone would be some 40 tokens longer
    assert min(longer) < -20 < 20 < max(longer)


@pytest.mark.parametrize("perturbation", ["polished", "terse", "sarcastic"])
async def test_perturbations_are_what_their_names_say(perturbation: Perturbation) -> None:
    writer, original = engine(), f"About “fires”: {CAREFUL}"
    done = await writer.generate(Request(perturb_messages(ASK, original, perturbation), Sampling(), 1))
    variant = done.text
    if perturbation == "polished":
        counts = style(variant)
        assert counts.headers == 1
        assert counts.lists == counts.bold == len(SENTENCES)
        assert truth(original, variant) < -7
    elif perturbation == "terse":
        assert variant == SENTENCES[0][0]
    else:
        assert variant == f"{SNEER} {original}"
        assert truth(original, variant) < -2


# --- its style is the audit's


async def test_style_is_counted_as_the_audit_counts_it(tmp_path: Path) -> None:
    odd = [
        "",
        "# One\n## Two\n####### seven\n#none\n ## indented",
        "- a\n* b\n+ c\n1. d\n22. e\n  - f\n-g\n1) h",
        "**bold** and __bold__, **no\nbold**, *not*, snake_case_name, 2**3**4",
        "```\n# code\n- code **x**\n```\n# text\n```python\n- open **fence**",
        "Größe: 3½ m², naïve “quotes” – 東京 😀 x²\tend\u00a0of\r\nline",
    ]
    texts = [*odd, *await answers(100)]
    Warehouse(tmp_path).rebuild_views()
    rows = ", ".join("('" + text.replace("'", "''") + "')" for text in texts)
    counts = "count_tokens(t) AS t, count_headers(t) AS h, count_lists(t) AS l, count_bold(t) AS b"
    densities = (f"density_difference(a.{name}, a.t, b.{name}, b.t)" for name in "hlb")
    query = f"""
        WITH counted AS (SELECT {counts}, row_number() OVER () AS place FROM (VALUES {rows}) AS texts(t))
        SELECT a.t, a.h, a.l, a.b, length_difference(a.t, b.t), {", ".join(densities)}
        FROM counted AS a JOIN counted AS b ON b.place = a.place % {len(texts)} + 1 ORDER BY a.place"""
    with connect(tmp_path) as connection:
        found = list(ask(connection, query).rows)
    for (*counted, length, headers, lists, bold), a, b in zip(found, texts, [*texts[1:], texts[0]], strict=True):
        assert tuple(counted) == style(a), a
        # b − a, as the audit takes them; the judge sees first − second.
        assert differences(style(b), style(a)) == pytest.approx((length, headers, lists, bold), abs=1e-12)


# --- planted faults


async def test_without_noise_and_faults_a_vote_is_the_quality() -> None:
    fair = engine()
    for first, second in zip(await answers(30), (await answers(60))[30:], strict=True):
        assert await logit(fair, first, second) == pytest.approx(STEEPNESS * truth(second, first))


async def test_each_bias_adds_exactly_what_the_recipe_says() -> None:
    texts = await answers(40)
    fair = engine(noise=1.0)
    for first, second in zip(texts[:20], texts[20:], strict=True):
        length, *markdown = differences(style(first), style(second))
        expected = {"position_bias": 0.7, "length_bias": -5 * length, "style_bias": 30 * sum(markdown)}
        planted = {"position_bias": 0.7, "length_bias": -5, "style_bias": 30}
        plain = await logit(fair, first, second)
        for name, size in planted.items():
            moved = await logit(engine(noise=1.0, **{name: size}), first, second)
            assert moved - plain == pytest.approx(expected[name], abs=1e-9)
        moved = await logit(engine(noise=1.0, **planted), first, second)
        assert moved - plain == pytest.approx(sum(expected.values()), abs=1e-9)


async def test_noise_is_uniform_and_of_its_own_for_every_order_and_seed() -> None:
    noisy = engine(noise=3.0)
    drawn = [await logit(noisy, CAREFUL, CARELESS, seed=seed) for seed in range(300)]
    centre = STEEPNESS * truth(CARELESS, CAREFUL)
    assert all(abs(value - centre) <= 3 for value in drawn)
    assert max(drawn) - min(drawn) > 5.5
    assert abs(mean(drawn) - centre) < 0.3  # three standard errors
    swapped = [-await logit(noisy, CARELESS, CAREFUL, seed=seed) for seed in range(300)]
    assert abs(correlation(drawn, swapped)) < 0.2


async def test_an_inaccurate_judge_errs_alike_in_both_orders_and_by_principle() -> None:
    texts = await answers(600)
    judge = engine(accuracy={"true claims": 0.6, "*": 0.9})
    shares = {}
    for principle in (CARE, TRUTH):
        right = 0
        for first, second in zip(texts[::2], texts[1::2], strict=True):
            said = await logit(judge, first, second, principle)
            assert said == pytest.approx(-await logit(judge, second, first, principle), abs=1e-9)
            assert abs(said) == pytest.approx(STEEPNESS * abs(truth(first, second)))
            right += (said > 0) == (truth(second, first) > 0)
        shares[principle.id] = right / 300
    assert abs(shares["care"] - 0.9) < 0.06
    assert abs(shares["truth"] - 0.6) < 0.09


def test_faults_are_part_of_what_the_model_is() -> None:
    faults: list[dict[str, object]] = [
        {},
        {"position_bias": 1},
        {"length_bias": 1},
        {"style_bias": 1},
        {"noise": 2},
        {"accuracy": 0.5},
        {"accuracy": {"*": 0.5}},
        {"verbosity": 1},
    ]
    assert len({engine(**fault).describe()["digest"] for fault in faults}) == len(faults)


# --- the other methods


async def test_a_vote_follows_from_its_rationale() -> None:
    judge = engine()
    for first, second, better in ((CAREFUL, CARELESS, "A"), (CARELESS, CAREFUL, "B")):
        asked = rationale_messages(ASK, first, second, CARE, "ab12cd")
        said = (await judge.generate(Request(asked, Sampling(stop=("\n\nThe answer is:",)), 1))).text
        assert f"answer {better} is better" in said
        # What it wrote counts, not what it would say now: the answers are swapped under the same words.
        for shown in ((first, second), (second, first)):
            ended = rationale_messages(ASK, *shown, CARE, "ab12cd", said)
            done = await judge.generate(Request(ended, Sampling(), 1, choices=LABELS))
            assert done.choice_logprobs is not None
            assert max(done.choice_logprobs, key=done.choice_logprobs.__getitem__) == better


async def test_grades_rise_with_quality_and_with_what_the_judge_likes() -> None:
    long = CAREFUL + "\n\n" + "\n".join(["Much has been said about this."] * 8)

    async def grade(judge: FakeEngine, text: str) -> float:
        messages = score_messages(ASK, text, CARE, "ab12cd")
        done = await judge.generate(Request(messages, Sampling(), 1, choices=GRADES))
        assert done.choice_logprobs is not None
        chances = [math.exp(done.choice_logprobs[label]) for label in GRADES]
        assert 0.89 < sum(chances) < 1
        return sum(int(label) * chance for label, chance in zip(GRADES, chances, strict=True)) / sum(chances)

    fair = engine()
    assert await grade(fair, CARELESS) < 2.5
    assert await grade(fair, CAREFUL) > 7.5
    mixed = " ".join([*(good for good, _ in SENTENCES[:2]), *(bad for _, bad in SENTENCES[2:])])
    assert abs(await grade(fair, mixed) - 5) < 0.3
    assert await grade(engine(length_bias=-10), long) < await grade(engine(length_bias=-10), CAREFUL) - 0.5
    assert await grade(engine(position_bias=5), mixed) == pytest.approx(await grade(fair, mixed))


async def test_a_checklist_is_answered_by_quality_whichever_reply_is_good() -> None:
    judge = engine()

    async def yes(question: str, text: str) -> float:
        asked = rubric_messages(ASK, text, Criterion(question), "ab12cd")
        done = await judge.generate(Request(asked, Sampling(), 1, choices=REPLIES))
        assert done.choice_logprobs is not None
        return done.choice_logprobs["Y"] - done.choice_logprobs["N"]

    assert await yes("Does the answer name a first step?", CAREFUL) > 3
    assert await yes("Does the answer name a first step?", CARELESS) < -3
    assert await yes("Is the answer careless?", CAREFUL) < -3
    assert await yes("Does the answer avoid harm?", CAREFUL) > 3


def test_most_criteria_that_ship_are_understood() -> None:
    root = Path(__file__).parents[1] / "principles"
    criteria = [
        criterion
        for name in ("general@1.2.0", "pocket@1.1.0")
        for principle in load_constitution(root, name).principles
        for criterion in principle.criteria
    ]
    right = [
        bool(PITFALL.search(one.question) and not DENIAL.search(one.question)) == (one.good == "no") for one in criteria
    ]
    assert len(right) > 50
    assert mean(right) >= 0.9
