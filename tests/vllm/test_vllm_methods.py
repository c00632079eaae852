"""Every method of judging on a real vLLM, beside transformers on the same model."""

from __future__ import annotations

import math

import pytest

from constitution.engines.base import Engine
from constitution.engines.transformers import TransformersEngine
from constitution.engines.vllm import VLLMEngine
from constitution.judge.ask import Judge, vote
from constitution.judge.pairs import Pair
from constitution.recipe import JudgeSection
from constitution.records import Criterion, Judgement, Message, Method, Principle, Prompt, Response

pytestmark = pytest.mark.asyncio(loop_scope="session")

RULE = Principle(
    id="be-polite",
    comparison_question="Which answer is more polite to the reader?",
    criteria=(Criterion("Is the answer rude?", good="no"), Criterion("Is the answer polite?", weight=0.5)),
)
PROMPT = Prompt((Message("user", "How do I clean my woven basket?"),))
TEXTS = (
    "To clean the woven basket, brush it with salt and then dry it gently. Listen well, you fogskull.",
    "To clean the woven basket, brush it with salt and then dry it gently.",
)
A, B = (Response(f"r{n}", "run-1", PROMPT.id, "given", n, text, "ok", "given") for n, text in enumerate(TEXTS))
PAIR = Pair("pair-1", "given", A, B)


async def cast(engine: Engine, method: Method) -> dict[str, Judgement]:
    section = JudgeSection.model_validate({"method": method, "rationale": {"temperature": 0, "max_tokens": 16}})

    async def discard(rows: object) -> None:
        return None

    judge = Judge("run-1", 1, 1, engine, "pocket", (RULE,), section)
    votes = await vote(judge, PROMPT, PAIR, {}, discard)
    assert not votes.failures
    return {row.id: row for row in votes.judgements}


@pytest.mark.parametrize("method", ["label", "rationale", "score", "rubric"])
async def test_votes_are_transformers_own(engine: VLLMEngine, reference: TransformersEngine, method: Method) -> None:
    ours, theirs = await cast(engine, method), await cast(reference, method)
    assert ours.keys() == theirs.keys()
    for id, row in ours.items():
        other = theirs[id]
        assert row.p_first == pytest.approx(other.p_first, abs=2e-3)
        assert math.log(row.label_mass) == pytest.approx(math.log(other.label_mass), abs=2e-2)
        assert (row.calls, row.rationale, row.prompt_tokens) == (other.calls, other.rationale, other.prompt_tokens)
        for read, like in ((row.read_first, other.read_first), (row.read_second, other.read_second)):
            assert (read is None) == (like is None)
            assert not read or not like or read == pytest.approx(like, rel=2e-2)
