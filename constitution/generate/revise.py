"""One prompt's chain: initial answer → (principle → critique → revision) × rounds (arXiv 2212.08073, section 3.1).

    chain = await revise(reviser, prompt, have={}, emit=writer.put)

Every step has an id that depends on the run, the prompt and the round alone, and is looked up in `have` before any
model is asked, so that a restarted run goes on in mid-chain. Every row is emitted as soon as it exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from constitution import templates
from constitution.engines.base import Completion, Engine, Request
from constitution.errors import EngineError
from constitution.generate.base import Emit
from constitution.generate.failures import failed, failure_id, unsaid
from constitution.generate.outcomes import (
    clean,
    critique_outcome,
    generation,
    last_answer,
    outcome_of,
    thought_of,
)
from constitution.identity import row_id, seed
from constitution.principles.selection import digest_of, draw_principle
from constitution.recipe import ReviseSection
from constitution.records import (
    HELD_BACK,
    Constitution,
    Exemplar,
    Failure,
    Messages,
    Principle,
    Prompt,
    Response,
    Row,
    Sampling,
)

TEMPLATES = templates.REVISE.digest


@dataclass(frozen=True, slots=True)
class Reviser:
    """What the chains of a run have in common."""

    run_id: str
    seed: int
    attempt: int
    """How often the run was started: tells the failures of one start from those of the next."""
    engine: Engine
    constitution: Constitution
    principles: tuple[Principle, ...]
    section: ReviseSection
    family: str | None = None
    """Digest of the engine's model; None: not known."""


@dataclass(frozen=True, slots=True)
class Chain:
    responses: tuple[Response, ...]
    """Initial answer, then one revision a round, as far as the chain got; empty without an initial answer."""
    failures: tuple[Failure, ...] = ()
    """What stopped it, and what a model did not say on the way."""
    stopped: bool = False
    """True: an engine failed, and the chain did not get to its end."""


class _Stop(Exception):
    """The chain of one prompt ends here, with this failure."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


async def revise(reviser: Reviser, prompt: Prompt, have: Mapping[str, Row], emit: Emit) -> Chain:
    """Walks one prompt's chain. An engine's error becomes a Failure and ends it; it is never raised."""
    walk = _Walk(reviser, prompt, prompt.id, have, emit)
    try:
        await walk.initial()
        for round in range(1, reviser.section.rounds + 1):
            if walk.ended:
                break
            await walk.round(round)
    except _Stop as stop:
        return Chain(tuple(walk.responses), (*walk.failures, stop.failure), stopped=True)
    return Chain(tuple(walk.responses), tuple(walk.failures))


@dataclass(slots=True)
class _Walk:
    """The state of one chain."""

    reviser: Reviser
    prompt: Prompt
    prompt_id: str
    have: Mapping[str, Row]
    emit: Emit
    responses: list[Response] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    async def initial(self) -> None:
        id = self._id("initial", 0)
        if await self._known(id, "initial"):
            return
        reviser = self.reviser
        sampling, chosen = reviser.section.initial.sampling, self._seed("initial", 0)
        done = await self._generate(
            "initial", id, self.prompt.messages, sampling, chosen, 2 * reviser.section.rounds + 1
        )
        text = clean(done.text)
        answer = Response(
            id=id,
            run_id=reviser.run_id,
            prompt_id=self.prompt_id,
            kind="initial",
            round=0,
            text=text,
            outcome=outcome_of(text, done.finish_reason),
            model=reviser.engine.model,
            family=reviser.family,
            **generation(done, sampling, chosen),
        )
        await self._add(answer)

    async def round(self, round: int) -> None:
        id = self._id("revision", round)
        if await self._known(id, f"revision-{round}", f"critique-{round}"):
            return
        reviser, parent = self.reviser, last_answer(self.responses)
        assert parent is not None
        principle = draw_principle(reviser.principles, reviser.seed, self.prompt_id, round)
        # The first ones, always the same: a drawn set would leave the prefix cache nothing to share.
        exemplars = reviser.constitution.exemplars_for(principle)[: reviser.section.exemplars]
        left = 2 * (reviser.section.rounds - round) + 1
        answer, critique = await self._critique(id, round, parent, principle, exemplars)
        if not critique or answer.critique_outcome in HELD_BACK:
            await self._add(replace(answer, text=parent.text, outcome="skipped"))
            return
        messages = templates.revision_messages(self.prompt.messages, parent.text, critique, principle, exemplars)
        sampling, chosen = reviser.section.revision.sampling, self._seed("revision", round)
        done = await self._generate(f"revision-{round}", id, messages, sampling, chosen, left)
        text = clean(done.text)
        outcome = outcome_of(text, done.finish_reason, parent.text)
        await self._add(replace(answer, text=text, outcome=outcome, **generation(done, sampling, chosen)))

    async def _critique(
        self, id: str, round: int, parent: Response, principle: Principle, exemplars: tuple[Exemplar, ...]
    ) -> tuple[Response, str]:
        """The round's row with all that is known before the revision, and the critique."""
        reviser, step = self.reviser, f"critique-{round}"
        messages = templates.critique_messages(self.prompt.messages, parent.text, principle, exemplars)
        sampling, chosen = reviser.section.critique.sampling, self._seed("critique", round)
        left = 2 * (reviser.section.rounds - round) + 2
        done = await self._generate(step, id, messages, sampling, chosen, left)
        critique = clean(done.text)
        answer = Response(
            id=id,
            run_id=reviser.run_id,
            prompt_id=self.prompt_id,
            kind="revision",
            round=round,
            text="",
            outcome="empty",
            model=reviser.engine.model,
            family=reviser.family,
            parent_id=parent.id,
            principle_id=principle.id,
            principle_digest=digest_of(principle),
            critique=critique,
            critique_outcome=critique_outcome(critique, done.finish_reason),
            critique_seed=chosen,
            critique_prompt_tokens=done.prompt_tokens,
            critique_cached_tokens=done.cached_tokens,
            critique_completion_tokens=done.completion_tokens,
            critique_reasoning=thought_of(done),
            critique_reasoning_tokens=done.reasoning_tokens,
            template_digest=TEMPLATES,
        )
        return answer, critique

    async def _generate(
        self, step: str, target: str, messages: Messages, sampling: Sampling, seed: int, priority: int
    ) -> Completion:
        """`target` is the id of the row that this call is for; `priority` the calls left: near the end goes first."""
        reviser = self.reviser
        try:
            return await reviser.engine.generate(
                Request(messages, sampling, seed, priority, affinity=self.prompt_id, step=step)
            )
        except EngineError as error:
            failure = failed(reviser.run_id, self.prompt_id, step, target, error, reviser.attempt)
            await self.emit([failure])
            raise _Stop(failure) from error

    async def _known(self, id: str, *steps: str) -> bool:
        """Takes the row of a step from `have`. Raises _Stop where an earlier start failed for good."""
        if not self.have:
            return False
        row = self.have.get(id)
        if isinstance(row, Response):
            await self._add(row)
            return True
        for step in steps:
            failure = self.have.get(failure_id(self.reviser.run_id, self.prompt_id, step, id))
            if isinstance(failure, Failure):
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

    def _id(self, kind: str, round: int) -> str:
        return row_id(self.reviser.run_id, self.prompt_id, kind, round)

    def _seed(self, step: str, round: int) -> int:
        return seed(self.reviser.seed, self.prompt_id, step, round)
