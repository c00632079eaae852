"""The pure parts of `make bench-vllm`; the rest of it needs vLLM."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine_report import put_into
from benchmarks.vllm_graph import Call, hit_rates, reusable
from benchmarks.vllm_outcome import Outcome, agreement
from benchmarks.vllm_report import figures, page, table, verdicts
from benchmarks.vllm_shapes import ROOT, SHAPES, Job
from constitution.recipe import VLLMModel


def test_a_first_prompt_finds_nothing() -> None:
    assert reusable([Call([1, 2, 3, 4, 5])], block=2) == 0


def test_full_blocks_of_an_earlier_prompt_count() -> None:
    assert reusable([Call([1, 2, 3, 4, 5]), Call([1, 2, 3, 4, 9])], block=2) == 4
    assert reusable([Call([1, 2, 3, 4, 5]), Call([1, 2, 3, 9, 9])], block=2) == 2


def test_the_last_token_is_always_computed() -> None:
    """The same prompt again: its last block is full and known, and yet is read anew."""
    assert reusable([Call([1, 2, 3, 4]), Call([1, 2, 3, 4])], block=2) == 2
    assert reusable([Call([1]), Call([1])], block=1) == 0


def test_a_block_needs_all_that_is_before_it() -> None:
    assert reusable([Call([1, 2, 3, 4, 5]), Call([9, 9, 3, 4, 5])], block=2) == 0


def test_an_output_is_in_the_cache_but_for_its_last_token() -> None:
    chain = [Call([1, 2, 3], [4, 5, 6]), Call([1, 2, 3, 4, 5, 6, 7])]
    assert reusable(chain, block=2) == 4
    assert reusable(chain, block=1) == 5


def test_the_order_of_a_chain_matters() -> None:
    early, late = Call([1, 2], [3, 4]), Call([1, 2, 3, 4, 5])
    assert reusable([early, late], block=3) == 3
    assert reusable([late, early], block=3) == 0
    assert reusable([late, early], block=1) == 1


def test_rates() -> None:
    calls = [Call([1, 2, 3, 4], cached=0), Call([1, 2, 3, 5], cached=2)]
    assert hit_rates(calls, block=1) == (0.25, 0.375)
    assert hit_rates([], block=16) == (0.0, 0.0)


def test_agrees_with_comparing_every_pair() -> None:
    """Against the definition in full: the longest prefix in blocks that any earlier text has."""
    draw = random.Random(3)
    calls = [
        Call(draw.choices((1, 2), k=draw.randint(1, 14)), draw.choices((1, 2), k=draw.randint(0, 6))) for _ in range(60)
    ]
    for block in (1, 2, 3):
        expected = 0
        for place, call in enumerate(calls):
            earlier = [[*other.prompt, *other.output[:-1]] for other in calls[:place]]
            most = (len(call.prompt) - 1) // block
            expected += block * max(
                (
                    blocks
                    for blocks in range(most + 1)
                    for text in earlier
                    if len(text) >= blocks * block and text[: blocks * block] == list(call.prompt[: blocks * block])
                ),
                default=0,
            )
        assert reusable(calls, block) == expected


def outcome(seconds: float, cached: int, **more: Any) -> Outcome:
    return Outcome(seconds, 100, requests=300, prompt_tokens=1000, cached_tokens=cached, output_tokens=50, **more)


def found(ours: tuple[float, ...], cached: int) -> dict[str, Any]:
    script, floor = figures([outcome(10.0, 400)]), figures([outcome(8.0, 400)])
    return {
        "block": 16,
        "requests_allow": {"ours": 0.5, "script": 0.5},
        "agreement": {"chains": 1.0, "votes_shared": 1.0, "votes": 1.0},
        "contenders": {
            "ours": figures([outcome(seconds, cached) for seconds in ours]),
            "script": script,
            "floor": floor,
        },
    }


def test_verdicts_compare_medians() -> None:
    kept = verdicts(found((20.0, 9.0, 8.0), cached=450))
    assert [verdict.measured for verdict in kept] == pytest.approx([10 / 9, 0.9])
    assert all(verdict.passes for verdict in kept)
    broken = verdicts(found((11.0, 10.5, 8.0), cached=440))
    assert [verdict.passes for verdict in broken] == [False, False]


def test_the_report_shows_every_contender() -> None:
    results = found((5.0,), cached=500)
    assert "| ours | 20.00 | 2.000 |" in table(results)
    assert "| floor | 12.50 | 1.250 |" in table(results)
    about = {"date": "2026-01-02", "machine": "2 cores", "versions": {"vllm": "1"}, "prompts": 100, "shape": "a model"}
    text = page(about, results)
    assert "allow 50.0%" in text
    assert text.count("PASS") == 2
    put_into((ROOT / "docs" / "performance.md").read_text(), "bench-vllm", text)


def test_agreement_counts_what_both_said() -> None:
    one = outcome(1.0, 0, answers={"p": ["a"], "q": ["b"]}, votes={"v": 0.5, "w": 0.5})
    other = outcome(1.0, 0, answers={"p": ["a"], "q": ["c"]}, votes={"v": 0.5004, "x": 0.5})
    same = agreement(one, other)
    assert [same.chains, same.votes, same.votes_shared] == pytest.approx([0.5, 1.0, 1 / 3])
    assert agreement(one, one).chains == agreement(one, one).votes_shared == 1.0


@pytest.mark.parametrize("name", list(SHAPES))
def test_every_shape_makes_a_recipe(name: str, tmp_path: Path) -> None:
    job = Job(SHAPES[name], tmp_path, prompts=4, window=8, more={"block_size": 32})
    job.write()
    recipe = job.recipe()
    assert isinstance(recipe.model.policy, VLLMModel)
    assert recipe.model.policy.vllm["block_size"] == 32
    assert recipe.output.window == 8
    assert len((tmp_path / "prompts.jsonl").read_text().splitlines()) == 4
    if SHAPES[name].layers:
        assert recipe.model.policy.vllm["load_format"] == "dummy"
        assert (job.model / "tokenizer.json").exists()
