"""The transformers engine on a tiny random Llama: real tokenizer, real forward passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tiny import CORPUS, save_tiny_model

from constitution.engines import local, open_engine
from constitution.engines.base import Completion, Request
from constitution.engines.openai.engine import OpenAIEngine
from constitution.engines.transformers import TransformersEngine
from constitution.errors import (
    ContextTooLong,
    EngineError,
    EngineGone,
    EngineUnavailable,
    ModelLoadError,
    RequestRefused,
)
from constitution.recipe import OpenAIModel, TransformersModel
from constitution.records import Message, Messages, Sampling, as_dicts
from rehearsal.server import FakeServer

PREFIX = Message("assistant", "The answer is: (")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def plain(folder: Path) -> tuple[Any, Any]:
    """The same checkpoint as transformers itself loads it."""
    import transformers

    library: Any = transformers
    model = library.AutoModelForCausalLM.from_pretrained(folder).eval()
    return model, library.AutoTokenizer.from_pretrained(folder)


@pytest.fixture
async def engine(folder: Path) -> AsyncIterator[TransformersEngine]:
    opened = await TransformersEngine.open(section(folder))
    yield opened
    await opened.close()


def section(folder: Path, **fields: Any) -> TransformersModel:
    return TransformersModel(engine="transformers", model=str(folder), **fields)


def user(text: str) -> Messages:
    return (Message("user", text),)


def prompt_ids(tokenizer: Any, messages: Messages) -> list[int]:
    continues = messages[-1].role == "assistant"
    text = tokenizer.apply_chat_template(
        as_dicts(messages), tokenize=False, add_generation_prompt=not continues, continue_final_message=continues
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def full_logprob(model: Any, ids: list[int], label: list[int]) -> float:
    """Log-probability of `label` after `ids` by one forward pass over everything, no padding, no cache."""
    import torch

    with torch.inference_mode():
        logprobs = model(torch.tensor([ids + label]), use_cache=False).logits[0].float().log_softmax(-1)
    return sum(float(logprobs[len(ids) - 1 + place, token]) for place, token in enumerate(label))


async def test_choice_log_probabilities_are_exact(engine: TransformersEngine, plain: tuple[Any, Any]) -> None:
    model, tokenizer = plain
    labels = ("A", "B", "both of them", "neither")
    shared = CORPUS[1] * 2
    texts = [f"{shared} {CORPUS[place % 4][: 10 * place]}" for place in range(12)]
    texts += [CORPUS[place % 4][: 5 + 7 * place] for place in range(10)]
    requests = [
        Request((*user(text), PREFIX), Sampling(max_tokens=1), seed=place, choices=labels)
        for place, text in enumerate(texts)
    ]
    completions = await asyncio.gather(*map(engine.generate, requests))
    assert any(completion.cached_tokens for completion in completions)
    for request, completion in zip(requests, completions, strict=True):
        ids = prompt_ids(tokenizer, request.messages)
        assert (completion.prompt_tokens, completion.completion_tokens) == (len(ids), 1)
        assert completion.choice_logprobs is not None
        for label in labels:
            tokens = tokenizer(label, add_special_tokens=False)["input_ids"]
            expected = full_logprob(model, ids, tokens)
            assert completion.choice_logprobs[label] == pytest.approx(expected, abs=2e-4), label


async def test_a_request_says_the_same_alone_and_in_a_batch(folder: Path) -> None:
    samplings = [
        Sampling(temperature=1.0, max_tokens=40),
        Sampling(temperature=0.7, top_p=0.8, max_tokens=25),
        Sampling(temperature=0.0, max_tokens=30),
        Sampling(temperature=1.3, top_p=0.95, max_tokens=9, stop=(" e",)),
    ]
    requests = [
        Request(user(f"{place} {CORPUS[place % 4][: 4 * place + 3]}"), samplings[place % 4], seed=100 + place)
        for place in range(16)
    ]
    # 48 requests on 16 places, so that rows also join a running batch.
    engine = await TransformersEngine.open(section(folder, max_batch=16))
    alone = [await engine.generate(request) for request in requests]
    together = await asyncio.gather(*map(engine.generate, [*requests, *reversed(requests), *requests]))
    await engine.close()
    for run in (together[:16], together[31:15:-1], together[32:]):
        assert [(each.text, each.finish_reason) for each in run] == [(each.text, each.finish_reason) for each in alone]
    assert len({each.text for each in alone}) > 12


async def test_seeds_matter_and_repeat(engine: TransformersEngine) -> None:
    texts = [
        (await engine.generate(Request(user("Hello"), Sampling(max_tokens=12), seed=seed))).text for seed in (1, 2, 1)
    ]
    assert texts[0] == texts[2] != texts[1]


@pytest.mark.parametrize("config", [{}, {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}])
async def test_greedy_is_what_transformers_generates(tmp_path: Path, config: dict[str, Any]) -> None:
    await _compare_greedy(save_tiny_model(tmp_path, **config))


async def test_a_sliding_window_is_respected(tmp_path: Path) -> None:
    """Mistral's layers see 16 columns: padding between prefix and tail would shift them."""
    await _compare_greedy(save_tiny_model(tmp_path, kind="Mistral", sliding_window=16))


