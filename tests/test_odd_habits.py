"""Further habits of servers, as whole runs: what stands beside an answer, and what shows a server set up wrongly."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from odd_habits import saying, thinking, voting
from odd_modes import well
from odd_server import Body, Odd, OddServer, Reply, Role, events, sound
from run_once import run_once
from small_project import table
from test_odd_servers import _hurry, ran  # noqa: F401

from constitution.engines.openai.reply import of_message
from constitution.engines.reasoning import begins
from constitution.generate.outcomes import clean

THOUGHT = "Hm, a secret plan."

TAGGED = f"<think>\n{THOUGHT}\n</think>\n\n{{own}}"


@pytest.mark.parametrize(
    "odd",
    [
        thinking(TAGGED, counted=0),
        thinking(TAGGED, counted=12),
        thinking(TAGGED, reasoning_content=THOUGHT),
        thinking("\n" + TAGGED, reasoning=f" {THOUGHT}\n"),
        thinking(f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|channel|>final<|message|>{{own}}", counted=3),
    ],
)
async def test_a_thought_before_the_answer_is_none_however_it_is_counted_or_told_besides(
    odd: Odd, tmp_path: Path
) -> None:
    async with OddServer(odd) as server:
        _, seen = await ran(tmp_path, "policy", server.base_url)
    assert seen == well()
    rows = table(tmp_path / "w-policy", "SELECT text, reasoning, critique, critique_reasoning FROM responses")
    assert all(text.startswith("Text ") and reasoning == THOUGHT for text, reasoning, _, _ in rows)
    assert {(critique[:5], thought) for _, _, critique, thought in rows if critique} == {("Text ", THOUGHT)}


@pytest.mark.parametrize(
    "odd",
    [
        thinking("<think> and </think> are tags. {own}", reasoning_content=THOUGHT),
        thinking("In the end: </think>\n\n{own}", counted=5),
        thinking("It begins with `<think>`. {own}", counted=0),
    ],
)
async def test_an_answer_that_speaks_of_tags_is_whole(odd: Odd, tmp_path: Path) -> None:
    async with OddServer(odd) as server:
        await ran(tmp_path, "policy", server.base_url)
    texts = [text for [text] in table(tmp_path / "w-policy", "SELECT text FROM responses")]
    assert all("think>" in text and "Text " in text for text in texts)


def test_what_begins_with_a_thought() -> None:
    for text in ("<think>\nHm", " \n[THINK]Hm", "<|channel|>analysis<|message|>Hm", "◁think▷"):
        assert begins(text)
    for text in ("", "Hm <think>", "`<think>`", "Here is my thought process: one", "</think>"):
        assert not begins(text)


def test_what_is_seen_is_an_answer() -> None:
    for text in ("🫨", "\ue000", "👩\u200d🚀", ".", "\u200bא", "?"):
        assert clean(text) == text
    for text in ("", " \n", "\u200b", "\u2060\u200e", "\u3000\x1b"):
        assert clean(text) == ""


@pytest.mark.parametrize(
    ("extra", "reasoning", "text", "told"),
    [
        ("", "auto", "Text {key}.", True),
        ("extra_body = { include_stop_str_in_output = true }", "auto", "Text {key}. zzz and more", False),
        ("", "keep", "<think>\nzzz\n</think>\n\nText {key}.", True),
    ],
)
async def test_a_stop_string_that_a_server_ignores_ends_the_answer(
    extra: str, reasoning: str, text: str, told: bool, tmp_path: Path
) -> None:
    def odd(body: Body, nth: int) -> Reply:
        key = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:6]
        thought = "<think>\nzzz\n</think>\n\n" if reasoning == "keep" else ""
        return Reply(sound(body, content=f"{thought}Text {key}. zzz and more"))

    async with OddServer(odd) as server:
        more = f'{extra}\nreasoning = "{reasoning}"'
        run, _ = await ran(tmp_path, "policy", server.base_url, more)
        keys = [hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:6] for body in server.bodies]
    texts = {text for [text] in table(tmp_path / "w-policy", "SELECT text FROM responses WHERE kind = 'initial'")}
    assert texts <= {text.format(key=key) for key in keys}
    assert any("3 replies have a stop string" in event for event in events(run)) is told


@pytest.mark.parametrize("role", ["policy", "judge"])
async def test_a_server_that_is_mended_answers_every_prompt_and_is_paid_once(role: Role, tmp_path: Path) -> None:
    """As long as it was set up wrongly its answers went into the reasoning, its votes began with a blank line."""
    broken = True
    wrong = {
        "policy": saying({"content": None, "reasoning_content": "The answer."}),
        "judge": voting([("\n", -0.01), (" ", -6.0)]),
    }[role]
    async with OddServer(lambda body, nth: wrong(body, nth) if broken else None) as server:
        run, _ = await ran(tmp_path, role, server.base_url, prompts=30)
        assert run.stopped.startswith("servers: ")
        assert (run.counts["lost"], run.finished_at) == (0, None)
        assert len(server.bodies) < 60
        asked, broken = len(server.bodies), False
        done = await run_once(tmp_path / role / "recipe.toml", tmp_path / f"w-{role}", [])
        again = server.bodies[asked:]
    assert (done.counts["open"], done.counts["lost"]) == (0, 0)
    assert done.finished_at
    assert len({json.dumps(body, sort_keys=True) for body in again}) == len(again)
    assert table(tmp_path / f"w-{role}", "SELECT count(*) FROM responses WHERE text = ''") == [(0,)]


async def test_a_model_that_says_nothing_once_is_believed(tmp_path: Path) -> None:
    """And asked again only if it was the first to be asked, so that nothing was known of the server."""

    def odd(body: Body, nth: int) -> Reply | None:
        if "thing 2" not in json.dumps(body["messages"]):
            return None
        return saying({"content": None, "reasoning_content": "Nothing to say."})(body, nth)

    async with OddServer(odd) as server:
        run, seen = await ran(tmp_path, "policy", server.base_url, prompts=6)
    assert (run.stopped, seen.finished, seen.open, seen.lost) == ("", True, 0, 0)
    assert seen.outcomes == {"ok": 10, "empty": 1}


@pytest.mark.parametrize(
    "told",
    [
        {"reasoning": ["One.", "Two."]},
        {"reasoning": {"text": "One.\n\nTwo."}},
        {"reasoning": "", "reasoning_content": [{"type": "text", "text": "One."}, {"thinking": "Two."}]},
        {"thinking": {"summary": [{"text": "One.\n\n"}, {"text": "Two."}]}},
    ],
)
def test_a_field_of_reasoning_that_is_no_text_is_read(told: dict[str, Any]) -> None:
    assert of_message({"content": "Yes.", **told}) == ("One.\n\nTwo.", "Yes.")


def test_a_field_that_says_nothing_is_no_reasoning() -> None:
    for nothing in (None, False, 0, {}, [], [None], {"tokens": 5}, "  "):
        assert of_message({"content": "Yes.", "reasoning": nothing}) == (None, "Yes.")
