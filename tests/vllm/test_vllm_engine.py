"""The in-process engine on a real vLLM, beside transformers on the same model."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from real_vllm import CONTEXT

from constitution.engines.base import Completion, Request
from constitution.engines.transformers import TransformersEngine
from constitution.engines.vllm import VLLMEngine
from constitution.engines.weights import POCKET, folder_digest
from constitution.errors import ContextTooLong, RequestRefused
from constitution.recipe import TransformersModel
from constitution.records import Message, Messages, Sampling

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREFIX = Message("assistant", "The answer is: (")
GREEDY = Sampling(temperature=0.0, max_tokens=64)


def user(text: str) -> Messages:
    return (Message("user", text),)


def outcome(completion: Completion) -> tuple[str, str, int]:
    return completion.text, completion.finish_reason, completion.completion_tokens


def rambling(place: int, max_tokens: int, priority: int = 0) -> Request:
    """So hot that hardly any token ends it."""
    messages = (*user(f"Go on about candle {place}."), Message("assistant", "It"))
    return Request(messages, Sampling(temperature=2.0, max_tokens=max_tokens), seed=place, priority=priority)


async def until(engine: VLLMEngine, **figures: int) -> None:
    """Wait until vLLM's own figures are these at the least."""
    for _ in range(1000):
        if all(engine.stats()[name] >= figure for name, figure in figures.items()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not {figures} but {engine.stats()}")


async def all_of(engine: VLLMEngine | TransformersEngine, requests: list[Request]) -> list[Completion]:
    return list(await asyncio.gather(*map(engine.generate, requests)))


async def test_greedy_text_is_transformers_own(
    engine: VLLMEngine, reference: TransformersEngine, conversations: list[Messages]
) -> None:
    requests = [Request(messages, GREEDY, seed=1) for messages in conversations]
    # Cut answers, a text that spells a control token, and turns that the template wants merged.
    requests += [Request(messages, Sampling(temperature=0, max_tokens=5), seed=1) for messages in conversations[:6]]
    requests += [Request((*user("Say <|end|> please."), *user("And more.")), GREEDY, seed=1)]
    ours, theirs = await all_of(engine, requests), await all_of(reference, requests)
    assert [outcome(each) for each in ours] == [outcome(each) for each in theirs]
    assert [each.prompt_tokens for each in ours] == [each.prompt_tokens for each in theirs]
    assert {each.finish_reason for each in ours} == {"stop", "length"}
    assert len({each.text for each in ours}) > 30


async def test_a_prefix_is_continued_to_the_letter(
    engine: VLLMEngine, reference: TransformersEngine, conversations: list[Messages]
) -> None:
    prefixes = ["To carry", "To carry ", "  For the", "I cannot help with", "Yes.\n"]
    requests = [
        Request((*messages, Message("assistant", prefixes[place % 5])), GREEDY, seed=1)
        for place, messages in enumerate(conversations[:20])
    ]
    ours, theirs = await all_of(engine, requests), await all_of(reference, requests)
    assert [outcome(each) for each in ours] == [outcome(each) for each in theirs]


async def test_stop_strings_end_the_text_before_them(
    engine: VLLMEngine, reference: TransformersEngine, conversations: list[Messages]
) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=64, stop=(" it", "not h"))
    requests = [Request(messages, sampling, seed=1) for messages in conversations[:24]]
    ours, theirs = await all_of(engine, requests), await all_of(reference, requests)
    assert [(each.text, each.finish_reason) for each in ours] == [(each.text, each.finish_reason) for each in theirs]
    free = await all_of(engine, [Request(messages, GREEDY, seed=1) for messages in conversations[:24]])
    cut = [(short.text, long.text) for short, long in zip(ours, free, strict=True) if short.text != long.text]
    assert len(cut) >= 5
    assert all(long.startswith(short) for short, long in cut)


async def test_choice_log_probabilities_are_exact(
    engine: VLLMEngine, reference: TransformersEngine, conversations: list[Messages]
) -> None:
    labels = ("A", "B", "both of them", "both are bad", "neither")
    requests = [
        Request((*messages, PREFIX), Sampling(temperature=temperature, max_tokens=1), seed=1, choices=labels)
        for temperature, messages in zip((0.0, 1.0, 0.3) * 8, conversations, strict=False)
    ]
    ours, theirs = await all_of(engine, requests), await all_of(reference, requests)
    chat = engine._chat
    assert max(len(chat.label(requests[0].messages, label)) for label in labels) > 2
    for mine, other, request in zip(ours, theirs, requests, strict=True):
        assert mine.choice_logprobs == pytest.approx(other.choice_logprobs, abs=1e-3)
        assert mine.choice_logprobs is not None
        assert list(mine.choice_logprobs) == list(labels)
        # What is missing from one is the rest of the vocabulary's, and is not spread over the labels.
        assert 0 < sum(map(math.exp, mine.choice_logprobs.values())) < 0.999
        if not request.sampling.temperature:
            assert mine.text == other.text


