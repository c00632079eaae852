"""The nouns: frozen records that every other module speaks in. Derived values are properties, never stored twice.

What people write (principles, recipes) is validated elsewhere, by pydantic; these are what we make of it. Fields are
documented under their names, with units and what None means; docs/warehouse.md shows them as columns.
"""

from constitution.records.kinds import (
    FIXED_DROPS,
    HELD_BACK,
    REPEATS,
    UNSAID,
    Benchmark,
    CopiedFrom,
    CritiqueOutcome,
    DropReason,
    Method,
    Outcome,
    PairKind,
    Perturbation,
    ResponseKind,
)
from constitution.records.principles import (
    Constitution,
    Criterion,
    Example,
    Exemplar,
    Message,
    Messages,
    Principle,
    Role,
    SystemPrompt,
    as_dicts,
)
from constitution.records.prompts import Prompt, SkippedRow
from constitution.records.rows import (
    Annotation,
    Counterfactual,
    Failure,
    Figure,
    Judgement,
    Preference,
    Response,
    Row,
    Sampling,
    Score,
)
from constitution.records.runs import Run, Usage

__all__ = [
    "FIXED_DROPS",
    "HELD_BACK",
    "REPEATS",
    "UNSAID",
    "Annotation",
    "Benchmark",
    "Constitution",
    "CopiedFrom",
    "Counterfactual",
    "Criterion",
    "CritiqueOutcome",
    "DropReason",
    "Example",
    "Exemplar",
    "Failure",
    "Figure",
    "Judgement",
    "Message",
    "Messages",
    "Method",
    "Outcome",
    "PairKind",
    "Perturbation",
    "Preference",
    "Principle",
    "Prompt",
    "Response",
    "ResponseKind",
    "Role",
    "Row",
    "Run",
    "Sampling",
    "Score",
    "SkippedRow",
    "SystemPrompt",
    "Usage",
    "as_dicts",
]