async def _compare_greedy(folder: Path) -> None:
    import torch
    import transformers

    library: Any = transformers
    model = library.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    engine = await TransformersEngine.open(section(folder, max_batch=4))
    requests = [
        Request(user(CORPUS[1] + CORPUS[place % 4][: 6 * place]), Sampling(temperature=0, max_tokens=20), seed=1)
        for place in range(8)
    ]
    completions = await asyncio.gather(*map(engine.generate, requests))
    await engine.close()
    for request, completion in zip(requests, completions, strict=True):
        ids = torch.tensor([prompt_ids(tokenizer, request.messages)])
        output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
        assert completion.text == tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


async def test_stop_strings_end_the_text_before_them(engine: TransformersEngine) -> None:
    free = await engine.generate(Request(user("Go"), Sampling(max_tokens=60), seed=3))
    stop = free.text[20:24]
    stopped = await engine.generate(Request(user("Go"), Sampling(max_tokens=60, stop=("§§", stop)), seed=3))
    assert stopped.text == free.text[: free.text.index(stop)]
    assert stopped.finish_reason == "stop"
    assert stopped.completion_tokens < free.completion_tokens


async def test_every_end_token_of_the_generation_settings_ends_an_answer(folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    first = await TransformersEngine.open(section(folder))
    free = await first.generate(Request(user("Go"), Sampling(temperature=0, max_tokens=30), seed=3))
    await first.close()
    word = first._model.chat.encode(user(free.text))[3:][6]
    settings = json.loads((copy / "generation_config.json").read_text())
    settings["eos_token_id"] = [settings["eos_token_id"], word]
    (copy / "generation_config.json").write_text(json.dumps(settings))
    second = await TransformersEngine.open(section(copy))
    ended = await second.generate(Request(user("Go"), Sampling(temperature=0, max_tokens=30), seed=3))
    await second.close()
    assert ended.finish_reason == "stop"
    assert free.text.startswith(ended.text)
    assert len(ended.text) < len(free.text)
    assert first.describe()["digest"] != second.describe()["digest"]


async def test_urgent_requests_run_first(folder: Path) -> None:
    engine = await TransformersEngine.open(section(folder, max_batch=1))
    order: list[int] = []

    async def one(priority: int) -> None:
        await engine.generate(Request(user("Go"), Sampling(max_tokens=5), seed=1, priority=priority))
        order.append(priority)

    # One that holds the engine until the others wait, however busy the machine is.
    long = Request(user("Go"), Sampling(temperature=0, max_tokens=400), seed=1)
    holder = asyncio.create_task(engine.generate(long))
    await asyncio.gather(*(one(priority) for priority in (5, 3, 9, 1, 7)))
    await holder
    await engine.close()
    assert order == [1, 3, 5, 7, 9]


async def test_cancelled_requests_leave_queue_and_batch(folder: Path) -> None:
    engine = await TransformersEngine.open(section(folder, max_batch=1))
    long = Sampling(temperature=0, max_tokens=400)
    running, waiting = (asyncio.create_task(engine.generate(Request(user("Go"), long, seed=1))) for _ in range(2))
    await asyncio.sleep(0.05)
    assert not running.done()
    for task in (waiting, running):
        task.cancel()
    start = time.monotonic()
    after = await engine.generate(Request(user("Go"), Sampling(max_tokens=2), seed=1))
    quick = time.monotonic() - start
    start = time.monotonic()
    await engine.generate(Request(user("Go"), long, seed=1))
    slow = time.monotonic() - start
    await engine.close()
    assert running.cancelled()
    assert waiting.cancelled()
    assert after.completion_tokens == 2
    assert quick < slow / 2


async def test_an_error_in_the_model_hits_only_its_request(tmp_path: Path) -> None:
    """Tokens beyond the embedding table make the forward pass raise."""
    folder = save_tiny_model(tmp_path, vocab_size=300)
    engine = await TransformersEngine.open(section(folder))
    chat = engine._model.chat
    good, bad = user("zzz"), user(CORPUS[1])
    assert max(chat.encode(good)) < 300 <= max(chat.encode(bad))
    sampling = Sampling(max_tokens=5)
    requests = [Request(messages, sampling, seed=1) for messages in (good, bad, good)]
    requests += [Request((*messages, PREFIX), sampling, seed=1, choices=("A",)) for messages in (user("zz"), bad)]
    outcomes = await asyncio.gather(*map(engine.generate, requests), return_exceptions=True)
    # The prefix itself may hold such a token; then both votes fail.
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds[:3] == [Completion, EngineError, Completion]
    assert kinds[4] is EngineError
    assert "IndexError" in str(outcomes[1])
    assert outcomes[0] == outcomes[2]
    assert await engine.generate(requests[0]) == outcomes[0]
    await engine.close()


async def test_the_context_is_a_limit(engine: TransformersEngine) -> None:
    with pytest.raises(ContextTooLong, match="512"):
        await engine.generate(Request(user(CORPUS[3] * 60), Sampling(max_tokens=1), seed=1))
    fitting = user("x" * 480)
    length = len(engine._model.chat.encode(fitting))
    completion = await engine.generate(Request(fitting, Sampling(temperature=0, max_tokens=400), seed=1))
    assert completion.prompt_tokens == length
    assert completion.completion_tokens <= 512 - length
    assert any(event.startswith("1 requests had fewer tokens left") for event in engine.stats()["events"])


async def test_closing_fails_what_waits_and_ends_the_thread(folder: Path) -> None:
    engine = await TransformersEngine.open(section(folder, max_batch=1))
    sampling = Sampling(temperature=0, max_tokens=400)
    tasks = [asyncio.create_task(engine.generate(Request(user("Go"), sampling, seed=1))) for _ in range(3)]
    await asyncio.sleep(0.02)
    await engine.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, EngineUnavailable) for outcome in outcomes)
    assert not engine._worker._thread.is_alive()
    with pytest.raises(EngineUnavailable):
        await engine.generate(Request(user("Go"), sampling, seed=1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_no_request_waits_for_a_thread_that_died(folder: Path) -> None:
    """SystemExit is what no `except Exception` holds back."""
    engine = await TransformersEngine.open(section(folder))

    def die(*_: Any, **__: Any) -> None:
        raise SystemExit

    engine._model.module.forward = die
    requests = [
        Request(user("Go"), Sampling(max_tokens=3), seed=1),
        Request((*user("Go"), PREFIX), Sampling(max_tokens=1), seed=1, choices=("A", "B")),
    ]
    outcomes = await asyncio.wait_for(asyncio.gather(*map(engine.generate, requests), return_exceptions=True), 20)
    assert [type(outcome) for outcome in outcomes] == [EngineGone] * 2
    with pytest.raises(EngineGone):
        await engine.generate(requests[0])
    await engine.close()


async def test_a_server_over_this_engine_gives_the_same_votes(engine: TransformersEngine) -> None:
    request = Request((*user(CORPUS[0]), PREFIX), Sampling(max_tokens=1), seed=6, choices=("A", "B"))
    direct = await engine.generate(request)
    async with FakeServer(engine) as server:
        remote = await OpenAIEngine.open(
            OpenAIModel(engine="openai", model=engine.model, base_url=server.base_url, retries=0)
        )
        served = await remote.generate(request)
        await remote.close()
    assert served.choice_logprobs == pytest.approx(direct.choice_logprobs)
    assert served.text == direct.text


async def test_what_cannot_be_loaded_is_named(folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelLoadError, match="pickles") as caught:
        await open_engine(section(tmp_path / "pickled"))
    assert "safetensors" in caught.value.hint
    with pytest.raises(ModelLoadError, match="no such folder"):
        await open_engine(section(Path("nobody/nothing-of-that-name")))
    silent = Path(shutil.copytree(folder, tmp_path / "silent"))
    (silent / "chat_template.jinja").unlink()
    with pytest.raises(ModelLoadError, match="chat template"):
        await open_engine(section(silent))
    coded = Path(shutil.copytree(folder, tmp_path / "coded"))
    config = json.loads((coded / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (coded / "config.json").write_text(json.dumps(config))
    (coded / "own.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        await open_engine(section(coded))
    (silent / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        await open_engine(section(silent))


async def test_an_empty_label_is_refused(engine: TransformersEngine) -> None:
    with pytest.raises(RequestRefused):
        await engine.generate(Request((*user("x"), PREFIX), Sampling(), seed=1, choices=("A", "")))


async def test_an_accelerator_that_is_lost_for_good_stops_the_run(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def lost(*_: object) -> None:
        raise torch.AcceleratorError("device-side assert triggered")

    monkeypatch.setattr(local, "forward", lost)
    with pytest.raises(EngineGone, match="AcceleratorError while computing: device-side assert") as caught:
        await engine.generate(Request(user("Go"), Sampling(), seed=1))
    assert caught.value.retryable


async def test_a_worker_whose_thread_ends_says_so_to_all_who_wait_and_come(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise SystemExit("told to")

    monkeypatch.setattr(local, "forward", end)
    requests = [engine.generate(Request(user("Go"), Sampling(), seed)) for seed in range(3)]
    for error in await asyncio.gather(*requests, return_exceptions=True):
        assert isinstance(error, EngineGone)
        assert "its thread ended by SystemExit: told to" in str(error)
    with pytest.raises(EngineGone):
        await engine.generate(Request(user("Go"), Sampling(), seed=1))