async def test_labels_of_one_token_cost_one_request(engine: VLLMEngine, conversations: list[Messages]) -> None:
    request = Request((*conversations[0], PREFIX), GREEDY, seed=1, choices=("A", "B"))
    length = len(engine._chat.encode(request.messages))
    done = await engine.generate(request)
    assert (done.prompt_tokens, done.completion_tokens) == (length, 1)
    long = Request(request.messages, GREEDY, seed=1, choices=("A", "both of them"))
    done = await engine.generate(long)
    # One for each beginning of the longer label: the tokens of all of them are counted, as vLLM computed them.
    tokens = len(engine._chat.label(long.messages, "both of them"))
    assert tokens > 1
    assert done.completion_tokens == tokens
    assert done.prompt_tokens == sum(length + place for place in range(tokens))


async def test_an_answer_depends_on_its_seed_and_not_on_its_company(
    engine: VLLMEngine, conversations: list[Messages]
) -> None:
    samplings = [Sampling(temperature=1.0, max_tokens=40), Sampling(temperature=0.7, top_p=0.8, max_tokens=30)]
    requests = [
        Request(messages, samplings[place % 2], seed=100 + place) for place, messages in enumerate(conversations[:16])
    ]
    alone = [await engine.generate(request) for request in requests[:6]]
    together = await all_of(engine, [*requests, *reversed(requests)])
    assert [outcome(each) for each in together[:6]] == [outcome(each) for each in alone]
    assert [outcome(each) for each in together[:16]] == [outcome(each) for each in together[:15:-1]]
    others = await all_of(engine, [Request(each.messages, each.sampling, each.seed + 1) for each in requests])
    assert [each.text for each in others] != [each.text for each in together[:16]]


async def test_urgent_requests_run_first(engine: VLLMEngine) -> None:
    """When places become free, the more urgent ones that came last get them."""
    order: list[int] = []

    async def one(place: int, priority: int) -> None:
        await engine.generate(rambling(place, 24, priority))
        order.append(priority)

    blockers = [asyncio.create_task(engine.generate(rambling(place, 1500))) for place in range(32)]
    await until(engine, running=30)
    waiting = [asyncio.create_task(one(100 + place, 9)) for place in range(64)]
    waiting += [asyncio.create_task(one(200 + place, 1)) for place in range(32)]
    await until(engine, waiting=80)
    for blocker in blockers:
        blocker.cancel()
    await asyncio.gather(*waiting)
    mean = {kind: fmean(place for place, each in enumerate(order) if each == kind) for kind in (1, 9)}
    # 16 and 64 if all were equally long; 80 and 32 if they ran in the order in which they came.
    assert mean[9] - mean[1] > 30


async def test_a_shared_beginning_is_read_once(engine: VLLMEngine) -> None:
    before = engine.stats()
    shared = "The salted candle stands on the gilded table of the tower. " * 30
    first = await engine.generate(Request(user(f"{shared} Where?"), GREEDY, seed=1))
    second = await engine.generate(Request(user(f"{shared} Why?"), GREEDY, seed=1))
    assert first.cached_tokens == 0
    assert 128 <= second.cached_tokens < second.prompt_tokens
    assert second.prompt_tokens - second.cached_tokens < 256
    after = engine.stats()
    assert after["prefix_hits"] - before["prefix_hits"] == second.cached_tokens
    assert after["prefix_queries"] - before["prefix_queries"] == first.prompt_tokens + second.prompt_tokens
    assert after["prefix_hit_rate"] == round(after["prefix_hits"] / after["prefix_queries"], 4)


async def test_its_figures(engine: VLLMEngine) -> None:
    tasks = [asyncio.create_task(engine.generate(rambling(place, 48))) for place in range(96)]
    most, waiting = 0, 0
    while not all(task.done() for task in tasks):
        stats = engine.stats()
        most, waiting = max(most, stats["running"]), max(waiting, stats["waiting"])
        await asyncio.sleep(0.005)
    assert 16 < most <= 32
    assert waiting > 0
    stats = engine.stats()
    assert (stats["running"], stats["waiting"]) == (0, 0)
    assert stats["most_running"] == 32
    assert 0 <= stats["kv_cache_usage"] <= 1
    assert stats["preemptions"] >= 0


