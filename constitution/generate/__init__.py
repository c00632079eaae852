"""Answers to a prompt: those that came with it, samples, a chain of revisions, and answers spoiled on purpose.

makers = generators(Setup(run_id, recipe, constitution, start=1, policy=engine))
made, unread = await answer(makers, prompt, have={}, emit=writer.put)
for answers in made:
    answers.responses, answers.failures
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from constitution.generate.base import Answers, Check, Emit, Generator, Rewards, Setup, final
from constitution.generate.given import Given
from constitution.generate.perturb import Perturb
from constitution.generate.reference import Reference
from constitution.generate.revise import Revise
from constitution.generate.sample import Sample
from constitution.recipe import Recipe
from constitution.records import Failure, Prompt, Row
from constitution.templates import TemplateSet

__all__ = ["GENERATORS", "Answers", "Emit", "Generator", "Setup", "answer", "final", "generators", "template_sets"]

GENERATORS: Mapping[str, type[Generator]] = {
    "given": Given,
    "sample": Sample,
    "revise": Revise,
    "reference": Reference,
    "perturb": Perturb,
}
"""In the order in which they are asked for a prompt's answers."""


def generators(setup: Setup) -> tuple[Generator, ...]:
    """Those that the recipe asks for."""
    wanted = [kind.of(setup) for kind in GENERATORS.values()]
    return tuple(generator for generator in wanted if generator is not None)


def template_sets(recipe: Recipe) -> tuple[TemplateSet, ...]:
    return tuple(texts for kind in GENERATORS.values() for texts in kind.templates(recipe))


async def answer(
    makers: Sequence[Generator],
    prompt: Prompt,
    have: Mapping[str, Row],
    emit: Emit,
    rewards: Rewards | None = None,
    check: Check | None = None,
) -> tuple[list[Answers], Sequence[Failure]]:
    """What each generator that was asked has of the prompt, and what left a reward without value, or to be made. `emit`
    adds what it takes to `have`.

    rewards: makes those of the answers to which no restart adds one: before a generator that builds on them, which is
    not asked while one may still come, and once all that were asked have answered.
    check: of the reference, once all answers are complete, and before rewards that may be made from it.
    """
    made: list[Answers] = []
    for generator in makers:
        complete = all(answers.complete for answers in made)
        if generator.builds_on_rewards and rewards is not None and complete:
            failures = (await rewards(prompt, final(made), have, emit, "first")).failures
            if any(failure.retryable for failure in failures):
                # Nothing is built on them, and what failed just now is not asked again in this start.
                return [*made, Answers(failures=tuple(failures))], ()
        if complete or not (generator.builds_on_others or generator.builds_on_rewards):
            made.append(await generator.answers(prompt, have, emit))
    failures = []
    complete = all(answers.complete for answers in made)
    if check is not None and complete:
        failures += await check(prompt, have, emit)
    if rewards is not None:
        failures += (await rewards(prompt, final(made), have, emit, "all" if complete else "some")).failures
    return made, failures
