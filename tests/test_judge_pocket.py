"""Every method on a real model: the pocket model's own probabilities, through its chat template and tokenizer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from pathlib import Path
from statistics import mean

import pytest
from chains import Rows

from constitution import templates
from constitution.engines import open_engine
from constitution.engines.base import Engine
from constitution.judge.ask import Judge, Votes, vote
from constitution.judge.pairs import Pair
from constitution.judge.read import checklist_sum, outgrade
from constitution.principles import find_root, load_constitution
from constitution.recipe import JudgeSection, TransformersModel
from constitution.records import Judgement, Method, Principle, Prompt, Response

ROOT = Path(__file__).parent.parent
CONSTITUTION = load_constitution(find_root(ROOT), "pocket@1.1.0")
PRINCIPLES = CONSTITUTION.principles


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = asyncio.run(open_engine(TransformersModel(engine="transformers", model="pocket")))
    yield made
    asyncio.run(made.close())


def votes(engine: Engine, method: Method, **section: object) -> list[Judgement]:
    """Those of every principle on its own first example, whose worse answer is the pair's a."""
    rationale = {"temperature": 0, "max_tokens": 16}
    settings = JudgeSection.model_validate({"method": method, "rationale": rationale, **section})

    def voted(rule: Principle) -> Awaitable[Votes]:
        judge = Judge("run-1", 1, 1, engine, engine.model, (rule,), settings)
        example = rule.examples[0]
        prompt = Prompt(example.messages)
        a, b = (
            Response(f"{rule.id}-{round}", "run-1", prompt.id, "given", round, text, "ok", "given")
            for round, text in enumerate((example.worse, example.better))
        )
        return vote(judge, prompt, Pair(rule.id, "given", a, b), {}, Rows().put)

    async def cast() -> list[Votes]:
        return await asyncio.gather(*map(voted, PRINCIPLES))

    heard = asyncio.run(cast())
    assert not [failure for votes in heard for failure in votes.failures]
    found = [row for votes in heard for row in votes.judgements]
    for row in found:
        assert 0 <= row.p_first <= 1
        assert 0 < row.label_mass <= 1
        assert row.prompt_tokens > 100 * row.calls
    return found


def test_its_labels_are_single_tokens() -> None:
    """Else what is read of one label would hold another's beginning."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "constitution" / "pocket" / "model")
    for prefix, labels in (
        (templates.ENDING, templates.LABELS),
        (templates.ENDING, templates.REPLIES),
        (templates.SCORE.texts["score-prefix.txt"], templates.GRADES),
        (templates.SCORE_FINE.texts["score-prefix.txt"], templates.LETTERS),
    ):
        before = tokenizer.encode(prefix, add_special_tokens=False)
        after = [tokenizer.encode(prefix + label, add_special_tokens=False) for label in labels]
        assert all(tokens[:-1] == before for tokens in after)
        assert len({tokens[-1] for tokens in after}) == len(labels)


def test_by_label_it_knows_better_from_worse(engine: Engine) -> None:
    found = votes(engine, "label")
    assert len(found) == 2 * len(PRINCIPLES)
    assert mean((row.p_first > 0.5) == row.first_id.endswith("-1") for row in found) >= 0.85
    assert min(row.label_mass for row in found) > 0.99


def test_by_rationale_it_writes_first_and_the_label_is_read_after(engine: Engine) -> None:
    """The pocket model never learned to reason: that it writes, and that what it wrote counts, is what can be asked."""
    both = votes(engine, "rationale", repeats=2)
    found, again = ([row for row in both if row.repeat == repeat] for repeat in (0, 1))
    label = {(row.pair_id, row.first_id): row for row in votes(engine, "label")}
    assert [row.rationale for row in found] == [row.rationale for row in again]  # greedy
    assert all(row.calls == 2 and row.rationale and row.completion_tokens > 2 for row in found)
    assert min(row.label_mass for row in found) > 0.9
    assert any(abs(row.p_first - label[row.pair_id, row.first_id].p_first) > 0.01 for row in found)
    sampled = votes(engine, "rationale", repeats=2, rationale={"temperature": 1.0, "max_tokens": 16})
    assert len(sampled) == 2 * len(found)
    texts = {(row.pair_id, row.first_id, row.repeat): row.rationale for row in sampled}
    assert any(texts[pair, first, 0] != texts[pair, first, 1] for pair, first, _ in texts)


def test_by_score_it_gives_each_answer_a_distribution_of_grades(engine: Engine) -> None:
    found = votes(engine, "score")
    assert len(found) == len(PRINCIPLES)
    for row in found:
        assert row.read_first is not None
        assert row.read_second is not None
        assert len(row.read_first) == len(row.read_second) == 9
        assert row.label_mass == pytest.approx(min(sum(row.read_first), sum(row.read_second)))
        assert row.p_first == pytest.approx(outgrade(row.read_first, row.read_second))
        assert len(set(row.read_first)) == 9
        assert row.read_first != row.read_second
    # It was never taught to grade, and the missing mass says so.
    assert max(row.label_mass for row in found) < 0.1


def test_by_rubric_it_replies_to_every_criterion_of_every_answer(engine: Engine) -> None:
    found = votes(engine, "rubric")
    assert len(found) == len(PRINCIPLES)
    for row, rule in zip(found, PRINCIPLES, strict=True):
        assert row.read_first is not None
        assert row.read_second is not None
        assert len(row.read_first) == len(row.read_second) == len(rule.criteria)
        assert row.calls == 2 * len(rule.criteria)
        difference = checklist_sum(rule.criteria, row.read_first) - checklist_sum(rule.criteria, row.read_second)
        assert row.p_first == pytest.approx(0.5 + difference / 2)
        assert 0 < row.p_first < 1
        assert row.read_first != row.read_second