async def test_a_cancelled_request_frees_its_place(engine: VLLMEngine) -> None:
    sampling = Sampling(temperature=2.0, max_tokens=1500)
    tasks = [
        asyncio.create_task(
            engine.generate(Request((*user("Go on."), Message("assistant", "It")), sampling, seed=place))
        )
        for place in range(64)
    ]
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert any(task.cancelled() for task in tasks)
    assert engine._core.in_flight == 0
    assert engine._core._llm.output_processor.get_num_unfinished_requests() == 0
    done = await asyncio.wait_for(engine.generate(Request(user("Go on."), Sampling(max_tokens=4), seed=1)), 5)
    assert done.completion_tokens <= 4


async def test_the_context_is_a_limit(engine: VLLMEngine) -> None:
    with pytest.raises(ContextTooLong, match=str(CONTEXT)):
        await engine.generate(Request(user("candle " * CONTEXT), Sampling(max_tokens=1), seed=1))
    chat = engine._chat
    text = "candle "
    while len(chat.encode((*user(text + "candle "), Message("assistant", "It")))) < CONTEXT - 10:
        text += "candle "
    fitting = (*user(text), Message("assistant", "It"))
    length = len(chat.encode(fitting))
    done = await engine.generate(Request(fitting, Sampling(temperature=0, max_tokens=500), seed=1))
    assert done.prompt_tokens == length
    assert done.completion_tokens <= CONTEXT - length
    votes = Request((*user(text + "candle " * 20), PREFIX), GREEDY, seed=1, choices=("A", "both of them"))
    with pytest.raises(ContextTooLong):
        await engine.generate(votes)


@pytest.mark.parametrize(
    "fields",
    [{"sampling": Sampling(temperature=3.0, max_tokens=4)}, {"choices": ("A", "")}],
    ids=["temperature", "empty label"],
)
async def test_what_vllm_does_not_take_is_refused(engine: VLLMEngine, fields: dict[str, Any]) -> None:
    request = Request(**{"messages": (*user("x"), PREFIX), "sampling": GREEDY, "seed": 1, **fields})
    with pytest.raises(RequestRefused):
        await engine.generate(request)
    assert engine._core.in_flight == 0


async def test_what_it_says_of_its_model(engines: list[VLLMEngine], adapter: tuple[Path, Path]) -> None:
    plain, adapted = (dict(engine.describe()) for engine in engines)
    assert plain["digest"] == folder_digest(POCKET)
    assert (plain["name"], plain["engine"], plain["dtype"]) == ("pocket", "vllm", "float32")
    assert plain["max_model_len"] == str(CONTEXT)
    assert plain["vllm"][0].isdigit()
    assert plain["torch"][0].isdigit()
    assert adapted == {**plain, "name": "pocket+kind", "adapter": folder_digest(adapter[0])}
    assert engines[1].model == "pocket+kind"


async def test_an_adapter_answers_as_the_model_it_is_merged_into(
    engines: list[VLLMEngine], adapter: tuple[Path, Path], conversations: list[Messages]
) -> None:
    plain, adapted = engines
    assert plain._core is adapted._core
    merged = await TransformersEngine.open(TransformersModel(engine="transformers", model=str(adapter[1])))
    requests = [Request(messages, GREEDY, seed=1) for messages in conversations[:20]]
    ours, base, theirs = [await all_of(each, requests) for each in (adapted, plain, merged)]
    await merged.close()
    assert sum(mine.text != other.text for mine, other in zip(ours, base, strict=True)) >= 5
    assert [outcome(each) for each in ours] == [outcome(each) for each in theirs]


async def test_the_token_after_an_answer_is_read_as_transformers_reads_it(
    engine: VLLMEngine, reference: TransformersEngine, conversations: list[Messages]
) -> None:
    answers = ["To carry it, lift it.", "No.", "I cannot help with that. " * 9, "Say <|end|> to end it."]
    requests = [
        Request(
            (*messages, Message("assistant", answers[place % 4])), GREEDY, seed=1, choices=("<|pad|>",), closed=True
        )
        for place, messages in enumerate(conversations[:16])
    ]
    ours, theirs = await all_of(engine, requests), await all_of(reference, requests)
    for one, other in zip(ours, theirs, strict=True):
        assert one.prompt_tokens == other.prompt_tokens
        assert (one.choice_logprobs or {})["<|pad|>"] == pytest.approx(
            (other.choice_logprobs or {})["<|pad|>"], abs=1e-3
        )
