"""The yardstick: the same five calls a prompt in a bare asyncio and aiohttp loop, without retries, storage or resume.

python -m benchmarks.bare --base-url http://127.0.0.1:8000/v1 --prompts prompts.jsonl
"""

from __future__ import annotations

import asyncio
import math

import aiohttp

from benchmarks.figures import Moment, report
from benchmarks.job import CRITIQUE, MODEL, REVISION, VOTE, VOTE_PREFIX, WINDOW, options, read_prompts


async def chain(session: aiohttp.ClientSession, url: str, prompt: str, long: bool) -> tuple[str, str, float | None]:
    """Initial answer, revision, and the probability that the revision is better, over both orders.

    long: a second critique and revision, and no votes.
    """

    async def call(messages: list[dict[str, str]], **fields: object) -> dict[str, object]:
        body = {"model": MODEL, "messages": messages, "temperature": 1.0, "top_p": 1.0, "max_tokens": 512} | fields
        async with session.post(url, json=body) as reply:
            choice: dict[str, object] = (await reply.json())["choices"][0]
            return choice

    async def say(messages: list[dict[str, str]], request: str) -> str:
        messages.append({"role": "user", "content": request})
        message: dict[str, str] = (await call(messages))["message"]  # type: ignore[assignment]
        messages.append({"role": "assistant", "content": message["content"]})
        return message["content"]

    async def vote(first: str, second: str) -> float:
        asked = [
            {"role": "user", "content": VOTE.format(prompt=prompt, first=first, second=second)},
            {"role": "assistant", "content": VOTE_PREFIX},
        ]
        flags = {"continue_final_message": True, "add_generation_prompt": False}
        choice = await call(asked, **flags, max_tokens=1, logprobs=True, top_logprobs=5)
        entries = choice["logprobs"]["content"][0]["top_logprobs"]  # type: ignore[index]
        found = {entry["token"]: math.exp(entry["logprob"]) for entry in entries}
        return found["A"] / (found["A"] + found["B"])

    messages: list[dict[str, str]] = []
    initial = await say(messages, prompt)
    await say(messages, CRITIQUE)
    revision = await say(messages, REVISION)
    if long:
        await say(messages, CRITIQUE)
        return initial, await say(messages, REVISION), None
    ab, ba = await asyncio.gather(vote(initial, revision), vote(revision, initial))
    return initial, revision, (1 - ab + ba) / 2


async def main(base_url: str, path: str, long: bool) -> None:
    begun = Moment.now()
    prompts = read_prompts(path)
    results: list[tuple[str, str, float | None]] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2 * WINDOW)) as session:

        async def worker() -> None:
            for prompt in prompts:
                results.append(await chain(session, base_url + "/chat/completions", prompt, long))

        await asyncio.gather(*[worker() for _ in range(WINDOW)])
    report(begun, len(results))


if __name__ == "__main__":
    given = options()
    asyncio.run(main(given.base_url, given.prompts, given.long))
