"""What stored rows have of the replies that they were made of, request by request."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from constitution.engines import Completion, Request
from constitution.generate.sample import step_of
from constitution.judge.methods import METHODS
from constitution.judge.read import read_choices
from constitution.records import Counterfactual, Judgement, Response, Score


@dataclass(frozen=True, slots=True)
class Reply:
    """None: no row has it. Of a vote of several calls its tokens and label mass are stored for all together."""

    text: str | None = None
    """None where labels were read."""
    reasoning: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    shares: tuple[float, ...] | None = None
    """What each of the request's labels has of the probability that fell on all of them."""
    label_mass: float | None = None
    """Probability that fell on all of them together."""
    leads: str = "stop"
    """A finish reason of which the same row comes, where its own is not stored."""

    def completion(self, request: Request) -> Completion:
        """As an engine gives it, with labels that are equally likely: no request follows from what was read of them."""
        even = dict.fromkeys(request.choices, -math.log(len(request.choices))) if request.choices else None
        ended = self.finish_reason or self.leads
        return Completion(self.text or "", ended, 0, 0, choice_logprobs=even, reasoning=self.reasoning)


def of_answer(row: Response) -> dict[str, Reply]:
    """To each step that the answer took; none where no model was asked for it."""
    said = of_text(row)
    if row.kind == "initial":
        return {"initial": said}
    if row.kind == "sample":
        return {step_of(row.sampler or "", row.round): said}
    if row.kind == "perturbation":
        return {f"perturbation-{row.perturbation}": said}
    if row.kind == "reference" and row.calls:
        return {"reference": said}
    if row.kind != "revision":
        return {}
    critique = Reply(
        row.critique or "", row.critique_reasoning, None, row.critique_prompt_tokens, row.critique_cached_tokens,
        row.critique_completion_tokens, row.critique_reasoning_tokens,
        leads=_FINISHED.get(row.critique_outcome or "", "stop"),
    )  # fmt: skip
    asked = {f"critique-{row.round}": critique}
    return asked if row.outcome == "skipped" else {**asked, f"revision-{row.round}": said}


def of_text(row: Response | Counterfactual) -> Reply:
    return Reply(row.text, row.reasoning, row.finish_reason, **_tokens(row))


_FINISHED = {"cut": "length", "refused": "refusal", "filtered": "content_filter"}
"""Outcome of a critique → a finish reason that makes it."""


def of_vote(row: Judgement) -> Callable[[Request], Reply]:
    """What gives the reply to each of its requests, in their order."""
    shares = _shares(row)

    def reply(request: Request) -> Reply:
        tokens = _tokens(row) if row.calls == 1 else {}
        if not request.choices:
            return Reply(row.rationale or "", row.rationale_reasoning, **tokens)
        found = next(shares, None)
        mass = row.label_mass if METHODS[row.method].reads == "" else None
        return Reply(shares=found, label_mass=mass, **tokens)

    return reply


def _shares(row: Judgement) -> Iterator[tuple[float, ...]]:
    """As judge/ways.py reads them of one request after the other."""
    both = (*(row.read_first or ()), *(row.read_second or ()))
    if METHODS[row.method].reads == "criteria":
        yield from ((p, 1 - p) for p in both)
    elif METHODS[row.method].reads == "grades":
        yield from (_of_one(found) for found in (row.read_first, row.read_second) if found)
    else:
        yield row.p_first, 1 - row.p_first


def of_score(row: Score) -> Reply:
    tokens = row.prompt_tokens, row.cached_tokens, row.completion_tokens
    if row.raw is not None:
        return Reply(None, None, None, *tokens, shares=(1.0,), label_mass=math.exp(row.raw))
    shares = (row.p_yes, 1 - row.p_yes) if row.p_yes is not None else _of_one(row.grades or ())
    return Reply(None, None, None, *tokens, shares=shares, label_mass=row.label_mass)


def _of_one(found: Sequence[float]) -> tuple[float, ...]:
    """Probabilities, renormalised."""
    return tuple(p / math.fsum(found) for p in found)


def of_completion(done: Completion, request: Request) -> Reply:
    """What an engine gave. Raises MalformedReply where the labels cannot be read."""
    if not request.choices:
        return Reply(done.text, done.reasoning, done.finish_reason, **_tokens(done))
    found, mass, _ = read_choices(done, request.choices)
    return Reply(shares=_of_one(found), label_mass=mass, **_tokens(done))


def _tokens(of: Response | Counterfactual | Judgement | Completion) -> dict[str, Any]:
    names = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
    return {name: getattr(of, name) for name in names}
