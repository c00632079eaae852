"""One prompt's chain: initial answer → (principle → critique → revision) × rounds (arXiv 2212.08073, section 3.1).

It may start from the prompt's best sample instead. Every step has an id that depends on the run, the prompt, the round
and that sample alone, so that a restarted run resumes in mid-chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from constitution import templates
from constitution.engines.base import Completion, Request
from constitution.errors import EngineError, RecipeError
from constitution.generate.base import Answers, Emit, Generator, Setup
from constitution.generate.chain import chain_of, revision_id
from constitution.generate.failures import answered, failed, failure_id, final_failure, unsaid
from constitution.generate.outcomes import (
    clean,
    copy_of,
    critique_outcome,
    generation,
    last_answer,
    outcome_of,
    thought_of,
)
from constitution.identity import row_id, seed
from constitution.measures.copies import Shown
from constitution.principles.selection import digest_of, draw_principle, select
from constitution.recipe import Recipe, ReviseSection
from constitution.records import (
    HELD_BACK,
    NOTHING_TO_REVISE,
    Constitution,
    CopiedFrom,
    Exemplar,
    Failure,
    Messages,
    Principle,
    Prompt,
    Response,
    Row,
    Sampling,
)
from constitution.templates import TemplateSet


class _Stop(Exception):
    """The chain of one prompt ends here, with this failure."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Revise(Generator):
    setup: Setup
    principles: tuple[Principle, ...]
    """To draw from; empty: there are no rounds."""
    shown: Mapping[str, Shown[CopiedFrom]]
    """Per principle id what its requests show, to find what only repeats it."""

    @classmethod
    def of(cls, setup: Setup) -> Self | None:
        if not setup.recipe.chain:
            return None
        principles = revising(setup.recipe, setup.constitution)
        return cls(setup, principles, {principle.id: _shown(setup, principle) for principle in principles})

    @classmethod
    def templates(cls, recipe: Recipe) -> tuple[TemplateSet, ...]:
        return (recipe.wording.of(templates.REVISE),) if recipe.revise.rounds else ()

    @property
    def builds_on_rewards(self) -> bool:
        return self.setup.recipe.start_by is not None

    async def answers(self, prompt: Prompt, have: Mapping[str, Row], emit: Emit) -> Answers:
        """The initial answer, where one is made, then one revision a round, as far as the chain got."""
        walk = _Walk(self.setup, self.principles, self.shown, prompt, prompt.id, have, emit)
        try:
            await walk.start()
            for round in range(1, walk.section.rounds + 1):
                if walk.ended:
                    break
                await walk.round(round)
        except _Stop as stop:
            walk.failures.append(stop.failure)
        own = tuple(answer for answer in walk.responses if answer.kind != "sample")
        return Answers(own, tuple(walk.failures))


def revising(recipe: Recipe, constitution: Constitution) -> tuple[Principle, ...]:
    """The principles to revise by; none where there are no rounds. Raises RecipeError for those that are not there."""
    if not recipe.revise.rounds:
        return ()
    able = [principle for principle in constitution.principles if principle.revises]
    if not able:
        raise RecipeError(
            f"revise: no principle of {constitution.label} has a critique_request and a revision_request, so there is "
            "nothing to revise by",
            hint="set revise.rounds = 0, or give principles both in a new version",
        )
    return select(able, recipe.revise.principles, f"revise.principles ({constitution.label})")


def _exemplars(setup: Setup, principle: Principle) -> tuple[Exemplar, ...]:
    """The first ones, always the same: a drawn set would leave the prefix cache nothing to share."""
    return setup.constitution.exemplars_for(principle)[: setup.recipe.revise.exemplars]


def _shown(setup: Setup, principle: Principle) -> Shown[CopiedFrom]:
    worked = [
        text
        for each in _exemplars(setup, principle)
        for text in (*(turn.content for turn in each.messages), each.response, each.critique, each.revision)
    ]
    asked = (principle.critique_request, principle.revision_request, principle.comparison_question)
    texts = setup.recipe.wording.of(templates.REVISE).texts
    return Shown({"exemplar": worked, "principle": asked, "template": texts.values()})


