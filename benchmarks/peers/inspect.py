"""inspect_ai: a task with one solver that has the conversation and asks for both votes; no scorer."""

from __future__ import annotations

import asyncio
from typing import Any

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, GenerateConfig, get_model
from inspect_ai.solver import solver

from benchmarks.figures import Moment, report
from benchmarks.job import CRITIQUE, MODEL, REVISION, VOTE, VOTE_PREFIX, WINDOW, options, read_prompts

VOTING = GenerateConfig(
    max_tokens=1,
    logprobs=True,
    top_logprobs=5,
    extra_body={"continue_final_message": True, "add_generation_prompt": False},
)


@solver
def chain() -> Any:
    async def solve(state: Any, generate: Any) -> Any:
        prompt = state.input_text
        state = await generate(state)
        initial = state.output.completion
        state.messages.append(ChatMessageUser(content=CRITIQUE))
        state = await generate(state)
        state.messages.append(ChatMessageUser(content=REVISION))
        state = await generate(state)
        revision = state.output.completion

        async def vote(first: str, second: str) -> Any:
            text = VOTE.format(prompt=prompt, first=first, second=second)
            asked = [ChatMessageUser(content=text), ChatMessageAssistant(content=VOTE_PREFIX)]
            reply = await get_model().generate(asked, config=VOTING)
            return {entry.token: entry.logprob for entry in reply.choices[0].logprobs.content[0].top_logprobs}

        ab, ba = await asyncio.gather(vote(initial, revision), vote(revision, initial))
        state.metadata |= {"ab": ab, "ba": ba}
        return state

    return solve


def main() -> None:
    given = options()
    begun = Moment.now()
    task = Task(dataset=[Sample(input=prompt) for prompt in read_prompts(given.prompts)], solver=chain())
    [log] = eval(
        task,
        model="openai-api/sim/" + MODEL,
        model_base_url=given.base_url,
        temperature=1.0,
        top_p=1.0,
        max_tokens=512,
        max_connections=2 * WINDOW,
        max_samples=WINDOW,
        log_dir=given.out + "/logs",
        display="none",
    )
    assert log.status == "success", log.error
    report(begun, log.results.completed_samples)


if __name__ == "__main__":
    main()
