"""The same recipe on vLLM's CPU build, in process and served, beside transformers: greedy texts and votes.

Texts agree where no choice of a token was near a tie: the engines add in another order, and what is rounded otherwise
turns the next token where two are within a thousandth of each other. So one text in twelve may differ, and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from real_model import FOLDER, NAME, PROMPTS, STEPS, WRITTEN, Heard, judging, p_first, question, rows, run, section
from vllm_cpu import serving

from constitution.audit import audit
from constitution.engines import Engine, open_engine
from constitution.records import Failure, Judgement, Response, Run
from constitution.warehouse import ask, connect

pytestmark = pytest.mark.asyncio(loop_scope="session")

ARGUMENTS: dict[str, Any] = {"dtype": "float32", "enforce_eager": True, "max_model_len": 4096, "max_num_seqs": 16}
LOGPROB = 2e-3
"""By so much a label's log-probability may differ between engines, natural log."""
DIFFERENT = 1 / 12
"""Share of greedy texts that may differ between engines."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def in_process() -> AsyncIterator[Engine]:
    opened = await open_engine(section("vllm").model_copy(update={"vllm": ARGUMENTS}))
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    table = {**ARGUMENTS, "model": FOLDER, "enable_chunked_prefill": False, "distributed_executor_backend": "uni"}
    with serving(NAME, table, tmp_path_factory.mktemp("server") / "log") as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(address: str) -> AsyncIterator[Engine]:
    opened = await open_engine(section("openai", address))
    yield opened
    await opened.close()


async def whole(engine: Engine, warehouse: Path) -> tuple[Run, Heard, dict[tuple[str, int], Response]]:
    """The whole recipe: run, what was asked, and answers by prompt and round."""
    made, heard = await run(engine, warehouse)
    assert made.finished_at
    assert (made.counts["done"], made.counts["open"], made.counts["lost"]) == (PROMPTS, 0, 0)
    stored = rows(warehouse, made.run_id)
    assert not [row for row in stored if isinstance(row, Failure)]
    answers = {(row.prompt_id, row.round): row for row in stored if isinstance(row, Response)}
    assert len(answers) == PROMPTS * 2
    votes = [row for row in stored if isinstance(row, Judgement)]
    assert sorted(row.label_mass for row in votes)[len(votes) // 2] > 0.5
    assert not any(row.censored for row in votes)
    # Requests of a prompt begin alike, and the cache has what they share.
    assert sum(row.cached_tokens for row in votes) > 0
    assert len(audit(warehouse, made.run_id, replicates=50)) > 10
    return made, heard, answers


async def test_in_process_and_served_and_transformers_agree(
    tmp_path: Path, in_process: Engine, served: Engine, transformers_engine: Engine
) -> None:
    ours, heard, answers = await whole(in_process, tmp_path / "vllm")
    theirs, _, others = await whole(served, tmp_path / "served")
    assert ours.models["policy"]["engine"] == "vllm"
    assert theirs.models["policy"]["engine"] == "openai"
    assert answers.keys() == others.keys()
    assert [row.principle_id for row in answers.values()] == [others[key].principle_id for key in answers]
    first = [key for key in answers if key[1] == 0]
    assert differing([answers[key].text for key in first], [others[key].text for key in first]) <= DIFFERENT
    # A chain that parted reads other texts from there on, so what was asked in process is asked again elsewhere.
    texts = [pair for pair in heard if not pair[0].choices]
    votes = [pair for pair in heard if pair[0].choices]
    assert {request.step.partition("-")[0] for request, _ in texts} == set(STEPS)
    assert len(votes) > PROMPTS
    for engine, asked in ((served, texts), (transformers_engine, texts[: 2 * PROMPTS])):
        again = await asyncio.gather(*(engine.generate(request) for request, _ in asked))
        assert differing([done.text for _, done in asked], [done.text for done in again]) <= DIFFERENT
        assert [done.prompt_tokens for _, done in asked] == [done.prompt_tokens for done in again]
    for engine, asked in ((served, votes), (transformers_engine, votes[:PROMPTS])):
        again = await asyncio.gather(*(engine.generate(request) for request, _ in asked))
        for (request, done), other in zip(asked, again, strict=True):
            assert other.choice_logprobs == pytest.approx(done.choice_logprobs, abs=LOGPROB)
            assert p_first(request, other) == pytest.approx(p_first(request, done), abs=LOGPROB)


def differing(texts: list[str], others: list[str]) -> float:
    assert len(set(texts)) > len(texts) / 2, "a model that always says the same"
    return sum(one != other for one, other in zip(texts, others, strict=True)) / len(texts)


async def test_labels_of_several_tokens_agree(in_process: Engine, transformers_engine: Engine) -> None:
    """Served labels are of one token (docs/engines.md); in process they are of any length."""
    request = question("Is it so?", "The answer is: (", choices=("A", " unbelievably", "é", "🏦"))
    ours, theirs = await in_process.generate(request), await transformers_engine.generate(request)
    assert ours.choice_logprobs == pytest.approx(theirs.choice_logprobs, abs=2 * LOGPROB)


async def test_a_form_that_the_server_enforces_makes_every_verdict_whole(address: str, tmp_path: Path) -> None:
    """By vLLM's own field, in `extra_body`: so even a model that keeps to no form votes by written verdicts."""
    form = r"[A-Z][a-z ,]{8,60}\.\nVerdict: (A|B|tie)"
    model = section("openai", address).model_copy(update={"extra_body": {"structured_outputs": {"regex": form}}})
    settings = [*judging(tmp_path), "judge.method=verdict", "judge.verdict.n=3", f"judge.verdict.max_tokens={WRITTEN}"]
    engine = await open_engine(model)
    try:
        made, _ = await run(engine, tmp_path / "warehouse", settings)
    finally:
        await engine.close()
    assert (made.counts["done"], made.counts["lost"]) == (2, 0)
    with connect(tmp_path / "warehouse") as connection:
        votes = list(ask(connection, "SELECT p_first, rationale, repeat FROM judgements").rows)
    assert len(votes) == 2 * 2 * 3
    said = {1: "A", 0: "B", 0.5: "tie"}
    assert all(rationale.endswith(f"Verdict: {said[p]}") for p, rationale, _ in votes)
    assert len({rationale for _, rationale, _ in votes}) > 6, "each with another seed"
