"""A prompt's reference: the answer that a rubric or a match is made from.

It is no answer: no pair, no group and no best-of takes it. One that is taken from an answer has its text, and names it
as its parent; whether anything may be made from it is said elsewhere (judge/reference.py), once judges have read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from constitution.generate.base import Answers, Emit, Generator, Setup
from constitution.generate.chain import chain_of
from constitution.generate.failures import failure_id, final_failure, unsaid
from constitution.identity import row_id
from constitution.recipe import ReferenceSection
from constitution.records import NO_REFERENCE, REPEATS, Failure, Prompt, Response, Row

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
        return self._from_revision(id, prompt, have)

    def _from_revision(self, id: str, prompt: Prompt, have: Mapping[str, Row]) -> Made:
        chain = chain_of(have.values(), self.setup.recipe.start_by)
        revised = [answer for answer in whole(chain) if answer.kind == "revision"]
        if revised:
            return self._taken(id, revised[-1])
        count = sum(answer.kind == "revision" for answer in chain)
        return self._nothing(id, prompt, f"none of {count} revisions is whole" if count else "there is no revision")

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


def whole(answers: Sequence[Response]) -> list[Response]:
    """Those whose text is an answer: it came to its end where it was written, and repeats nothing that was shown."""
    by_id = {answer.id: answer for answer in answers}

    def written(answer: Response) -> Response:
        while answer.outcome in REPEATS and answer.parent_id in by_id:
            answer = by_id[answer.parent_id]
        return answer

    return [each for each in answers if (last := written(each)).outcome == "ok" and last.copied_from is None]
