"""datatrove's InferenceRunner with a rollout function, as its examples have it; --checkpoints turns its resume on.

Its `generate` gives back text and no log-probabilities, so votes are asked for and paid for, and their labels taken.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from loguru import logger

from benchmarks.figures import Moment, report
from benchmarks.job import CRITIQUE, MODEL, REVISION, VOTE, VOTE_PREFIX, WINDOW, options


async def chain(document: Any, generate: Any) -> dict[str, str]:
    messages: list[dict[str, str]] = []

    async def say(request: str) -> str:
        messages.append({"role": "user", "content": request})
        reply = await generate({"messages": messages})
        messages.append({"role": "assistant", "content": reply.text})
        return str(reply.text)

    async def vote(first: str, second: str) -> str:
        text = VOTE.format(prompt=document.text, first=first, second=second)
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": VOTE_PREFIX}]
        flags = {"continue_final_message": True, "add_generation_prompt": False}
        reply = await generate({"messages": turns, "max_tokens": 1, "logprobs": True, "top_logprobs": 5, **flags})
        return str(reply.text)

    initial = await say(document.text)
    await say(CRITIQUE)
    revision = await say(REVISION)
    ab, ba = await asyncio.gather(vote(initial, revision), vote(revision, initial))
    return {"initial": initial, "revision": revision, "ab": ab, "ba": ba}


def main() -> None:
    given = options()
    logger.remove()
    folder = given.prompts.rpartition("/")[0]
    begun = Moment.now()
    runner = InferenceRunner(
        rollout_fn=chain,
        config=InferenceConfig(
            server_type="endpoint",
            model_name_or_path=MODEL,
            endpoint_url=given.base_url.removesuffix("/v1"),
            default_generation_params={"temperature": 1.0, "top_p": 1.0, "max_tokens": 512},
            max_concurrent_generations=2 * WINDOW,
            max_concurrent_documents=WINDOW,
        ),
        output_writer=JsonlWriter(
            given.out + "/out", output_filename="${rank}_chunk_${chunk_index}.jsonl", compression=None
        ),
        checkpoints_local_dir=given.out + "/checkpoints" if given.checkpoints else None,
        records_per_chunk=500,
    )
    pipeline = [JsonlReader(folder, glob_pattern="prompts.jsonl", text_key="prompt"), runner]
    LocalPipelineExecutor(pipeline=pipeline, logging_dir=given.out + "/logs", tasks=1).run()
    report(begun, sum(len(path.read_text().splitlines()) for path in Path(given.out, "out").iterdir()))


if __name__ == "__main__":
    main()
