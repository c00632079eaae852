"""Samples: any number of answers of any number of samplers, each with the seed of its place.

A sampler is a model, a system prompt and sampling (`[sample.NAME]`). Those that see nothing are asked at once, those
that see the others' answers once these are there (one round of debate, arXiv 2305.14325). The system prompt is in no
text of the row, and in no export: an answer that recites it is a copy, of which no other sampler sees anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from constitution.engines.base import Request
from constitution.errors import EngineError, RecipeError
from constitution.generate.base import Answers, Emit, Generator, Setup
from constitution.generate.failures import answered, failed, failure_id, final_failure, unsaid
from constitution.generate.outcomes import clean, copy_of, generation, outcome_of
from constitution.generate.own import Asked, made_by, own_of
from constitution.identity import digest, row_id, seed
from constitution.measures.copies import recites
from constitution.principles.selection import digest_of, draw_principle
from constitution.principles.system import DRAWN, fillers, system_prompt_of, used_by
from constitution.recipe import Recipe, SampleSection
from constitution.records import (
    HELD_BACK,
    NOTHING_TO_SEE,
    Constitution,
    CopiedFrom,
    Failure,
    Principle,
    Prompt,
    Response,
    Row,
    SystemPrompt,
)
from constitution.templates.system import filled, sample_messages

Made = tuple[Response | None, Failure | None]


@dataclass(frozen=True, slots=True)
class Sampler:
    """A section `[sample.NAME]`, with what its names lead to."""

    name: str
    section: SampleSection
    system_prompt: SystemPrompt | None
    principles: tuple[Principle, ...]
    """That fill the system prompt's placeholders."""

    @property
    def draws(self) -> bool:
        """Whether each answer has its own principle."""
        return self.system_prompt is not None and bool(used_by(self.system_prompt) & DRAWN)


def samplers(recipe: Recipe, constitution: Constitution) -> tuple[Sampler, ...]:
    """Raises RecipeError for a system prompt or principles that the constitution does not have, and for one that shows
    the others' answers to a sampler that does not see them, or the other way round."""
    made = []
    if recipe.sample and all(section.sees == "others" for section in recipe.sample.values()):
        raise RecipeError(
            f"sample.{next(iter(recipe.sample))}.sees: all samplers see others, and there are none to be seen",
            hint='add a [sample.NAME] that sees = "nothing"',
        )
    for name, section in recipe.sample.items():
        where = f"sample.{name}.system_prompt"
        prompt = system_prompt_of(constitution, section.system_prompt, where) if section.system_prompt else None
        shows, sees = prompt is not None and "answers" in used_by(prompt), section.sees == "others"
        if shows != sees:
            raise RecipeError(
                f"sample.{name}: it sees {section.sees}, and {'its' if prompt else 'without a'} system prompt "
                f"{'shows {{answers}}' if shows else 'shows none'}",
                hint='{{answers}} in the system prompt and sees = "others" go together',
            )
        chosen = fillers(constitution, prompt, section.principles, where) if prompt else ()
        made.append(Sampler(name, section, prompt, chosen))
    return tuple(made)


