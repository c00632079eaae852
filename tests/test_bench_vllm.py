"""The pure parts of `make bench-vllm`; the rest of it needs vLLM."""

from __future__ import annotations

import random

from benchmarks.vllm_graph import Call, hit_rates, reusable


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
