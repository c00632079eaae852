"""One prompt's chain: initial answer → (principle → critique → revision) × rounds (arXiv 2212.08073, section 3.1).

    chain = await revise(reviser, prompt, have={}, emit=writer.put)

Every step has an id that depends on the run, the prompt and the round alone, and is looked up in `have` before any
model is asked, so that a restarted run goes on in mid-chain. Every row is emitted as soon as it exists.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from constitution import templates
from constitution.engines.base import Completion, Engine, Request
from constitution.errors import EngineError, RecipeError
from constitution.identity import row_id, seed
from constitution.measures import refuses_briefly
from constitution.recipe import ReviseSection
from constitution.records import (
    HELD_BACK,
    Constitution,
    CritiqueOutcome,
    Exemplar,
    Failure,
    Messages,
    Outcome,
    Principle,
    Prompt,
    Response,
    Row,
    Sampling,
)

Emit = Callable[[Sequence[Row]], Awaitable[None]]
"""Takes finished rows; returns when they are accepted for writing."""

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
    """Of the engine's model; None: not known."""


@dataclass(frozen=True, slots=True)
class Chain:
    responses: tuple[Response, ...]
    """Initial answer, then one revision a round, as far as the chain got; empty without an initial answer."""
    failures: tuple[Failure, ...] = ()
    """What stopped it, and what a model did not say on the way."""
    stopped: bool = False
    """True: an engine failed, and the chain did not get to its end."""


@lru_cache(maxsize=4096)
def digest_of(principle: Principle) -> str:
    """`principle.digest`, worked out once: a run asks for it with every vote."""
    return principle.digest


class _Stop(Exception):
    """The chain of one prompt ends here, with this failure."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


def select(principles: Sequence[Principle], names: Sequence[str], where: str) -> tuple[Principle, ...]:
    """Those whose id or one of whose tags is in `names`, in the constitution's order; all of them without names.

    Raises RecipeError for a name that fits none, and when nothing is left; `where` is the recipe's field.
    """
    known = {name for principle in principles for name in (principle.id, *principle.tags)}
    for name in names:
        if name not in known:
            raise RecipeError(f"{where}: no principle of this use has the id or tag {name!r}", hint=_listed(known))
    chosen = tuple(p for p in principles if not names or {p.id, *p.tags} & set(names))
    if not chosen:
        raise RecipeError(f"{where}: the constitution has no principle for this", hint="name another constitution")
    return chosen


def draw_principle(principles: Sequence[Principle], run_seed: int, prompt_id: str, round: int) -> Principle:
    """One principle by weight; rounds are drawn independently, so with replacement, in whatever order prompts end."""
    generator = random.Random(seed(run_seed, prompt_id, "principle", round))
    return generator.choices(principles, weights=[principle.weight for principle in principles])[0]


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


# --- outcomes


_UNSEEN = {"Cc", "Cf", "Zs", "Zl", "Zp"}
"""Of Unicode's categories: controls, formats and white space."""


def clean(text: str) -> str:
    """What a model wrote, without the white space around it; half surrogates, which UTF-8 cannot hold, become `?`.
    Marks that cannot be seen, such as a zero-width space, are no text where there is nothing else."""
    if not any(unicodedata.category(char) not in _UNSEEN for char in text):
        return ""
    return text.strip().encode("utf-8", "replace").decode("utf-8")


def outcome_of(text: str, finish_reason: str, parent: str | None = None) -> Outcome:
    """What became of an answer that an engine gave, and that may have been made from its parent's text."""
    outcome = _finished(text, finish_reason)
    return "unchanged" if outcome == "ok" and text == parent else outcome


def critique_outcome(critique: str, finish_reason: str) -> CritiqueOutcome:
    outcome = _finished(critique, finish_reason)
    return "refused" if outcome in ("ok", "cut") and refuses_briefly(critique) else outcome


def _finished(text: str, finish_reason: str) -> CritiqueOutcome:
    """To call a tool and say nothing is to say nothing."""
    return "empty" if not text and finish_reason in ("stop", "tool_calls") else _FINISHED[finish_reason]


