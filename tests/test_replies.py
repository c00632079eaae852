"""Replies kept in a file: nothing is asked twice, whatever ended the work, and a failure is no reply."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from constitution.engines import Completion, Engine, Request
from constitution.engines.base import Unseen
from constitution.errors import EngineUnavailable, InputError
from constitution.propose.replies import Replies
from constitution.records import Message, Sampling

REQUEST = Request((Message("user", "What is a “tide”?\x00\u2028"),), Sampling(), 1)


class Counting(Engine):
    """Answers with the number of the call; every call fails while `down`."""

    model = "counting"

    def __init__(self) -> None:
        self.calls, self.down = 0, False

    async def generate(self, request: Request) -> Completion:
        if self.down:
            raise EngineUnavailable("down")
        self.calls += 1
        return Completion(
            f"reply {self.calls}\n", "stop", 7, 3, choice_logprobs={"A": -0.25, "B": float("-inf")}, reasoning="hm",
            unsent=("seed",), unseen=Unseen(0.1, 0.2),
        )  # fmt: skip


def ask(path: Path, engine: Engine, *requests: Request, identity: str = "m") -> tuple[list[Completion], Replies]:
    async def asked() -> list[Completion]:
        kept = replies.of(engine, {"model": identity})
        return [await kept.generate(request) for request in requests]

    with Replies.open(path) as replies:
        return asyncio.run(asked()), replies


def test_a_request_is_asked_once_and_its_reply_is_the_same_in_every_field(tmp_path: Path) -> None:
    engine, path = Counting(), tmp_path / "new" / "replies.jsonl"
    [first], replies = ask(path, engine, REQUEST)
    assert (replies.asked, replies.kept, replies.prompt_tokens, replies.completion_tokens) == (1, 0, 7, 3)
    [again], replies = ask(path, engine, REQUEST)
    assert (again, engine.calls, replies.asked, replies.kept) == (first, 1, 0, 1)
    elsewhere = replace(REQUEST, priority=3, affinity="x", step="vote", answered=2)
    assert ask(path, engine, elsewhere)[0] == [first]


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, seed=2),
        replace(REQUEST, choices=("A", "B")),
        replace(REQUEST, sampling=Sampling(temperature=0.25)),
        replace(REQUEST, thought="hm"),
        replace(REQUEST, messages=(Message("system", "Be brief."), *REQUEST.messages)),
    ],
)
def test_another_request_is_asked(tmp_path: Path, other: Request) -> None:
    engine = Counting()
    first, second = ask(tmp_path / "r", engine, REQUEST, other)[0]
    assert (engine.calls, first.text != second.text) == (2, True)


def test_another_model_is_asked(tmp_path: Path) -> None:
    engine = Counting()
    ask(tmp_path / "r", engine, REQUEST)
    ask(tmp_path / "r", engine, REQUEST, identity="n")
    assert engine.calls == 2


def test_a_failure_is_raised_counted_and_asked_again(tmp_path: Path) -> None:
    engine = Counting()
    engine.down = True
    with Replies.open(tmp_path / "r") as replies:
        with pytest.raises(EngineUnavailable):
            asyncio.run(replies.of(engine, {}).generate(REQUEST))
        assert replies.failures == {"EngineUnavailable": 1}
        engine.down = False
        assert asyncio.run(replies.of(engine, {}).generate(REQUEST)).text == "reply 1\n"


def test_a_line_that_a_kill_tore_is_asked_again_and_said(tmp_path: Path) -> None:
    engine, path = Counting(), tmp_path / "r"
    ask(path, engine, REQUEST, replace(REQUEST, seed=2))
    whole = path.read_bytes()
    for end in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:end])
        with Replies.open(path) as replies:
            assert bool(replies.torn) == (end > whole.index(b"\n") + 1)
            assert len(path.read_bytes().splitlines()) == 1
    ask(path, engine, REQUEST, replace(REQUEST, seed=2))
    assert engine.calls == 3
    assert len(path.read_bytes().splitlines()) == 2


def test_a_line_that_is_no_reply_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "r"
    ask(path, Counting(), REQUEST)
    for bad in (b"[]\n", b"{}\n", b"\xff\xfe\n", b'{"key": "x", "text": "y"}\n'):
        whole = path.read_bytes()
        path.write_bytes(whole + bad)
        with pytest.raises(InputError, match="line 2: is no reply"), Replies.open(path):
            pass
        path.write_bytes(whole)


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    with (
        Replies.open(tmp_path / "r"),
        pytest.raises(InputError, match="another process"),
        Replies.open(tmp_path / "r"),
    ):
        pass
    with Replies.open(tmp_path / "r"):
        pass
