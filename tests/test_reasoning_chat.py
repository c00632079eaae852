"""Reasoning and dates of models in the process: real tokenizers, with chat templates as public models have them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from chat_templates import FAMILIES, family
from tiny import save_tiny_model

from constitution.engines import local
from constitution.engines.base import Completion, Request
from constitution.engines.chat import ChatTokenizer
from constitution.engines.spoken import Spoken
from constitution.engines.transformers import TransformersEngine
from constitution.recipe import TransformersModel
from constitution.records import Message, Messages, Sampling

ASK: Messages = (Message("user", "Why?"),)
WRITES = {
    "qwen": "<think>\nI wonder.\n</think>\n\nIt is so.",
    "deepseek": "I wonder.\n</think>\n\nIt is so.",
    "mistral": "[THINK]I wonder.[/THINK]It is so.",
    "gpt-oss": "<|channel|>analysis<|message|>I wonder.<|end|><|start|>assistant<|channel|>final<|message|>It is so.",
    "cohere": "<|START_THINKING|>I wonder.<|END_THINKING|><|START_RESPONSE|>It is so.<|END_RESPONSE|>",
    "seed": "<seed:think>I wonder.</seed:think>It is so.",
    "gemma": "<|channel>thought\nI wonder.\n<channel|>It is so.",
    "plain": "<think>\nI wonder.\n</think>\n\nIt is so.",
    "smol": "<think>\nI wonder.\n</think>\n\nIt is so.",
}
"""What models of a family write behind the generation prompt, special tokens among it."""
ANSWER = "It is so."
DAY = date(2026, 5, 1)


def chat(name: str, **spoken: Any) -> ChatTokenizer:
    return ChatTokenizer(family(name), name, Spoken(**{"date": DAY, **spoken}))


def tokens(name: str, text: str) -> list[int]:
    found: list[int] = family(name)(text, add_special_tokens=False)["input_ids"]
    return found


def shown(name: str, ids: Sequence[int]) -> str:
    text: str = family(name).decode(list(ids), skip_special_tokens=False)
    return text


@pytest.mark.parametrize("name", WRITES)
def test_the_models_own_form_is_parted_and_counted(name: str) -> None:
    model, written = chat(name), tokens(name, WRITES[name])
    said = model.said(written, model.encode(ASK), continues=False, cut=False)
    assert (said.text, said.reasoning) == (ANSWER, "I wonder.")
    behind = {"cohere": "<|START_RESPONSE|>It is so.<|END_RESPONSE|>"}.get(name, ANSWER)
    blank = 2 if "\n\nIt" in WRITES[name] else 0
    assert said.reasoning_tokens == len(written) - len(tokens(name, behind)) - blank


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("reasoning", ["auto", "off"])
def test_the_text_for_people_has_the_tokens_that_the_model_is_given(name: str, reasoning: str) -> None:
    model = chat(name, reasoning=reasoning)
    for messages, choices in ((ASK, ()), ((*ASK, Message("assistant", "The answer is: (")), ("A", "B"))):
        request = Request(messages, Sampling(), 1, choices=choices)
        assert tokens(name, model.text(request)) == model.encode(messages, think=not choices)


@pytest.mark.parametrize("name", WRITES)
def test_a_thought_that_is_cut_is_all_reasoning(name: str) -> None:
    model = chat(name)
    written = tokens(name, WRITES[name].partition(" wonder")[0])
    said = model.said(written, model.encode(ASK), continues=False, cut=True)
    assert (said.text, said.reasoning, said.reasoning_tokens) == ("", "I", len(written))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_without_a_thought_is_what_decoding_gives(name: str) -> None:
    model = chat(name)
    for text in (
        "  It is so.\n",
        "Use <think> and </think>, [THINK] or <|channel|>.",
        "`</think>` ends it.",
        "naïve 😀",
    ):
        # Tags that are special tokens are spelled in other ones here; the template of one has opened a thought.
        ids = tokens(name, text) if FAMILIES[name][2] else model._encode(text, plain=True)
        ids = [*(tokens(name, "\n</think>\n\n") if name == "deepseek" else []), *ids]
        said = model.said(ids, model.encode(ASK), continues=False, cut=False)
        assert (said.text, said.reasoning, said.reasoning_tokens) == (text, None, 0)


def test_a_spelled_tag_in_the_answer_stays_where_the_real_ones_are_tokens() -> None:
    model = chat("mistral")
    answer = model._encode("The tags are [THINK] and [/THINK].", plain=True)
    written = [*tokens("mistral", "[THINK]I wonder.[/THINK]"), *answer]
    said = model.said(written, model.encode(ASK), continues=False, cut=False)
    assert said == ("The tags are [THINK] and [/THINK].", "I wonder.", len(written) - len(answer))


@pytest.mark.parametrize("name", ["qwen", "mistral", "gpt-oss"])
def test_kept_reasoning_is_the_text_with_its_tags(name: str) -> None:
    model = chat(name, reasoning="keep")
    said = model.said(tokens(name, WRITES[name]), model.encode(ASK), continues=False, cut=False)
    assert said == (WRITES[name], None, 0)


def test_off_turns_the_templates_own_switch_or_closes_the_thought() -> None:
    plain, off = (
        {name: shown(name, chat(name, reasoning=how).encode(ASK)) for name in FAMILIES} for how in ("auto", "off")
    )
    empty = "<think>\n\n</think>\n\n"
    assert off["qwen"] == plain["qwen"] + empty
    assert off["deepseek"] == plain["deepseek"].removesuffix("<think>\n") + empty
    assert off["smol"] == plain["smol"].replace("/think", "/no_think") + empty
    assert off["gpt-oss"] == plain["gpt-oss"] + "<|channel|>final<|message|>"
    assert (off["plain"], off["mistral"]) == (plain["plain"], plain["mistral"])


def test_variables_reach_the_template() -> None:
    assert shown("qwen", chat("qwen", variables={"enable_thinking": False}).encode(ASK)).endswith("</think>\n\n")
    assert "Today Date: once" in shown("llama", chat("llama", variables={"date_string": "once"}).encode(ASK))


@pytest.mark.parametrize("name", ["qwen", "deepseek", "smol", "gpt-oss"])
def test_a_label_is_read_behind_a_thought_and_never_in_one(name: str) -> None:
    model = chat(name)
    asked = shown(name, model.encode(ASK, think=False))
    assert asked.endswith(
        {"deepseek": "<think>\n\n</think>\n\n", "gpt-oss": "final<|message|>"}.get(name, "assistant\n")
    )
    prefix = (*ASK, Message("assistant", "The answer is: ("))
    continued = shown(name, model.encode(prefix, think=False))
    before = {"smol": "assistant\n", "gpt-oss": "<|channel|>final<|message|>"}.get(name, "<think>\n\n</think>\n\n")
    assert continued.endswith(before + "The answer is: (")
    assert continued.count("<think>") <= 1


@pytest.mark.parametrize("name", ["qwen", "deepseek", "plain"])
def test_tags_in_turns_of_the_conversation_are_not_taken_out(name: str) -> None:
    said = "<think>\nHm.\n</think>\n\nNo."
    turns = (Message("user", "Is it?"), Message("assistant", said), *ASK)
    assert said in shown(name, chat(name).encode(turns)).replace("< think>", "<think>").replace("< /think>", "</think>")


def test_the_day_is_the_runs_in_every_template() -> None:
    days = {"llama": "Today Date: 01 May 2026", "gpt-oss": "Current date: 2026-05-01", "smol": "Today: 01 May 2026."}
    for name, expected in days.items():
        model = chat(name)
        assert expected in shown(name, model.encode(ASK))
        assert model.facts == {"template_date": "2026-05-01"}
    assert chat("qwen").facts == {}
    later = chat("llama", date=date(2026, 5, 2))
    assert "02 May 2026" in shown("llama", later.encode(ASK))


# --- the engine, which is made to write what a reasoning model would


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose vocabulary has room for the tokens of the families."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), positions=1024)


def writing(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    ids = [*tokens(name, text), family(name).eos_token_id]

    def draw(jobs: Sequence[local.Job], logits: Any) -> list[int]:
        return [ids[len(job.output)] for job in jobs]

    monkeypatch.setattr(local, "draw", draw)


async def answer(folder: Path, name: str, request: Request, **fields: Any) -> Completion:
    family(name).save_pretrained(folder)
    model = TransformersModel.model_validate(
        {"engine": "transformers", "model": str(folder), "template_date": "2026-05-01", **fields}
    )
    engine = await TransformersEngine.open(model)
    try:
        return await engine.generate(request)
    finally:
        await engine.close()


@pytest.mark.parametrize("name", ["qwen", "deepseek", "mistral", "gpt-oss"])
async def test_the_engine_parts_counts_and_stops_behind_the_thought(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    writing(monkeypatch, name, WRITES[name].replace("wonder", "wonder. It is"))
    whole = await answer(folder, name, Request(ASK, Sampling(max_tokens=500), 1))
    assert (whole.text, whole.reasoning, whole.finish_reason) == (ANSWER, "I wonder. It is.", "stop")
    assert 0 < whole.reasoning_tokens < whole.completion_tokens
    stopped = await answer(folder, name, Request(ASK, Sampling(max_tokens=500, stop=(" is",)), 1))
    assert (stopped.text, stopped.reasoning, stopped.finish_reason) == ("It", "I wonder. It is.", "stop")
    cut = await answer(folder, name, Request(ASK, Sampling(max_tokens=12), 1))
    assert (cut.text, cut.finish_reason, cut.completion_tokens) == ("", "length", 12)
    assert cut.reasoning_tokens == 12
    off = await answer(folder, name, Request(ASK, Sampling(max_tokens=500), 1), reasoning="off")
    assert (off.text, off.reasoning) == (ANSWER, "I wonder. It is.")  # it thinks nevertheless


@pytest.mark.parametrize("name", WRITES)
def test_a_thought_that_is_given_has_the_models_own_form(name: str) -> None:
    model = chat(name)
    request = Request(ASK, Sampling(), 1, thought="I wonder.")
    own = WRITES[name].partition(ANSWER)[0].removesuffix("<|START_RESPONSE|>")
    begun = model.text(Request(ASK, Sampling(), 1))
    if name == "seed":  # whose template writes lines between the tags
        own = own.replace("<seed:think>I wonder.</seed:think>", "<seed:think>\nI wonder.\n</seed:think>\n\n")
    assert model.text(request) == begun + own
    assert model.encode(ASK, thought="I wonder.") == tokens(name, begun + own)
    # What it writes then is all answer.
    said = model.said(tokens(name, ANSWER), model.encode(ASK, thought="I wonder."), continues=False, cut=False)
    assert (said.text, said.reasoning) == (ANSWER, None)


@pytest.mark.parametrize("name", ["qwen", "smol"])
def test_a_thought_that_is_given_is_the_only_one_where_reasoning_is_off(name: str) -> None:
    text = chat(name, reasoning="off").text(Request(ASK, Sampling(), 1, thought="I wonder."))
    assert text.count("<think>") == text.count("</think>") == 1
    assert text.endswith("<think>\nI wonder.\n</think>\n\n")


@pytest.mark.parametrize("name", WRITES)
def test_control_tokens_that_a_given_thought_spells_are_text(name: str) -> None:
    model = chat(name)
    plain, spelled = (model.encode(ASK, thought=text) for text in ("I wonder.", "I <|im_end|></think>[/THINK]wonder."))
    special = set(family(name).all_special_ids)
    assert [each for each in plain if each in special] == [each for each in spelled if each in special]
