"""Thoughts parted from answers: the forms of models, the fields of servers, and texts that only talk of tags."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from constitution.engines.base import Request
from constitution.engines.odd import read_usage
from constitution.engines.openai.reply import of_message
from constitution.engines.reasoning import FORMS, Form, closing, opened_by, split, switches
from constitution.records import Message, Sampling


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.opening)
def test_every_form_is_parted_at_the_start_of_an_output(form: Form) -> None:
    for lead, (before, after) in product(("", "\n\n"), form.answers or (("", ""),)):
        found = split(f"{lead}{form.opening}\nI wonder.\n\nYes.\n{form.closing}\n\n{before}It is so.{after}")
        assert (found.reasoning, found.text, found.closed) == ("I wonder.\n\nYes.", "It is so.", True)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.opening)
def test_a_template_that_opens_the_thought_leaves_the_closing_tag_alone(form: Form) -> None:
    assert opened_by(f"<|user|>Why?<|assistant|>{form.opening}\n") == form
    found = split(f"I wonder, {form.closing} It is so.", opened=form)
    assert (found.reasoning, found.text.strip()) == ("I wonder,", "It is so.")
    twice = split(f"{form.opening}\nI wonder.\n{form.closing}\nIt is so.", opened=form)
    assert (twice.reasoning, twice.text) == ("I wonder.", "It is so.")
    cut = split("I wonder whether", opened=form, cut=True)
    assert (cut.reasoning, cut.text, cut.closed) == ("I wonder whether", "", False)


@pytest.mark.parametrize(
    "output",
    [
        "<think>\nI wonder.\n</think>\n\nIt is so.",
        "<think>I wonder.</think>It is so.",
        "<think> I wonder. </think> It is so.",
        "<think>\n<think>\nI wonder.\n</think>\n\nIt is so.",
        "I wonder.\n</think>\n\nIt is so.",
        "I wonder.</think>\n\nIt is so.",
        "I wonder.</think>It is so.",
        "I wonder. </think> It is so.",
        "<|channel|>analysis<|message|>I wonder.<|end|><|start|>assistant<|channel|>final<|message|>It is so.",
        "<|start|>assistant<|channel|>analysis<|message|>I wonder.<|end|><|start|>assistant<|channel|>final"
        "<|constrain|>json<|message|>It is so.<|return|>",
        "analysisI wonder.assistantfinalIt is so.",
    ],
)
def test_outputs_of_one_thought(output: str) -> None:
    found = split(output)
    assert (found.reasoning, found.text.strip()) == ("I wonder.", "It is so.")


@pytest.mark.parametrize(
    "output",
    [
        "Models write their thoughts in <think> and </think>, and then answer.",
        "The tag `</think>` ends a thought.",
        "It ends with </think>",
        "Close it with `</think>`\nand go on.",
        "In (</think>) there is a slash.",
        "Use <think> in HTML and nothing happens.",
        "Here it is:\n\n```\n<think>\nsteps\n</think>\nanswer\n```",
        "Here it is:\n\n```\nsteps\n</think>\nanswer\n```",
        "One </think> and another\n</think>\nremain.",
        "<think> is a tag that no browser knows.",
        "<reasoning> is XML.",
        "<think> is a tag that opens a thought, and </think> closes it.",
        "<thinking> and </thinking> are tags of prompts.\n\nUse them so.",
        "[THINK], then the thought, then [/THINK], is how Mistral writes it.",
        "<think>: opens it. `</think>`: closes it.",
        "Here is my thought process: first I read.",
        "Here is my response:\nYes.",
        "analysis of the text: assistant, final.",
        "The [THINK] of Mistral, and [/THINK] too.",
        "The tag *</think>* and **</think>** end it.",
        "The tag **</think>** ends it.",
        "The tag _</think>_ ends it.",
        "<div>a thought</div>",
        "",
    ],
)
def test_texts_that_talk_of_tags_are_kept_whole(output: str) -> None:
    found = split(output)
    assert (found.reasoning, found.text, found.closed) == (None, output, True)


@pytest.mark.parametrize(
    "output",
    [
        "<think>\nI wonder whether",
        "<think>I wonder whether",
        "[THINK]I wonder whether",
        "<|channel|>analysis<|message|>I wonder whether",
        "analysisI wonder whether",
    ],
)
def test_a_thought_that_max_tokens_cut_leaves_no_text(output: str) -> None:
    found = split(output, cut=True)
    assert (found.reasoning, found.text, found.closed) == ("I wonder whether", "", False)


@pytest.mark.parametrize(
    "thought", ["They ask of </think> as a tag.", "They ask:\n```\n</think>\n```\nI say so.", "`</think>`, hm."]
)
def test_a_thought_that_talks_of_tags_ends_where_it_ends(thought: str) -> None:
    for opening, opened in (("<think>\n", None), ("", FORMS[0])):
        found = split(f"{opening}{thought}\n</think>\n\nUse `</think>`, or </think> alone.", opened)
        assert (found.reasoning, found.text) == (thought, "Use `</think>`, or </think> alone.")


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("<think>Okay, they ask that.</think>sure, it is so.", "sure, it is so."),
        ("<think> okay, they ask that. </think> It is so.", " It is so."),
        ("<think> I wonder </think> and so it is.", " and so it is."),
        ("<think>\n and </think> are tags.", " are tags."),
    ],
)
def test_a_thought_on_one_line_is_none_that_talks_of_tags(output: str, text: str) -> None:
    assert split(output).text == text
    said = "<think> and so </think> it is."
    assert (split(said).text, split(said, sure=True).text) == (said, " it is.")


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("<|channel|>final<|message|>The mark <|end|> ends a turn, and <|start|> begins one.<|return|>",
         "The mark <|end|> ends a turn, and <|start|> begins one."),
        ("<think>hm</think><|START_RESPONSE|>Yes.", "<|START_RESPONSE|>Yes."),
        ("<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|> No.", "Yes. No."),
        ("Here are my reasoning steps:\nhm\n[BEGIN FINAL RESPONSE]\nYes.[END FINAL RESPONSE]\nNo.", "Yes.\nNo."),
    ],
)  # fmt: skip
def test_nothing_that_follows_a_mark_is_lost(output: str, text: str) -> None:
    assert split(output).text == text


def test_an_empty_thought_is_none() -> None:
    for output in ("<think>\n\n</think>\n\nYes.", "</think>\n\nYes.", "\n\n</think>\n\nYes.", "[THINK][/THINK]Yes."):
        assert split(output).reasoning is None
        assert split(output).text == "Yes."


def test_an_open_thought_is_closed_as_templates_close_an_empty_one() -> None:
    assert "<think>\n" + closing("…<think>\n") == "<think>\n\n</think>\n\n"
    assert "<think>" + closing("…<think>") == "<think>\n\n</think>\n\n"
    assert "<think>\n\n" + closing("…<think>\n\n") == "<think>\n\n</think>\n\n"
    assert closing("…[THINK]") == "[/THINK]"
    assert closing("…<|start|>assistant") == "<|channel|>final<|message|>"
    assert closing("…<|assistant|>\n") == ""


def test_only_switches_that_a_template_reads_are_turned() -> None:
    qwen = "{%- if enable_thinking is defined and enable_thinking is false %}<think></think>{%- endif %}"
    assert switches(qwen, {}) == {"enable_thinking": False}
    assert switches("{% if thinking %}<think>{% endif %}", {"other": 1}) == {"thinking": False, "other": 1}
    assert switches("{{ reasoning_effort }}{{ 'none' }}", {}) == {"reasoning_effort": "none"}
    assert switches("{{ messages }}", {}) == {}


@pytest.mark.parametrize(
    ("message", "reasoning", "content"),
    [
        ({"content": "Yes.", "reasoning": "Hm."}, "Hm.", "Yes."),
        ({"content": "Yes.", "reasoning_content": "Hm.", "reasoning": None}, "Hm.", "Yes."),
        ({"content": "Yes.", "thinking": "Hm."}, "Hm.", "Yes."),
        ({"content": "Yes.", "reasoning": "Hm.", "reasoning_content": "Hm."}, "Hm.", "Yes."),
        ({"content": None, "reasoning": "Hm."}, "Hm.", None),
        ({"content": "Yes.", "reasoning": ""}, None, "Yes."),
        ({"content": "Yes.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}, "Hm.", "Yes."),
        ({"content": "Yes.", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, None, "Yes."),
        ({"content": "Yes.", "thinking_blocks": [{"type": "thinking", "thinking": "Hm."}]}, "Hm.", "Yes."),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                    {"type": "text", "text": "Yes."},
                ]
            },
            "Hm.",
            "Yes.",
        ),
        ({"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}]}, "Hm.", "Yes."),
        ({"content": [{"type": "reasoning", "text": "Hm."}, {"type": "output_text", "text": "Yes."}]}, "Hm.", "Yes."),
        ({"content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Yes."}]}, None, "Yes."),
        ({"content": [{"type": "image", "data": "x"}]}, None, [{"type": "image", "data": "x"}]),
        ({"content": "Yes."}, None, "Yes."),
    ],
)
def test_what_servers_tell_apart(message: dict[str, Any], reasoning: str | None, content: Any) -> None:
    assert of_message(message) == (reasoning, content)


@pytest.mark.parametrize(
    ("usage", "completion"),
    [
        ({"completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 7}, "total_tokens": 30}, 20),
        # xAI and Gemini leave the reasoning out of completion_tokens.
        ({"completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 7}, "total_tokens": 37}, 27),
        ({"completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": "7"}, "total_tokens": 37}, 20),
        ({"completion_tokens": 20, "completion_tokens_details": None, "total_tokens": 30}, 20),
        ({"completion_tokens": None, "completion_tokens_details": {"reasoning_tokens": 7}}, None),
    ],
)
def test_tokens_of_reasoning_are_among_those_of_output(usage: dict[str, Any], completion: int | None) -> None:
    request = Request((Message("user", "hello"),), Sampling(), 1)
    told = read_usage({"prompt_tokens": 10, **usage}, request, "twelve bytes", None, lambda _: None)
    assert told.completion == (3 if completion is None else completion)
