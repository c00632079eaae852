"""The rubric of one prompt: yes/no questions about an answer to it, each with what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from constitution.records.kinds import CriterionKind, RubricDrop, RubricSource


@dataclass(frozen=True, slots=True)
class RubricItem:
    """One question of a prompt's rubric. Those without `drop_reason` are the rubric."""

    id: str
    """Digest of run, prompt, source and number."""
    run_id: str
    prompt_id: str
    source: RubricSource
    number: int
    """Place among all items of the prompt, from 0."""
    items: int
    """Items of the prompt, dropped ones too: with fewer rows some are gone."""
    question: str
    """As it was written: hostile text, like an answer; what a judge is shown of it is disarmed."""
    good: Literal["yes", "no"]
    """The reply that speaks for an answer."""
    weight: float
    """Above 0: points that an answer can have. Below 0: points that it loses where the reply is yes, which are not
    among those that it can have (HealthBench, arXiv 2505.08775, section 3.3); `good` is no then."""
    kind: CriterionKind
    from_ids: tuple[str, ...]
    """What it was written from: ids of responses, of a contrast the better one first, or of principles."""
    writer: str
    """Short name of the model; `given`: it came with the prompt."""
    drop_reason: RubricDrop | None = None
    """Why it is not asked; None: it is."""
    detail: str | None = None
    """What the reason rests on."""
    reply: str | None = None
    """All that the writer wrote, of the first item of a source; None: the others, and what was given."""
    template_digest: str | None = None
    """Digest of the templates that the writer was asked with; None: it was given."""
    seed: int | None = None
    prompt_tokens: int = 0
    """Tokens of the call are on the first item of a source, as those that follow; the others have 0."""
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    calls: int = 0
    """Calls to the writer."""
    checker: str | None = None
    """Name of the judge that checked the rubric (`rubric.check`), on the prompt's first item; None: the others, and
    where none did."""
    check_prompt_tokens: int = 0
    """Tokens of the check are on the prompt's first item, as those that follow; the others have 0."""
    check_cached_tokens: int = 0
    check_completion_tokens: int = 0
    check_calls: int = 0
