"""bespokelabs-curator: a class a stage over the whole data set, stage after stage, as its documentation chains them.

Its answers are text: the votes are asked for and paid for with log-probabilities, and their labels taken.
"""

from __future__ import annotations

from typing import Any

from bespokelabs import curator
from datasets import Dataset

from benchmarks.figures import Moment, report
from benchmarks.job import CRITIQUE, MODEL, REVISION, VOTE, VOTE_PREFIX, WINDOW, options, read_prompts

Row = dict[str, Any]


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


class Stage(curator.LLM):
    """Adds one column, its `name`, to every row."""

    name = ""

    def parse(self, input: Row, response: str) -> Row:
        return input | {self.name: response}


class Initial(Stage):
    name = "initial"

    def prompt(self, input: Row) -> Any:
        return [user(input["prompt"])]


class Critique(Stage):
    name = "critique"

    def prompt(self, input: Row) -> Any:
        return [user(input["prompt"]), assistant(input["initial"]), user(CRITIQUE)]


class Revision(Stage):
    name = "revision"

    def prompt(self, input: Row) -> Any:
        return [*Critique.prompt(self, input), assistant(input["critique"]), user(REVISION)]


class VoteAB(Stage):
    name = "ab"

    def prompt(self, input: Row) -> Any:
        text = VOTE.format(prompt=input["prompt"], first=input["initial"], second=input["revision"])
        return [user(text), assistant(VOTE_PREFIX)]


class VoteBA(Stage):
    name = "ba"

    def prompt(self, input: Row) -> Any:
        text = VOTE.format(prompt=input["prompt"], first=input["revision"], second=input["initial"])
        return [user(text), assistant(VOTE_PREFIX)]


SAYING = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 512}
VOTING = {
    **SAYING,
    "max_tokens": 1,
    "logprobs": True,
    "top_logprobs": 5,
    "extra_body": {"continue_final_message": True, "add_generation_prompt": False},
}


def main() -> None:
    given = options()
    backend = {
        "base_url": given.base_url,
        "api_key": "none",
        "max_concurrent_requests": WINDOW,
        "max_requests_per_minute": 10_000_000,
        "max_tokens_per_minute": 10_000_000_000,
        "invalid_finish_reasons": ["content_filter"],
    }
    begun = Moment.now()
    data = Dataset.from_dict({"prompt": list(read_prompts(given.prompts))})
    stages = [(Initial, SAYING), (Critique, SAYING), (Revision, SAYING), (VoteAB, VOTING), (VoteBA, VOTING)]
    for stage, parameters in stages:
        llm = stage(model_name=MODEL, backend="openai", backend_params=backend, generation_params=parameters)
        data = llm(data, working_dir=given.out + "/curator").dataset
    data.to_parquet(given.out + "/curator.parquet")
    report(begun, len(data))


if __name__ == "__main__":
    main()
