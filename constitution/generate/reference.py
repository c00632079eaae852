"""A prompt's reference: the answer that a rubric or a match is made from.

It is no answer: no pair, no group and no best-of takes it. One that is taken from an answer has its text, and names it
as its parent; whether anything may be made from it is said elsewhere (judge/reference.py), once judges have read it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from constitution import templates
from constitution.engines.base import Request
from constitution.engines.reasoning import split
from constitution.errors import EngineError
from constitution.generate.base import Answers, Emit, Generator, Setup
from constitution.generate.chain import best, chain_of
from constitution.generate.failures import answered, failed, failure_id, final_failure, unsaid
from constitution.generate.outcomes import clean, copy_of, generation, outcome_of
from constitution.identity import row_id, seed
from constitution.measures.copies import Shown
from constitution.recipe import Recipe, ReferenceSection
from constitution.records import NO_REFERENCE, REPEATS, Failure, Prompt, ReferenceCheck, Response, Reward, Row
from constitution.templates import TemplateSet

STEP = "reference"
"""The step that failures and requests name."""

Made = Response | Failure


@dataclass(frozen=True, slots=True)
class Reference(Generator):
    setup: Setup
    section: ReferenceSection
    builds_on_others: ClassVar[bool] = True

    @classmethod
    def of(cls, setup: Setup) -> Self | None:
        section = setup.recipe.reference
        return cls(setup, section) if section else None

    @classmethod
    def templates(cls, recipe: Recipe) -> tuple[TemplateSet, ...]:
        return (_texts(recipe),) if recipe.reference_by else ()

    @property
    def builds_on_rewards(self) -> bool:
        return self.section.source == "best"

    async def answers(self, prompt: Prompt, have: Mapping[str, Row], emit: Emit) -> Answers:
        """The reference, made once: an answer that comes later, by --retry-failed, changes nothing about it."""
        run_id, id = self.setup.run_id, row_id(self.setup.run_id, prompt.id, STEP)
        known = have.get(id) or final_failure(have, run_id, prompt.id, id, STEP)
        made = known if isinstance(known, Response | Failure) else await self._made(id, prompt, have)
        answer = made if isinstance(made, Response) else None
        failure = unsaid(answer) if answer else made
        await emit([row for row in (answer, failure) if row is not None and row.id not in have])
        return Answers((answer,) if answer else (), (failure,) if isinstance(failure, Failure) else ())

    async def _made(self, id: str, prompt: Prompt, have: Mapping[str, Row]) -> Made:
        match self.section.source:
            case "revision":
                return self._from_revision(id, prompt, have)
            case "best":
                return self._from_best(id, prompt, have)
            case "given":
                return self._given(id, prompt)
            case "synthesis":
                return await self._synthesis(id, prompt, have)

    def _from_revision(self, id: str, prompt: Prompt, have: Mapping[str, Row]) -> Made:
        chain = chain_of(have.values(), self.setup.recipe.start_by)
        revised = [answer for answer in whole(chain) if answer.kind == "revision"]
        if revised:
            return self._taken(id, revised[-1])
        count = sum(answer.kind == "revision" for answer in chain)
        return self._nothing(id, prompt, f"none of {count} revisions is whole" if count else "there is no revision")

    def _from_best(self, id: str, prompt: Prompt, have: Mapping[str, Row]) -> Made:
        assert self.setup.recipe.reward is not None
        source, samples = self.setup.recipe.reward.by[0], _samples(have)
        rewards = [row for row in have.values() if isinstance(row, Reward) and row.source == source]
        totals = {row.response_id: row.total for row in rewards if row.total is not None}
        able = {answer.id: answer for answer in whole(samples) if answer.id in totals}
        if not able:
            return self._nothing(id, prompt, f"none of {len(samples)} samples is whole and has a reward by {source}")
        return self._taken(id, able[best({each: totals[each] for each in able})])

    def _given(self, id: str, prompt: Prompt) -> Made:
        """What a model thought before it, between tags, is its reasoning, as of given answers."""
        if prompt.reference is None:
            return self._nothing(id, prompt, f"the row has no {self.setup.recipe.prompts.reference}")
        thought = split(prompt.reference)
        return Response(
            id=id,
            run_id=self.setup.run_id,
            prompt_id=prompt.id,
            kind="reference",
            round=0,
            text=thought.text,
            outcome="ok" if thought.text else "empty" if thought.closed else "cut",
            model="given",
            reasoning=thought.reasoning,
            calls=0,
        )

    async def _synthesis(self, id: str, prompt: Prompt, have: Mapping[str, Row]) -> Made:
        """One answer made from the whole samples, in an order that the seed shuffles: no place is preferred, and what
        was cut is not passed on."""
        setup, section, samples = self.setup, self.section, _samples(have)
        shown = sorted(whole(samples), key=lambda answer: (answer.sampler or "", answer.round))
        if not shown:
            return self._nothing(id, prompt, f"none of {len(samples)} samples is whole")
        run_seed, texts, engine = setup.recipe.seed, _texts(setup.recipe), setup.engine(section.model)
        random.Random(seed(run_seed, prompt.id, STEP, "order")).shuffle(shown)
        nonce = row_id(run_seed, prompt.id, STEP, "nonce")[:12]
        chosen = seed(run_seed, prompt.id, STEP)
        request = Request(
            templates.reference_messages(prompt.messages, [answer.text for answer in shown], nonce, texts),
            section.sampling,
            chosen,
            priority=1,
            affinity=prompt.first_id or prompt.id,
            step=STEP,
            answered=answered(have, setup.run_id, prompt.id, STEP, id, setup.start),
        )
        try:
            done = await engine.generate(request)
        except EngineError as error:
            return failed(setup.run_id, prompt.id, STEP, id, error, setup.start)
        text = clean(done.text)
        outcome = outcome_of(text, done.finish_reason)
        turns = [turn.content for turn in prompt.messages]
        return Response(
            id=id,
            run_id=setup.run_id,
            prompt_id=prompt.id,
            kind="reference",
            round=0,
            text=text,
            outcome=outcome,
            copied_from=copy_of(text, outcome, turns, Shown({"template": texts.texts.values()})),
            model=engine.model,
            family=setup.family_of(section.model),
            template_digest=texts.digest,
            seen_ids=tuple(answer.id for answer in shown),
            **generation(done, section.sampling, chosen),
        )

    def _taken(self, id: str, answer: Response) -> Response:
        """The text of an answer, which says what became of it (`REPEATS`)."""
        return Response(
            id=id,
            run_id=answer.run_id,
            prompt_id=answer.prompt_id,
            kind="reference",
            round=0,
            text=answer.text,
            outcome="unchanged",
            model=answer.model,
            parent_id=answer.id,
            family=answer.family,
            calls=0,
        )

    def _nothing(self, id: str, prompt: Prompt, why: str) -> Failure:
        failure = failure_id(self.setup.run_id, prompt.id, STEP, id)
        message = f"no reference from {self.section.source}: {why}"
        return Failure(failure, self.setup.run_id, prompt.id, STEP, NO_REFERENCE, message, retryable=False)


def _samples(have: Mapping[str, Row]) -> list[Response]:
    return [row for row in have.values() if isinstance(row, Response) and row.kind == "sample"]


def _texts(recipe: Recipe) -> TemplateSet:
    """What a synthesis is asked for with."""
    sees = recipe.reference is not None and recipe.reference.sees_prompt
    return recipe.wording.of(templates.REFERENCE_SEEN if sees else templates.REFERENCE)


def whole(answers: Sequence[Response]) -> list[Response]:
    """Those whose text is an answer: it came to its end where it was written, and repeats nothing that was shown."""
    by_id = {answer.id: answer for answer in answers}

    def written(answer: Response) -> Response:
        while answer.outcome in REPEATS and answer.parent_id in by_id:
            answer = by_id[answer.parent_id]
        return answer

    return [each for each in answers if (last := written(each)).outcome == "ok" and last.copied_from is None]


def reference_of(prompt_id: str, have: Mapping[str, Row]) -> Response | str | None:
    """A prompt's reference, from which something may be made; or why there is none, for good. None: that cannot be said
    yet. have: rows by id."""
    own = [row for row in have.values() if row.prompt_id == prompt_id]
    check = next((row for row in own if isinstance(row, ReferenceCheck)), None)
    if check is not None:
        reference = have.get(check.response_id)
        if check.drop_reason or not isinstance(reference, Response):
            return check.drop_reason
        return reference
    failed = [row for row in own if isinstance(row, Failure) and row.step == STEP and not row.retryable]
    return failed[0].message if failed and not any(_is_reference(row) for row in own) else None


def _is_reference(row: Row) -> bool:
    return isinstance(row, Response) and row.kind == "reference"
