"""Answers that came with the prompt, to be judged as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from constitution.engines.reasoning import split
from constitution.generate.base import Answers, Emit, Generator, Setup
from constitution.identity import row_id
from constitution.records import Prompt, Response, Row


@dataclass(frozen=True, slots=True)
class Given(Generator):
    run_id: str
    families: tuple[str | None, ...]
    """Families of the models that wrote the answers, in their order."""

    @classmethod
    def of(cls, setup: Setup) -> Self | None:
        """For pairs of them, or their rewards."""
        judge, prompts = setup.recipe.judge, setup.recipe.prompts
        wanted = (judge and "given" in judge.pairs) or (setup.recipe.reward and prompts.answers)
        return cls(setup.run_id, families(setup)) if wanted else None

    async def answers(self, prompt: Prompt, have: Mapping[str, Row], emit: Emit) -> Answers:
        given = given_answers(self.run_id, prompt, self.families)
        await emit([answer for answer in given if answer.id not in have])
        return Answers(given)


def families(setup: Setup) -> tuple[str | None, ...]:
    prompts = setup.recipe.prompts
    return tuple(prompts.families.get(key) for key in prompts.answers) if prompts.families else ()


def given_answers(run_id: str, prompt: Prompt, families: Sequence[str | None] = ()) -> tuple[Response, ...]:
    """As responses of kind `given`, round = their place among the answers. What a model thought before one, between
    tags, is its reasoning; one that ends in its thought is cut."""
    prompt_id = prompt.id
    thoughts = [split(text) for text in prompt.answers]
    return tuple(
        Response(
            id=row_id(run_id, prompt_id, "given", index),
            run_id=run_id,
            prompt_id=prompt_id,
            kind="given",
            round=index,
            text=thought.text,
            outcome="ok" if thought.text else "empty" if thought.closed else "cut",
            model="given",
            reasoning=thought.reasoning,
            family=families[index] if families else None,
            calls=0,
        )
        for index, thought in enumerate(thoughts)
    )
