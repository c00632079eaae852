"""What a model said: its text, and what became of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from constitution.engines.base import Completion
from constitution.measures import refuses_briefly
from constitution.measures.copies import Shown, holds, repeats
from constitution.records import HELD_BACK, CopiedFrom, CritiqueOutcome, Outcome, Response, Sampling

_UNSEEN = {"Cc", "Cf", "Zs", "Zl", "Zp"}
"""Unicode's categories of controls, formats and white space."""


def clean(text: str) -> str:
    """What a model wrote, without the white space around it; half surrogates, which UTF-8 cannot hold, become `?`.
    Marks that cannot be seen, such as a zero-width space, are no text where there is nothing else."""
    text = text.strip()
    if not any(unicodedata.category(char) not in _UNSEEN for char in text):
        return ""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


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


def copy_of(
    text: str, outcome: str, turns: Sequence[str], shown: Shown[CopiedFrom] | None = None, critique: str = ""
) -> CopiedFrom | None:
    """What a text of this outcome repeats: of `shown`, the turns before it, or the critique that it should follow."""
    if outcome not in ("ok", "cut"):
        return None
    source = shown.copied(text) if shown else None
    if source is None and holds(text, critique):
        source = "critique"
    return source or ("turn" if repeats(text, turns) else None)


def last_answer(answers: Sequence[Response]) -> Response | None:
    """The last one with text; one that the server refused or filtered only where there is no other. None: no text."""
    said = [answer for answer in answers if answer.text]
    return next((answer for answer in reversed(said) if answer.outcome not in HELD_BACK), said[-1] if said else None)


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
    """A server that was sent neither takes 1 of both."""
    if "temperature" in unsent:
        sampling = replace(sampling, temperature=1.0)
    return replace(sampling, top_p=1.0) if "top_p" in unsent else sampling