@dataclass(frozen=True, slots=True)
class Sample(Generator):
    setup: Setup
    samplers: tuple[Sampler, ...]

    @classmethod
    def of(cls, setup: Setup) -> Self | None:
        found = samplers(setup.recipe, setup.constitution)
        return cls(setup, found) if found else None

    async def answers(self, prompt: Prompt, have: Mapping[str, Row], emit: Emit) -> Answers:
        """All of a prompt's samples, by sampler and number; those that see others only once all of these are there."""
        first = [each for each in self.samplers if each.section.sees == "nothing"]
        made = await self._wave(first, prompt, (), have, emit)
        second = [each for each in self.samplers if each.section.sees == "others"]
        if second and not any(failure and failure.retryable for _, failure in made):
            seen = [answer for answer, _ in made if answer and _may_be_shown(answer)]
            made += await self._wave(second, prompt, seen, have, emit)
        responses = tuple(answer for answer, _ in made if answer)
        return Answers(responses, tuple(failure for _, failure in made if failure))

    async def _wave(
        self, wave: Sequence[Sampler], prompt: Prompt, seen: Sequence[Response], have: Mapping[str, Row], emit: Emit
    ) -> list[Made]:
        async def one(sampler: Sampler, number: int) -> Made:
            made = await self._one(sampler, number, prompt, seen, have)
            await emit([row for row in made if row is not None and row.id not in have])
            return made

        places = [(sampler, number) for sampler in wave for number in range(sampler.section.n)]
        if len(places) == 1:
            return [await one(*places[0])]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(*place)) for place in places]
        return [task.result() for task in tasks]

    async def _one(
        self, sampler: Sampler, number: int, prompt: Prompt, seen: Sequence[Response], have: Mapping[str, Row]
    ) -> Made:
        setup, prompt_id, step = self.setup, prompt.id, step_of(sampler.name, number)
        id = row_id(setup.run_id, prompt_id, "sample", sampler.name, number)
        known = have.get(id) or final_failure(have, setup.run_id, prompt_id, id, step)
        if isinstance(known, Response):
            return known, unsaid(known)
        if isinstance(known, Failure):
            return None, known
        if sampler.section.sees == "others" and not seen:
            message = "no other sampler's answer has text that may be shown"
            return None, Failure(
                failure_id(setup.run_id, prompt_id, step, id), setup.run_id, prompt_id, step, NOTHING_TO_SEE, message,
                retryable=False,
            )  # fmt: skip
        return await self._ask(sampler, number, id, prompt, seen, have)

    async def _ask(
        self, sampler: Sampler, number: int, id: str, prompt: Prompt, seen: Sequence[Response], have: Mapping[str, Row]
    ) -> Made:
        setup, prompt_id, step = self.setup, prompt.id, step_of(sampler.name, number)
        run_seed, sampling, engine = setup.recipe.seed, sampler.section.sampling, setup.engine(sampler.section.model)
        # Not by sampler: two that are contrasted have the same principle in the same place.
        drawn = draw_principle(sampler.principles, run_seed, prompt_id, f"sample {number}") if sampler.draws else None
        system = self._filled(sampler, drawn, prompt_id, seen)
        chosen = seed(run_seed, prompt_id, "sample", sampler.name, number)
        request = Request(
            sample_messages(prompt.messages, system.text if system else ""),
            sampling,
            chosen,
            priority=2,
            affinity=prompt.first_id or prompt_id,
            step=step,
            answered=answered(have, setup.run_id, prompt_id, step, id, setup.start),
            thought=system.thought if system else "",
        )
        asked = Asked(prompt, number, request, tuple(seen), engine)
        try:
            own = own_of(sampler.name, sampler.section)
            done = await (made_by(own, asked) if own else asked.ask())
        except EngineError as error:
            return None, failed(setup.run_id, prompt_id, step, id, error, setup.start)
        text = clean(done.text)
        outcome = outcome_of(text, done.finish_reason)
        how = generation(done, sampling, chosen) if asked.calls else {}
        answer = Response(
            id=id,
            run_id=setup.run_id,
            prompt_id=prompt_id,
            kind="sample",
            round=number,
            text=text,
            outcome=outcome,
            copied_from=self._copied(text, outcome, prompt, sampler, drawn),
            model=engine.model if asked.calls else type(own).__qualname__,
            family=setup.family_of(sampler.section.model) if asked.calls else None,
            calls=asked.calls,
            principle_id=drawn.id if drawn else None,
            principle_digest=digest_of(drawn) if drawn else None,
            sampler=sampler.name,
            system_prompt=system.id if system else None,
            system_prompt_digest=digest([system.text, system.thought]) if system else None,
            seen_ids=tuple(each.id for each in seen),
            **how,
        )
        return answer, unsaid(answer)

    def _copied(
        self, text: str, outcome: str, prompt: Prompt, sampler: Sampler, drawn: Principle | None
    ) -> CopiedFrom | None:
        """The answers that a system prompt shows are no part of what is held against the text: it may agree."""
        turns = [turn.content for turn in prompt.messages]
        if sampler.system_prompt:
            words = filled(sampler.system_prompt, sampler.principles, drawn)
            if recites(text, (words.text, words.thought), turns):
                return "system-prompt"
        return copy_of(text, outcome, turns)

    def _filled(
        self, sampler: Sampler, drawn: Principle | None, prompt_id: str, seen: Sequence[Response]
    ) -> SystemPrompt | None:
        if sampler.system_prompt is None:
            return None
        nonce = row_id(self.setup.recipe.seed, prompt_id, "sample", "nonce")[:12]
        return filled(sampler.system_prompt, sampler.principles, drawn, [each.text for each in seen], nonce)


def _may_be_shown(answer: Response) -> bool:
    """To another sampler: what a server said in place of an answer is none, and one that repeats its system prompt
    would give it away to others."""
    return bool(answer.text) and answer.outcome not in HELD_BACK and answer.copied_from is None


def step_of(sampler: str, number: int) -> str:
    """The step that failures and requests name."""
    return f"sample-{sampler}-{number}"
