"""Perturbations: an answer spoiled on purpose, so that it is known what its judges should see (arXiv 2409.15268):
polished (wrong, but well formed), terse (right, but curt), sarcastic.

The policy that gave the answer spoils it. Each is voted on beside the answer that it was made from, and is never kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from constitution import templates
from constitution.engines.base import Request
from constitution.errors import EngineError
from constitution.generate.base import Answers, Emit, Generator, Setup
from constitution.generate.chain import chain_of
from constitution.generate.failures import answered, failed, final_failure, unsaid
from constitution.generate.given import families, given_answers
from constitution.generate.outcomes import clean, generation, last_answer, outcome_of
from constitution.identity import row_id, seed
from constitution.recipe import PerturbSection, Recipe
from constitution.records import Failure, Perturbation, Prompt, Response, Row
from constitution.templates import TemplateSet


@dataclass(frozen=True, slots=True)
class Perturb(Generator):
    setup: Setup
    section: PerturbSection
    builds_on_others: ClassVar[bool] = True

    @classmethod
    def of(cls, setup: Setup) -> Self | None:
        section = setup.recipe.perturb
        return cls(setup, section) if section else None

    @classmethod
    def templates(cls, recipe: Recipe) -> tuple[TemplateSet, ...]:
        return (recipe.wording.of(templates.PERTURB),) if recipe.perturb else ()

    def draws(self, prompt_id: str) -> bool:
        """Whether the prompt is of the share whose answer is spoiled. Those of a small share are of a greater one."""
        return seed(self.setup.recipe.seed, prompt_id, "perturbations") < self.section.share * 2**31

    async def answers(self, prompt: Prompt, have: Mapping[str, Row], emit: Emit) -> Answers:
        """The parent, and its perturbations, one for each of the section's kinds; nothing of a prompt without text."""
        if not self.draws(prompt.id):
            return Answers()
        parent = self._parent(prompt, have)
        if parent is None:
            return Answers()
        if parent.id not in have:
            await emit([parent])

        async def spoil(kind: Perturbation) -> tuple[Response | None, Failure | None]:
            answer, failure = await self._spoil(prompt, parent, kind, have)
            await emit([row for row in (answer, failure) if row is not None and row.id not in have])
            return answer, failure

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(spoil(kind)) for kind in self.section.kinds]
        rows = [task.result() for task in tasks]
        spoiled = [answer for answer, _ in rows if answer is not None]
        return Answers((parent, *spoiled), tuple(failure for _, failure in rows if failure is not None))

    def _parent(self, prompt: Prompt, have: Mapping[str, Row]) -> Response | None:
        """The chain's last answer with text; without one, the given one that people prefer, or else the first with
        text."""
        given = given_answers(self.setup.run_id, prompt, families(self.setup))
        preferred = [given[place] for place in prompt.better]
        chain = last_answer(chain_of(have.values(), self.setup.recipe.start_by))
        return chain or next((answer for answer in (*preferred, *given) if answer.text), None)

    async def _spoil(
        self, prompt: Prompt, parent: Response, kind: Perturbation, have: Mapping[str, Row]
    ) -> tuple[Response | None, Failure | None]:
        setup, prompt_id, step = self.setup, parent.prompt_id, f"perturbation-{kind}"
        id = row_id(setup.run_id, prompt_id, "perturbation", kind, parent.id)
        known = have.get(id) or final_failure(have, setup.run_id, prompt_id, id, step)
        if isinstance(known, Response):
            return known, unsaid(known)
        if isinstance(known, Failure):
            return None, known
        sampling = self.section.sampling.sampling
        chosen = seed(setup.recipe.seed, prompt_id, "perturbation", kind, parent.kind, parent.round)
        texts = setup.recipe.wording.of(templates.PERTURB)
        messages = templates.perturb_messages(prompt.messages, parent.text, kind, texts)
        # Only its votes come after it.
        used = answered(have, setup.run_id, prompt_id, step, id, setup.start)
        affinity = prompt.first_id or prompt_id
        request = Request(messages, sampling, chosen, priority=1, affinity=affinity, step=step, answered=used)
        try:
            done = await setup.policy.generate(request)
        except EngineError as error:
            return None, failed(setup.run_id, prompt_id, step, id, error, setup.start)
        text = clean(done.text)
        answer = Response(
            id=id,
            run_id=setup.run_id,
            prompt_id=prompt_id,
            kind="perturbation",
            round=parent.round,
            text=text,
            outcome=outcome_of(text, done.finish_reason, parent.text),
            model=setup.policy.model,
            parent_id=parent.id,
            template_digest=texts.digest,
            family=setup.family,
            perturbation=kind,
            **generation(done, sampling, chosen),
        )
        return answer, unsaid(answer)
