"""The nouns: frozen records that every other module speaks in. Derived values are properties, never stored twice.

What people write (principles, recipes) is validated elsewhere, by pydantic; these are what we make of it. Fields are
documented under their names, with units and what None means; docs/warehouse.md shows them as columns.
"""

from constitution.records.kinds import (
    FIXED_DROPS,
    HELD_BACK,
    NOT_ASKED,
    NOTHING_TO_REVISE,
    NOTHING_TO_SEE,
    REPEATS,
    UNASKED,
    UNSAID,
    Benchmark,
    CopiedFrom,
    CriterionKind,
    CritiqueOutcome,
    DropReason,
    Method,
    Outcome,
    PairKind,
    Perturbation,
    ResponseKind,
    RewardReason,
    RewardSource,
    StoredSource,
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
from constitution.records.prompts import Prompt, SkippedRow, Turn
from constitution.records.rewards import Reward, Score
from constitution.records.rows import (
    Annotation,
    Counterfactual,
    Failure,
    Figure,
    Judgement,
    Preference,
    Response,
    Sampling,
)
from constitution.records.runs import Run, Usage

Row = Turn | Response | Judgement | Preference | Failure | Score | Reward
"""What a run writes as it goes."""

__all__ = [
    "FIXED_DROPS",
    "HELD_BACK",
    "NOTHING_TO_REVISE",
    "NOTHING_TO_SEE",
    "NOT_ASKED",
    "REPEATS",
    "UNASKED",
    "UNSAID",
    "Annotation",
    "Benchmark",
    "Constitution",
    "CopiedFrom",
    "Counterfactual",
    "Criterion",
    "CriterionKind",
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
    "Reward",
    "RewardReason",
    "RewardSource",
    "Role",
    "Row",
    "Run",
    "Sampling",
    "Score",
    "SkippedRow",
    "StoredSource",
    "SystemPrompt",
    "Turn",
    "Usage",
    "as_dicts",
]
