"""Batches where servers, networks and clocks lie, and starts whose sections are others: nothing is paid for twice, and
no reply is another request's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from batch_servers import Batch, ChatBatchServer, Fate, Fault, MessageBatchServer
from messages_server import KEY
from test_batch import ASKED, asked, plain, section

from constitution.engines import open_engines
from constitution.engines.base import Completion
from constitution.engines.openai.batch.notes import Notes
from constitution.engines.openai.engine import OpenAIEngine
from constitution.errors import WarehouseError
from constitution.recipe import Models, ModelSection

MESSAGES: dict[str, Any] = {"dialect": "anthropic", "api_key_env": "MESSAGES_KEY"}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGES_KEY", KEY)


async def killed(server: ChatBatchServer, notes: Path, **fields: Any) -> None:
    """A start that does not hear that its batch was made."""
    engine = await OpenAIEngine.open(section(server.base_url, **fields), notes)
    met = server.met("POST /v1/messages/batches" if fields else "POST /v1/batches", "after")
    tasks = [asyncio.create_task(engine.generate(each)) for each in ASKED]
    await met.wait()
    for task in tasks:
        task.cancel()
    await engine.close()


def rewrite(notes: Path, **fields: Any) -> None:
    """The only note, with these fields."""
    [path] = notes.glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("hours", [-30 * 24, -15, 0, 15])
@pytest.mark.parametrize("kind", [ChatBatchServer, MessageBatchServer])
async def test_a_clock_that_is_hours_off_pays_for_no_batch_twice(
    tmp_path: Path, kind: type[ChatBatchServer], hours: int
) -> None:
    fields = MESSAGES if kind is MessageBatchServer else {}
    async with kind() as server:
        await killed(server, tmp_path, **fields)
        rewrite(tmp_path, made=2_000_000_000 + hours * 3600.0)
        done, _ = await asked(server, tmp_path, **fields)
        assert all(isinstance(each, Completion) for each in done)
        assert len(server.batches) == 1
        assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("counts", [None, {}, {"processing": None}, {"processing": "6"}])
async def test_a_batch_of_which_the_server_does_not_say_how_many_requests_it_has_is_found(
    tmp_path: Path, counts: Any
) -> None:
    class Silent(MessageBatchServer):
        def _told(self, batch: Batch) -> dict[str, Any]:
            return {**super()._told(batch), "request_counts": counts}

    async with Silent() as server:
        await killed(server, tmp_path, **MESSAGES)
        await asked(server, tmp_path, **MESSAGES)
        assert len(server.batches) == 1


async def test_another_batch_with_a_broken_line_is_in_no_ones_way(tmp_path: Path) -> None:
    async with MessageBatchServer() as server:
        await killed(server, tmp_path, **MESSAGES)
        other = server._add({}, [{"custom_id": f"another-{number}", "params": {}} for number in range(6)])
        other.state, other.lines = "completed", ["{half", {"custom_id": "another-0", "result": {"type": "expired"}}]
        server._publish(other)
        done, _ = await asked(server, tmp_path, **MESSAGES)
        assert all(isinstance(each, Completion) for each in done)
        assert len(server.batches) == 2


# --- what comes back


class Late(ChatBatchServer):
    """For the first looks at a batch that has ended, its files are not there yet; or are cut."""

    looks, cut = 2, False

    def _told(self, batch: Batch) -> dict[str, Any]:
        told = super()._told(batch)
        if told["status"] == "completed":
            told["request_counts"] = {"total": 6, "completed": len(batch.lines), "failed": 0}
            self.looks -= not self.cut
            told |= {"output_file_id": None} if self.looks > 0 and not self.cut else {}
        return told

    async def _content(self, request: web.Request) -> web.Response:
        whole = await super()._content(request)
        assert isinstance(whole.body, bytes)
        self.looks -= self.cut
        return web.Response(body=whole.body[: len(whole.body) // 2]) if self.cut and self.looks > 0 else whole


@pytest.mark.parametrize("cut", [False, True])
async def test_answers_that_the_server_counts_and_does_not_show_yet_are_not_paid_for_again(
    tmp_path: Path, cut: bool
) -> None:
    async with Late() as server:
        server.cut = cut
        done, _ = await asked(server, tmp_path)
        assert done == await plain()
        assert len(server.batches) == 1
        assert set(server.paid.values()) == {1}


async def test_a_server_that_counts_more_than_there_is_holds_no_run_up(tmp_path: Path) -> None:
    class Boasting(ChatBatchServer):
        def _told(self, batch: Batch) -> dict[str, Any]:
            return {**super()._told(batch), "request_counts": {"total": 9, "completed": 9, "failed": -3}}

    async with Boasting(fates=[Fate(lines={0: None})]) as server:
        done, engine = await asked(server, tmp_path)
        assert done == await plain()
        assert any("requests without a line: 1" in event for event in engine.stats()["events"])


def answered(text: str, **fields: Any) -> Mapping[str, Any]:
    message = {"role": "assistant", "content": text}
    body = {"model": "fake", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **fields}
    return {"id": "b", "response": {"status_code": 200, "body": body}, "error": None}


async def test_a_line_that_only_some_parsers_take_is_read_as_the_reply_of_a_plain_run_would_be(tmp_path: Path) -> None:
    odd = {0: answered("yes", system_fingerprint=float("nan")), 1: answered("half \ud83d")}
    async with ChatBatchServer(fates=[Fate(lines=odd)]) as server:
        done, engine = await asked(server, tmp_path)
        assert [each.text for each in done if isinstance(each, Completion)][:2] == ["yes", "half \ud83d"]
        assert len(server.batches) == 1, "it was answered, and is not paid for again"
        assert not any("cannot be read" in event for event in engine.stats()["events"])


async def test_a_mark_of_the_order_of_bytes_before_the_file_is_none_of_it(tmp_path: Path) -> None:
    class Marking(ChatBatchServer):
        async def _content(self, request: web.Request) -> web.Response:
            whole = await super()._content(request)
            assert isinstance(whole.body, bytes)
            return web.Response(body=b"\xef\xbb\xbf" + whole.body)

    async with Marking() as server:
        done, _ = await asked(server, tmp_path)
        assert done == await plain()
        assert len(server.batches) == 1


# --- starts whose sections are others


@pytest.mark.parametrize("apart", [(False, True), (True, False)])
async def test_engines_that_are_shared_in_one_start_and_not_in_the_next_pay_for_nothing_twice(
    tmp_path: Path, apart: tuple[bool, bool]
) -> None:
    async with ChatBatchServer() as server:
        for number, alone in enumerate(apart):
            judge = section(server.base_url, concurrency=64) if alone else None
            models = Models(policy=section(server.base_url), judge=judge)
            async with open_engines(models, notes=tmp_path / "notes") as engines:
                both = [(engines.policy, ASKED[:3]), (next(iter(engines.judges.values())), ASKED[3:])]
                done = await asyncio.gather(*(engine.generate(each) for engine, all in both for each in all))
                assert len(done) == 6, number
        assert set(server.paid.values()) == {1}


async def test_jurors_of_one_name_at_two_servers_get_their_own_replies(tmp_path: Path) -> None:
    """Also from the notes of an earlier start; their requests are the same to the last byte."""
    async with ChatBatchServer() as one, ChatBatchServer(fates=[Fate(lines={0: answered("the other")})]) as two:
        jury: dict[str, ModelSection] = {"a": section(one.base_url), "b": section(two.base_url)}
        models = Models(policy=section(one.base_url), jury=jury)
        said = []
        for _ in range(2):
            async with open_engines(models, notes=tmp_path / "notes") as engines:
                said.append([(await judge.generate(ASKED[0])).text for judge in engines.judges.values()])
        assert said[0] == said[1]
        assert said[0][1] == "the other" != said[0][0]
        assert len(one.batches) == len(two.batches) == 1


async def test_a_batch_that_is_refused_after_an_answer_that_was_lost_is_looked_for(tmp_path: Path) -> None:
    """The answer to its making is lost, and it is seen in the list only later."""

    class Slow(ChatBatchServer):
        hidden = 2

        async def _list(self, request: web.Request) -> web.Response:
            if self.batches and self.hidden:
                self.hidden -= 1
                return web.json_response({"object": "list", "data": [], "has_more": False})
            return await super()._list(request)

    async with Slow(faults={"POST /v1/batches": [Fault(cut=True, done=True)]}) as server:
        done, _ = await asked(server, tmp_path)
        assert done == await plain()
        assert len(server.batches) == 1


@pytest.mark.parametrize("kind", [ChatBatchServer, MessageBatchServer])
@pytest.mark.parametrize("writes", range(5))
async def test_a_disk_that_is_full_at_any_write_pays_for_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[ChatBatchServer], writes: int
) -> None:
    fields = MESSAGES if kind is MessageBatchServer else {}
    left, replacing = writes, Notes._replacing

    def full(notes: Notes, path: Path) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise WarehouseError(f"{path}: cannot be written: no space left on device")
        return replacing(notes, path)

    async with kind() as server:
        with monkeypatch.context() as patch:
            patch.setattr(Notes, "_replacing", full)
            first, _ = await asked(server, tmp_path, **fields)
        assert {type(each) for each in first} <= {WarehouseError, Completion}
        assert left == -1 or not any(isinstance(each, WarehouseError) for each in first)
        done, _ = await asked(server, tmp_path, **fields)
        assert all(isinstance(each, Completion) for each in done)
        assert len(server.batches) == 1
        assert set(server.paid.values()) == {1}