@dataclass(slots=True)
class _Walk:
    """The state of one chain."""

    setup: Setup
    principles: tuple[Principle, ...]
    shown: Mapping[str, Shown[CopiedFrom]]
    prompt: Prompt
    prompt_id: str
    have: Mapping[str, Row]
    emit: Emit
    responses: list[Response] = field(default_factory=list)
    """What it started from, then the revisions."""
    failures: list[Failure] = field(default_factory=list)

    @property
    def section(self) -> ReviseSection:
        return self.setup.recipe.revise

    @property
    def _turns(self) -> Sequence[str]:
        return [turn.content for turn in self.prompt.messages]

    async def start(self) -> None:
        """Raises _Stop where no sample can be revised."""
        if (source := self.setup.recipe.start_by) is None:
            await self._initial()
            return
        chain = chain_of(self.have.values(), source)
        if chain:
            self.responses.append(chain[0])
            return
        run_id, prompt_id, step = self.setup.run_id, self.prompt_id, "start"
        samples = [row for row in self.have.values() if isinstance(row, Response) and row.kind == "sample"]
        said = [answer for answer in samples if answer.text]
        lacks = f"a reward by {source}" if any(answer.copied_from is None for answer in said) else "text"
        lacks += " that repeats nothing of what it was shown" if said and lacks == "text" else ""
        why = f"none of {len(samples)} samples has {lacks}" if samples else "there is no sample"
        id, message = failure_id(run_id, prompt_id, step, prompt_id), f"no chain starts: {why}"
        failure = Failure(id, run_id, prompt_id, step, NOTHING_TO_REVISE, message, retryable=False)
        await self.emit([failure] if id not in self.have else [])
        raise _Stop(failure)

    async def _initial(self) -> None:
        id = row_id(self.setup.run_id, self.prompt_id, "initial", 0)
        if await self._known(id, "initial"):
            return
        setup = self.setup
        sampling, chosen = self.section.initial.sampling, self._seed("initial", 0)
        done = await self._generate("initial", id, self.prompt.messages, sampling, chosen, 2 * self.section.rounds + 1)
        text = clean(done.text)
        outcome = outcome_of(text, done.finish_reason)
        answer = Response(
            id=id,
            run_id=setup.run_id,
            prompt_id=self.prompt_id,
            kind="initial",
            round=0,
            text=text,
            outcome=outcome,
            copied_from=copy_of(text, outcome, self._turns),
            model=setup.policy.model,
            family=setup.family,
            **generation(done, sampling, chosen),
        )
        await self._add(answer)

    async def round(self, round: int) -> None:
        id = revision_id(self.setup.run_id, self.prompt_id, round, self.responses)
        if await self._known(id, f"revision-{round}", f"critique-{round}"):
            return
        setup, parent = self.setup, last_answer(self.responses)
        assert parent is not None
        principle = draw_principle(self.principles, setup.recipe.seed, self.prompt_id, round)
        exemplars, shown = _exemplars(setup, principle), self.shown[principle.id]
        left, texts = 2 * (self.section.rounds - round), setup.recipe.wording.of(templates.REVISE)
        messages = templates.critique_messages(self.prompt.messages, parent.text, principle, exemplars, texts)
        sampling, chosen = self.section.critique.sampling, self._seed("critique", round)
        done = await self._generate(f"critique-{round}", id, messages, sampling, chosen, left + 2)
        critique = clean(done.text)
        outcome = critique_outcome(critique, done.finish_reason)
        criticized: dict[str, Any] = {
            "id": id,
            "run_id": setup.run_id,
            "prompt_id": self.prompt_id,
            "kind": "revision",
            "round": round,
            "model": setup.policy.model,
            "family": setup.family,
            "parent_id": parent.id,
            "principle_id": principle.id,
            "principle_digest": digest_of(principle),
            "critique": critique,
            "critique_outcome": outcome,
            "critique_seed": chosen,
            "critique_prompt_tokens": done.prompt_tokens,
            "critique_cached_tokens": done.cached_tokens,
            "critique_completion_tokens": done.completion_tokens,
            "critique_reasoning": thought_of(done),
            "critique_reasoning_tokens": done.reasoning_tokens,
            "critique_copied_from": copy_of(critique, outcome, (*self._turns, parent.text), shown),
            "template_digest": texts.digest,
        }
        if not critique or outcome in HELD_BACK:
            await self._add(Response(text=parent.text, outcome="skipped", calls=0, **criticized))
            return
        said = self.prompt.messages
        messages = templates.revision_messages(said, parent.text, critique, principle, exemplars, texts)
        sampling, chosen = self.section.revision.sampling, self._seed("revision", round)
        done = await self._generate(f"revision-{round}", id, messages, sampling, chosen, left + 1)
        text = clean(done.text)
        revised = outcome_of(text, done.finish_reason, parent.text)
        source = copy_of(text, revised, self._turns, shown, critique)
        how = generation(done, sampling, chosen)
        await self._add(Response(text=text, outcome=revised, copied_from=source, **criticized, **how))

    async def _generate(
        self, step: str, target: str, messages: Messages, sampling: Sampling, seed: int, priority: int
    ) -> Completion:
        """`target` is the id of the row that this call is for; `priority` the calls left: near the end goes first."""
        setup, prompt_id = self.setup, self.prompt_id
        used = answered(self.have, setup.run_id, prompt_id, step, target, setup.start)
        affinity = self.prompt.first_id or prompt_id
        request = Request(messages, sampling, seed, priority, affinity=affinity, step=step, answered=used)
        try:
            return await setup.policy.generate(request)
        except EngineError as error:
            failure = failed(setup.run_id, self.prompt_id, step, target, error, setup.start)
            await self.emit([failure])
            raise _Stop(failure) from error

    async def _known(self, id: str, *steps: str) -> bool:
        """Takes the row of a step from `have`. Raises _Stop where an earlier start failed for good."""
        row = self.have.get(id)
        if isinstance(row, Response):
            await self._add(row)
            return True
        if failure := final_failure(self.have, self.setup.run_id, self.prompt_id, id, *steps):
            raise _Stop(failure)
        return False

    async def _add(self, answer: Response) -> None:
        """Emits what is not yet written of the answer and its failure: a kill may have come between the two."""
        failure = unsaid(answer)
        self.responses.append(answer)
        if failure is not None:
            self.failures.append(failure)
        await self.emit([row for row in (answer, failure) if row is not None and row.id not in self.have])

    @property
    def ended(self) -> bool:
        """Nothing more is asked: there is no text to critique, or max_tokens were used up before any."""
        last = self.responses[-1]
        return not last.text and (last.outcome == "cut" or last_answer(self.responses) is None)

    def _seed(self, step: str, round: int) -> int:
        return seed(self.setup.recipe.seed, self.prompt_id, step, round)
