"""An OpenAI-compatible server on this machine whose replies are odd in one way, for tests of what is made of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import odd_server

Reply = dict[str, Any]


def reply(text: str | None, vote: bool) -> Reply:
    """A sound one: 40 words share what A and B leave, so that 18 of them are told."""
    probabilities = {"A": 0.7, "B": 0.2} | {f"w{number}": 0.1 / 40 for number in range(40)}
    top = [{"token": token, "logprob": math.log(p)} for token, p in list(probabilities.items())[:20]]
    logprobs = {"content": [{"token": "A", "logprob": math.log(0.7), "top_logprobs": top}]} if vote else None
    return {
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "A" if vote else text},
                "logprobs": logprobs,
                "finish_reason": "length" if vote else "stop",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
    }


def choice(**fields: Any) -> Callable[[Reply], None]:
    return lambda sound: sound["choices"][0].update(fields)


def content(text: Any, finish: Any = "stop", **message: Any) -> Callable[[Reply], None]:
    return choice(message={"role": "assistant", "content": text, **message}, finish_reason=finish)


def choices(*numbers: Any) -> Callable[[Reply], None]:
    """As many as there are numbers; None: without an index. The one of index 0 says `right`."""

    def change(sound: Reply) -> None:
        [only] = sound["choices"]
        made = []
        for number in numbers:
            one = {**only, "index": number}
            if number is None:
                del one["index"]
            if number != 0 and len(numbers) > 1:
                one["message"] = {"role": "assistant", "content": "wrong"}
                one["logprobs"] = None
            made.append(one)
        sound["choices"] = made

    return change


def usage(**counts: Any) -> Callable[[Reply], None]:
    return lambda sound: sound["usage"].update(counts)


def top(*entries: Any) -> Callable[[Reply], None]:
    """Only votes change. entries: of top_logprobs; a pair is a token and its log-probability."""

    def change(sound: Reply) -> None:
        if sound["choices"][0]["logprobs"]:
            made = [{"token": e[0], "logprob": e[1]} if isinstance(e, tuple) else e for e in entries]
            sound["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = made

    return change


def model(name: Any) -> Callable[[Reply], None]:
    return lambda sound: sound.update(model=name)


class OddServer(odd_server.OddServer):
    """`change` is made to every sound reply; `raw` to its bytes. The `words` are what it answers."""

    def __init__(
        self,
        change: Callable[[Reply], None] = lambda sound: None,
        raw: Callable[[bytes], bytes] = lambda sound: sound,
        words: str = "right",
    ) -> None:
        def odd(body: odd_server.Body, nth: int) -> odd_server.Reply:
            key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:6]
            sound = reply(f"{words} {key}", bool(body.get("logprobs")))
            change(sound)
            return odd_server.Reply(raw(json.dumps(sound).encode()))

        super().__init__(odd)