_FINISHED: Mapping[str, CritiqueOutcome] = {
    "stop": "ok",
    "length": "cut",
    "tool_calls": "cut",
    "refusal": "refused",
    "content_filter": "filtered",
}


def last_answer(answers: Sequence[Response]) -> Response | None:
    """The last one with text; one that the server refused or filtered only where there is no other. None: no text."""
    said = [answer for answer in answers if answer.text]
    return next((answer for answer in reversed(said) if answer.outcome not in HELD_BACK), said[-1] if said else None)


def unsaid(answer: Response) -> Failure | None:
    """The failure that says what a model or its server did not say, if anything; it follows from the answer alone."""
    step: str = answer.kind
    if answer.kind in ("revision", "variant"):
        step = f"{answer.kind}-{answer.infraction or answer.round}"
    error, message = _ANSWERS_UNSAID.get(answer.outcome, ("", ""))
    if answer.outcome == "skipped":
        step = f"critique-{answer.round}"
        error, message = _CRITIQUES_UNSAID[answer.critique_outcome or "empty"]
    elif answer.outcome == "cut" and answer.text:
        return None
    if not error:
        return None
    what = f"the critique by {answer.principle_id}" if answer.outcome == "skipped" else f"the {answer.kind} answer"
    id = failure_id(answer.run_id, answer.prompt_id, step, answer.id)
    return Failure(id, answer.run_id, answer.prompt_id, step, error, f"{what} {message}", retryable=False)


_ANSWERS_UNSAID = {
    "empty": ("EmptyOutput", "has no text"),
    "cut": ("EmptyOutput", "used up its max_tokens before any text"),
    "refused": ("AnswerRefused", "was refused by the server"),
    "filtered": ("ContentFiltered", "was held back by the server's content filter"),
}
_STAYS = "; the answer stays as it was"
_CRITIQUES_UNSAID = {outcome: (error, message + _STAYS) for outcome, (error, message) in _ANSWERS_UNSAID.items()} | {
    "refused": ("CritiqueRefused", "was refused" + _STAYS)
}
"""Of each outcome the failure's error and what it says of the answer or critique."""


def generation(done: Completion, sampling: Sampling, seed: int) -> dict[str, Any]:
    """Fields of a Response: how its text was generated."""
    return {
        "sampling": _as_sent(sampling, done.unsent),
        "seed": None if "seed" in done.unsent else seed,
        "finish_reason": done.finish_reason,
        "prompt_tokens": done.prompt_tokens,
        "cached_tokens": done.cached_tokens,
        "completion_tokens": done.completion_tokens,
        "reasoning": thought_of(done),
        "reasoning_tokens": done.reasoning_tokens,
    }


def thought_of(done: Completion) -> str | None:
    """What the model thought, as `clean` has a text; None: nothing that is known."""
    return (clean(done.reasoning) or None) if done.reasoning is not None else None


def _as_sent(sampling: Sampling, unsent: Sequence[str]) -> Sampling:
    """A server that was not told takes 1 of both."""
    if "temperature" in unsent:
        sampling = replace(sampling, temperature=1.0)
    return replace(sampling, top_p=1.0) if "top_p" in unsent else sampling


# --- failures


def failure_id(run_id: str, prompt_id: str, step: str, target: str, attempt: int = 0) -> str:
    """Id of the failure to make the row `target`. Attempt 0 is for failures that are final: there is one a row."""
    return row_id(run_id, prompt_id, "failure", step, target, attempt)


def failed(run_id: str, prompt_id: str, step: str, target: str, error: EngineError, attempt: int) -> Failure:
    id = failure_id(run_id, prompt_id, step, target, attempt if error.retryable else 0)
    return Failure(id, run_id, prompt_id, step, type(error).__name__, clean(str(error)), error.retryable)


def _listed(names: set[str]) -> str:
    return "it has: " + ", ".join(sorted(names)) if names else "it has none"
