"""Failures of the answers, with their ids."""

from __future__ import annotations

from collections.abc import Mapping

from constitution.errors import AccessDenied, EngineError, EngineGone, EngineTimeout, EngineUnavailable, RateLimited
from constitution.generate.outcomes import clean
from constitution.identity import row_id
from constitution.records import Failure, Response, Row


def failure_id(run_id: str, prompt_id: str, step: str, target: str, attempt: int = 0) -> str:
    """Id of the failure to make the row `target`. Attempt 0 is for failures that are final: there is one a row."""
    return row_id(run_id, prompt_id, "failure", step, target, attempt)


def final_failure(have: Mapping[str, Row], run_id: str, prompt_id: str, target: str, *steps: str) -> Failure | None:
    """The failure in `have`, a prompt's rows by id, for which none of `steps` makes the row `target` any more."""
    if Failure not in map(type, have.values()):
        return None  # as nearly always: no ids to make
    found = (have.get(failure_id(run_id, prompt_id, step, target)) for step in steps)
    return next((row for row in found if isinstance(row, Failure)), None)


def answered(have: Mapping[str, Row], run_id: str, prompt_id: str, step: str, target: str, start: int) -> int:
    """How often earlier starts failed to make the row `target` by a reply that they could not use."""
    if Failure not in map(type, have.values()):
        return 0
    ids = [failure_id(run_id, prompt_id, step, target, number) for number in range(1, start)]
    ids += [tried_again(failure_id(run_id, prompt_id, step, target), number) for number in range(1, start)]
    found = [row for id in ids if isinstance(row := have.get(id), Failure)]
    return sum(row.error not in _UNANSWERED for row in found)


def tried_again(id: str, start: int) -> str:
    """Id of a failure that was final, once the start after this one tries again."""
    return row_id(id, "tried again", start)


def failed(run_id: str, prompt_id: str, step: str, target: str, error: EngineError, attempt: int) -> Failure:
    id = failure_id(run_id, prompt_id, step, target, attempt if error.retryable else 0)
    return Failure(id, run_id, prompt_id, step, type(error).__name__, clean(str(error)), error.retryable)


def unsaid(answer: Response) -> Failure | None:
    """The failure that says what a model or its server did not say, if anything; it follows from the answer alone."""
    step: str = answer.kind
    if answer.kind in ("revision", "perturbation"):
        step = f"{answer.kind}-{answer.perturbation or answer.round}"
    if answer.kind == "sample":
        step = f"sample-{answer.sampler}-{answer.round}"
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


_UNANSWERED = {each.__name__ for each in (AccessDenied, EngineGone, EngineTimeout, EngineUnavailable, RateLimited)}
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
"""The failure's error of each outcome, and what it says of the answer or critique."""
