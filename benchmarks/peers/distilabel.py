"""distilabel: a pipeline of chat tasks, each in a process of its own; steps between them put the messages together.

No `from __future__ import annotations` here: distilabel reads the steps' annotations and takes no text for them.
"""

import json
from typing import Any

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, StepInput, step
from distilabel.steps.tasks import ChatGeneration

from benchmarks.figures import Moment, report
from benchmarks.job import CRITIQUE, MODEL, REVISION, VOTE, WINDOW, options, read_prompts


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


@step(inputs=["messages", "initial"], outputs=["messages"])
def ask_critique(inputs: StepInput) -> Any:
    for row in inputs:
        row["messages"] = [*row["messages"], assistant(row["initial"]), user(CRITIQUE)]
    yield inputs


@step(inputs=["messages", "critique"], outputs=["messages"])
def ask_revision(inputs: StepInput) -> Any:
    for row in inputs:
        row["messages"] = [*row["messages"], assistant(row["critique"]), user(REVISION)]
    yield inputs


@step(inputs=["prompt", "initial", "revision"], outputs=["messages"])
def ask_ab(inputs: StepInput) -> Any:
    for row in inputs:
        row["messages"] = [user(VOTE.format(prompt=row["prompt"], first=row["initial"], second=row["revision"]))]
    yield inputs


@step(inputs=["prompt", "initial", "revision"], outputs=["messages"])
def ask_ba(inputs: StepInput) -> Any:
    for row in inputs:
        row["messages"] = [user(VOTE.format(prompt=row["prompt"], first=row["revision"], second=row["initial"]))]
    yield inputs


def main() -> None:
    given = options()
    begun = Moment.now()

    def chat(name: str, **parameters: object) -> ChatGeneration:
        saying = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 512} | parameters
        llm = OpenAILLM(model=MODEL, base_url=given.base_url, api_key="none", generation_kwargs=saying)
        return ChatGeneration(
            name=name,
            llm=llm,
            input_batch_size=WINDOW,
            output_mappings={"generation": name, "model_name": "model"},
            add_raw_input=False,
            add_raw_output=False,
        )

    voting = {"max_new_tokens": 1, "logprobs": True, "top_logprobs": 5}
    with Pipeline(name="bench", cache_dir=given.out + "/cache") as pipeline:
        rows = [{"prompt": prompt, "messages": [user(prompt)]} for prompt in read_prompts(given.prompts)]
        load = LoadDataFromDicts(data=rows, batch_size=WINDOW)
        asked = [each(input_batch_size=WINDOW) for each in (ask_critique, ask_revision, ask_ab, ask_ba)]
        load >> chat("initial") >> asked[0] >> chat("critique") >> asked[1] >> chat("revision")  # type: ignore[operator]
        revision = pipeline.dag.get_step("revision")["step"]
        revision >> asked[2] >> chat("ab", **voting) >> asked[3] >> chat("ba", **voting)
    made = pipeline.run(use_cache=False)["default"]["train"]
    made.to_parquet(given.out + "/distilabel.parquet")
    assert all(json.dumps(row["ba"]) != "null" for row in made)
    report(begun, len(made), processes=True)


if __name__ == "__main__":
    main()
