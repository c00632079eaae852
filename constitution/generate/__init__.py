"""Answers to a prompt: those that came with it, samples, a chain of revisions, and answers spoiled on purpose.

makers = generators(Setup(run_id, recipe, constitution, start=1, policy=engine))
for answers in await answer(makers, prompt, have={}, emit=writer.put):
    answers.responses, answers.failures
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from constitution.generate.base import Answers, Emit, Generator, Setup
from constitution.generate.given import Given
from constitution.generate.perturb import Perturb
from constitution.generate.revise import Revise
from constitution.generate.sample import Sample
from constitution.recipe import Recipe
from constitution.records import Prompt, Row
from constitution.templates import TemplateSet

__all__ = ["GENERATORS", "Answers", "Emit", "Generator", "Setup", "answer", "generators", "template_sets"]

GENERATORS: Mapping[str, type[Generator]] = {
    "given": Given,
    "sample": Sample,
    "revise": Revise,
    "perturb": Perturb,
}
"""In the order in which they are asked for a prompt's answers."""


def generators(setup: Setup) -> tuple[Generator, ...]:
    """Those that the recipe asks for."""
    wanted = [kind.of(setup) for kind in GENERATORS.values()]
    return tuple(generator for generator in wanted if generator is not None)


def template_sets(recipe: Recipe) -> tuple[TemplateSet, ...]:
    return tuple(texts for kind in GENERATORS.values() for texts in kind.templates(recipe))


async def answer(makers: Sequence[Generator], prompt: Prompt, have: Mapping[str, Row], emit: Emit) -> list[Answers]:
    """What each generator that was asked has of the prompt. `emit` adds what it takes to `have`."""
    made: list[Answers] = []
    for generator in makers:
        if not generator.builds_on_others or all(answers.complete for answers in made):
            made.append(await generator.answers(prompt, have, emit))
    return made
