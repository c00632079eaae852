"""The yardstick: the same calls a prompt in a bare asyncio and aiohttp loop, without retries, storage or resume.

python -m benchmarks.bare --base-url http://127.0.0.1:8000/v1 --prompts prompts.jsonl
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp

from benchmarks.figures import Moment, report
from benchmarks.job import (
    CRITERION,
    CRITIQUE,
    MODEL,
    QUESTIONS,
    REVISION,
    SAMPLES,
    VOTE,
    VOTE_PREFIX,
    WINDOW,
    options,
    read_prompts,
)

Call = Callable[..., Awaitable[dict[str, Any]]]
Messages = list[dict[str, str]]


async def label(call: Call, request: str, labels: Sequence[str], **fields: object) -> float:
    """Probability of the first of two labels."""
    asked = [{"role": "user", "content": request}, {"role": "assistant", "content": VOTE_PREFIX}]
    flags = {"continue_final_message": True, "add_generation_prompt": False}
    choice = await call(asked, **flags, **fields, max_tokens=1, logprobs=True, top_logprobs=5)
    entries = choice["logprobs"]["content"][0]["top_logprobs"]
    first, second = (math.exp(entry["logprob"]) for name in labels for entry in entries if entry["token"] == name)
    return first / (first + second)


async def chain(call: Call, prompt: str, long: bool) -> tuple[str, str, float | None]:
    """Initial answer, revision, and the probability that the revision is better, over both orders.

    long: a second critique and revision, and no votes.
    """

    async def say(messages: Messages, request: str) -> str:
        messages.append({"role": "user", "content": request})
        text: str = (await call(messages))["message"]["content"]
        messages.append({"role": "assistant", "content": text})
        return text

    messages: Messages = []
    initial = await say(messages, prompt)
    await say(messages, CRITIQUE)
    revision = await say(messages, REVISION)
    if long:
        await say(messages, CRITIQUE)
        return initial, await say(messages, REVISION), None
    orders = (initial, revision), (revision, initial)
    votes = [label(call, VOTE.format(prompt=prompt, first=a, second=b), "AB") for a, b in orders]
    ab, ba = await asyncio.gather(*votes)
    return initial, revision, (1 - ab + ba) / 2


async def group(call: Call, prompt: str) -> list[tuple[str, float]]:
    """Samples, each with its reward: the mean over the questions of the probability that it does not do it."""

    async def one(number: int) -> tuple[str, float]:
        answer = (await call([{"role": "user", "content": prompt}], seed=number))["message"]["content"]
        asked = [CRITERION.format(prompt=prompt, answer=answer, question=question) for question in QUESTIONS]
        ids = [ord("Y"), ord("N")]
        found = await asyncio.gather(*[label(call, each, "YN", logprob_token_ids=ids) for each in asked])
        return answer, 1 - sum(found) / len(found)

    return await asyncio.gather(*[one(number) for number in range(SAMPLES)])


async def main(base_url: str, path: str, long: bool, samples: bool) -> None:
    begun = Moment.now()
    prompts = read_prompts(path)
    results: list[object] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2 * WINDOW)) as session:

        async def call(messages: Messages, **fields: object) -> dict[str, Any]:
            body = {"model": MODEL, "messages": messages, "temperature": 1.0, "top_p": 1.0, "max_tokens": 512} | fields
            async with session.post(base_url + "/chat/completions", json=body) as reply:
                choice: dict[str, Any] = (await reply.json())["choices"][0]
                return choice

        async def worker() -> None:
            for prompt in prompts:
                results.append(await (group(call, prompt) if samples else chain(call, prompt, long)))

        await asyncio.gather(*[worker() for _ in range(WINDOW)])
    report(begun, len(results))


if __name__ == "__main__":
    given = options()
    asyncio.run(main(given.base_url, given.prompts, given.long, given.samples))
