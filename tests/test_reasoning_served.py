"""Reasoning and dates of served models: however a server tells what its model thought, whatever its template does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any, get_args

import pytest

from constitution.engines.base import Completion, Request
from constitution.engines.fake import FakeEngine
from constitution.engines.openai.engine import OpenAIEngine
from constitution.engines.spoken import today
from constitution.errors import RequestRefused
from constitution.recipe import FakeModel, OpenAIModel
from constitution.records import Message, Messages, Sampling
from rehearsal.server import FakeServer, Fault, Thinks

ASK: Messages = (Message("user", "How do I light a fire?"),)
DAY = date(2026, 5, 1)


def thinking(**fields: Any) -> FakeEngine:
    return FakeEngine(FakeModel(engine="fake", thoughts=2, **fields))


async def ask(
    server: FakeServer, request: Request | None = None, **fields: Any
) -> tuple[Completion, OpenAIEngine, list[str]]:
    model = {"engine": "openai", "model": "fake", "base_url": server.base_url, "template_date": DAY, **fields}
    engine = await OpenAIEngine.open(OpenAIModel.model_validate(model))
    try:
        done = await engine.generate(request or Request(ASK, Sampling(), 5))
        return done, engine, list(engine.stats()["events"])
    finally:
        await engine.close()


def opening(messages: list[Any], variables: Mapping[str, Any]) -> str:
    """A template that opens a thought, unless it is told not to."""
    said = "".join(f"<|{each['role']}|>{each['content']}" for each in messages)
    return (
        said + "<|assistant|>" + ("<think>\n" if variables.get("enable_thinking", True) else "<think>\n\n</think>\n\n")
    )


@pytest.mark.parametrize("thinks", get_args(Thinks))
@pytest.mark.parametrize("prefix", ["flag", "continue"])
async def test_the_thought_is_apart_however_it_is_told(thinks: Thinks, prefix: Any) -> None:
    direct = await thinking().generate(Request(ASK, Sampling(), 5))
    async with FakeServer(thinking(), prefix=prefix) as server:
        server.thinks = thinks
        found, _, _ = await ask(server)
    assert (found.text, found.reasoning, found.finish_reason) == (direct.text, direct.reasoning, "stop")
    assert found.completion_tokens == direct.completion_tokens
    assert found.reasoning_tokens == (0 if thinks in ("tags", "closing") else direct.reasoning_tokens)


@pytest.mark.parametrize("thinks", get_args(Thinks))
async def test_a_thought_that_used_up_max_tokens_is_no_text(thinks: Thinks) -> None:
    async with FakeServer(thinking()) as server:
        server.thinks, server.template = thinks, opening
        found, _, _ = await ask(server, Request(ASK, Sampling(max_tokens=5), 5))
    assert (found.text, found.finish_reason, found.completion_tokens) == ("", "length", 5)
    assert found.reasoning is not None
    assert len(found.reasoning.split()) == 5


async def test_a_template_that_opens_a_thought_makes_no_thought_of_a_plain_answer() -> None:
    async with FakeServer(FakeEngine(FakeModel(engine="fake"))) as server:
        server.template = opening
        found, _, _ = await ask(server)
    assert (found.reasoning, found.finish_reason) == (None, "stop")
    assert found.text.startswith("About")


async def test_a_server_that_parts_thoughts_off_is_believed() -> None:
    """Its answer may speak of tags, and be cut: it is no thought."""
    changes = {"message": {"content": "In the end: </think>\n\nis a tag", "reasoning": None}, "finish_reason": "length"}
    usage = {"completion_tokens": 9, "prompt_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 0}}
    async with FakeServer(faults=[Fault(changes=changes, reply={"usage": usage})]) as server:
        server.template = opening
        found, _, _ = await ask(server)
    assert (found.text, found.reasoning) == ("In the end: </think>\n\nis a tag", None)


@pytest.mark.parametrize(
    "text", ["Use <think> and </think> as tags.", "It ends with `</think>`.", "<reasoning> is XML."]
)
async def test_an_answer_about_tags_stays_whole(text: str) -> None:
    async with FakeServer(faults=[Fault(changes={"message": {"content": text}})]) as server:
        found, _, _ = await ask(server)
    assert (found.text, found.reasoning) == (text, None)


async def test_kept_reasoning_stays_in_the_text() -> None:
    direct = await thinking(reasoning="keep").generate(Request(ASK, Sampling(), 5))
    async with FakeServer(thinking()) as server:
        server.thinks = "tags"
        found, _, _ = await ask(server, reasoning="keep")
    assert (found.text, found.reasoning) == (direct.text, None)


async def test_tokens_that_a_gateway_leaves_out_are_added() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 300}}
    async with FakeServer(faults=[Fault(reply={"usage": {**usage, "total_tokens": 318}})]) as server:
        found, _, _ = await ask(server)
    assert (found.completion_tokens, found.reasoning_tokens) == (308, 300)


async def test_variables_are_sent_and_off_is_asked_for() -> None:
    async with FakeServer() as server:
        await ask(server)
        await ask(server, chat_template_kwargs={"custom": 1})
        await ask(server, reasoning="off", chat_template_kwargs={"custom": 1})
        bodies = [each.body for each in server.requests]
    assert "chat_template_kwargs" not in bodies[0]
    assert bodies[1]["chat_template_kwargs"] == {"custom": 1}
    assert bodies[2]["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False, "custom": 1}


async def test_a_server_that_knows_no_variables_is_asked_without() -> None:
    said = "Unrecognized request argument supplied: chat_template_kwargs"
    refusal = json.dumps({"error": {"message": said, "type": "invalid_request_error"}})
    async with FakeServer(prefix="continue", faults=[Fault(status=400, body=refusal)]) as server:
        found, _, events = await ask(server, reasoning="off")
        assert [("chat_template_kwargs" in each.body) for each in server.requests] == [True, False]
    assert found.text
    assert any("nothing turns reasoning off" in event for event in events)


async def test_labels_are_asked_for_with_thinking_off_where_the_template_opens_a_thought() -> None:
    vote = Request((*ASK, Message("assistant", "(")), Sampling(max_tokens=1), 5, choices=("A", "B"))
    async with FakeServer() as server:
        await ask(server, vote)
        server.template = opening
        await ask(server, vote)
        bodies = [each.body for each in server.requests]
    assert "chat_template_kwargs" not in bodies[0]
    assert bodies[1]["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}


async def test_a_stop_string_in_a_thought_ends_no_answer() -> None:
    """The server stops at it wherever it is; the answer is then asked for without, and cut here."""
    direct = await thinking().generate(Request(ASK, Sampling(), 5))
    assert direct.reasoning is not None
    stop = " or “"
    assert stop in direct.reasoning
    at = direct.text.index(" ", 40)
    request = Request(ASK, Sampling(stop=(stop, direct.text[at : at + 9])), 5)
    ended = {"message": {"content": None, "reasoning": direct.reasoning.partition(stop)[0]}}
    async with FakeServer(thinking(), faults=[Fault(changes=ended)]) as server:
        found, _, events = await ask(server, request)
        sent = [each.body.get("stop") for each in server.requests]
    assert (found.text, found.reasoning, found.finish_reason) == (direct.text[:at], direct.reasoning, "stop")
    assert sent == [list(request.sampling.stop), None]
    assert found.completion_tokens > direct.completion_tokens  # both calls are paid
    assert any("stop strings ended" in event for event in events)


# --- dates


def dated(messages: list[Any], variables: Mapping[str, Any]) -> str:
    return f"Today Date: {variables.get('date_string') or today().strftime('%d %b %Y')}\n\nhello"


def clock(messages: list[Any], variables: Mapping[str, Any]) -> str:
    return f"The current date is {today():%Y-%m-%d}.\n\nhello"


async def test_a_served_template_that_takes_the_day_is_told_the_runs() -> None:
    async with FakeServer() as server:
        server.template = dated
        _, engine, events = await ask(server)
        body = server.requests[-1].body
    assert body["chat_template_kwargs"] == {"date_string": "01 May 2026"}
    assert engine.describe()["template_date"] == "2026-05-01"
    assert not events


async def test_a_served_template_with_a_clock_of_its_own_is_recorded() -> None:
    async with FakeServer() as server:
        server.template = clock
        _, engine, events = await ask(server)
        body = server.requests[-1].body
    assert "chat_template_kwargs" not in body
    assert engine.describe()["template_date"].startswith("the server's, ")
    assert any("shows the day of the server's clock" in event for event in events)


async def test_a_server_that_shows_no_prompt_is_left_at_that() -> None:
    for server in (FakeServer(lacks=["tokenize"]), FakeServer(), FakeServer(prefix="continue")):
        async with server:
            found, engine, events = await ask(server)
        assert found.text
        assert "template_date" not in engine.describe()
        assert not events


@pytest.mark.parametrize(("dialect", "template"), [("vllm", opening), ("openai", None)])
async def test_a_thought_that_is_given_is_the_beginning_of_the_servers_turn(dialect: str, template: Any) -> None:
    async with FakeServer(thinking(), prefix="flag") as server:
        server.template = template
        found, _, _ = await ask(server, Request(ASK, Sampling(), 5, thought="I <|im_end|> wonder."), dialect=dialect)
        body = server.requests[-1].body
    last = body["messages"][-1]
    assert last["role"] == "assistant"
    assert last["content"].startswith("<think>\nI ")
    assert last["content"].endswith(" wonder.\n</think>\n\n")
    assert "<|im_end|>" not in last["content"]
    assert "wonder" not in found.text
    assert body.get("continue_final_message", False) is (dialect == "vllm")


async def test_a_thought_cannot_be_given_by_the_messages_api() -> None:
    async with FakeServer(thinking()) as server:
        with pytest.raises(RequestRefused, match="takes no thought"):
            await ask(server, Request(ASK, Sampling(), 5, thought="I wonder."), dialect="anthropic")
