"""The rubric that came with a prompt (`prompts.rubric`), as public data have it.

    {"description": "Essential Criteria: Names the dose.", "title": "Dose", "weight": 5}    RaR (arXiv 2507.17746)
    {"criterion": "Advises to call a doctor.", "points": -6, "tags": […]}     HealthBench (2505.08775), RubricHub
    {"question": "Does it name the dose?", "good": "yes", "weight": 1.0, "kind": ""}        our exports
    "Names the dose."                                                         each of the same weight

Nothing of an item is guessed: one that could be read in two ways is refused, with its row.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

from constitution.prompts.keys import is_empty
from constitution.prompts.row import Row, check_text
from constitution.records import Criterion, CriterionKind

TEXTS = ("question", "criterion", "description", "requirement", "rubric")
"""Keys of an item's words."""
WEIGHTS = ("weight", "points", "score")
"""Keys of what it counts."""
KINDS = ("kind", "category", "type")
"""Keys of its kind, where they hold one; HealthBench-like categories are none."""
Pitfalls = Literal["fault", "avoided"]
_KINDS = tuple(kind for kind in get_args(CriterionKind) if kind)
_PREFIX = re.compile(rf"\s*({'|'.join(_KINDS)})(?:\s+criteri(?:a|on))?\s*:\s*", re.IGNORECASE)
"""What RaR's descriptions begin with: it is the kind, and no part of what is asked."""
_AVOIDED = re.compile(
    r"\s*(?:(?:the |this )?(?:answer|response|reply|assistant|model) )?"
    r"(?:(?:does|do|is|should|must|may|can)(?: ?not|n['’]t)|never|not|avoid(?:s|ing)?|refrain(?:s|ing)?|without)\b",
    re.IGNORECASE,
)
"""How a pitfall begins of which nothing says whether it is the fault ("Does not mention the risk") or what avoids it
("Does not invent facts"): RaR's data hold both, with weights of -1 and -2 alike."""
_SHAPES = (
    "a rubric is a list of texts, or of objects with the words under "
    f"{', '.join(TEXTS)} and what they count under {', '.join(WEIGHTS)}"
)


def given_rubric(row: Row, key: str, pitfalls: Pitfalls | None = None) -> tuple[Criterion, ...]:
    """The items in their order; empty: the row has none. pitfalls: what those describe that begin "Does not …" and have
    no `good`; None: they are refused. Raises PromptError for what is no rubric."""
    value = row.data.get(key)
    if is_empty(value):
        return ()
    if isinstance(value, str):  # as tables have it
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            row.refuse(f"{key} is a text, and not the JSON of a list", _SHAPES)
    if not isinstance(value, list) or not value:
        row.refuse(f"{key} is not a list of items", _SHAPES)
    items = [_item(row, f"{key}, item {number}", item, pitfalls) for number, item in enumerate(value, 1)]
    weighed = [weight is not None for _, weight in items]
    if any(weighed) and not all(weighed):
        number = weighed.index(False) + 1
        row.refuse(f"{key}, item {number} does not say what it counts, and others do", _SHAPES)
    return tuple(criterion for criterion, _ in items)


def _item(row: Row, where: str, value: Any, pitfalls: Pitfalls | None) -> tuple[Criterion, float | None]:
    """The item, and what it says that it counts; None: nothing."""
    data: Mapping[str, Any] = {"question": value} if isinstance(value, str) else value
    if not isinstance(data, Mapping):
        row.refuse(f"{where} is neither a text nor an object", _SHAPES)
    text = _one(row, where, data, TEXTS)
    if not isinstance(text, str) or not _worded(text):
        row.refuse(f"{where} has no words", _SHAPES)
    check_text(row, where, text)
    weight = _weight(row, where, data)
    prefix = _PREFIX.match(text)
    kinds = {prefix[1].casefold()} if prefix else set()
    for key in KINDS:
        said = data.get(key)
        found = _PREFIX.fullmatch(f"{said}:") if isinstance(said, str) else None
        kinds |= {found[1].casefold()} if found else set()
    if len(kinds) > 1:
        row.refuse(f"{where} is of two kinds, {' and '.join(sorted(kinds))}", "leave one of them")
    kind = cast("CriterionKind", kinds.pop() if kinds else "")
    question = text[prefix.end() :] if prefix else text
    if not _worded(question):
        row.refuse(f"{where} has no words", _SHAPES)
    lost = weight is not None and weight < 0
    if lost and kind not in ("", "pitfall"):
        row.refuse(f"{where} is {kind}, and its points are lost ({weight:g})", "leave one of them")
    if kind == "pitfall" and "good" not in data and _AVOIDED.match(question):
        if pitfalls is None:
            row.refuse(
                f"{where} is a pitfall that does not say whether it is a fault or what avoids one "
                f"({question.strip():.50})",
                'set prompts.pitfalls to "fault" or "avoided", as the data mean it; or give the item the key good',
            )
        if pitfalls == "avoided":  # what speaks for an answer is no pitfall
            return Criterion(question, "yes", abs(weight or 1.0), ""), weight
    good = data.get("good", "no" if lost or kind == "pitfall" else "yes")
    if good not in ("yes", "no") or (good == "yes" and (lost or kind == "pitfall")):
        row.refuse(f"{where}: good is {good!r}", 'it is "yes" or "no"; of a pitfall and of points that are lost, "no"')
    return Criterion(question, good, 1.0 if weight is None else weight, kind), weight


def _weight(row: Row, where: str, data: Mapping[str, Any]) -> float | None:
    value = _one(row, where, data, WEIGHTS)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not value:
        row.refuse(f"{where} counts {value!r:.50}", "a weight is a number other than 0")
    return float(value)


def _worded(text: str) -> bool:
    return any(map(str.isalnum, text))


def _one(row: Row, where: str, data: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """What the one of `keys` holds that the item has; None: it has none."""
    held = {key: data[key] for key in keys if data.get(key) is not None}
    if len({json.dumps(value, sort_keys=True, default=str) for value in held.values()}) > 1:
        row.refuse(f"{where} has {' and '.join(held)}, and they are not the same", "leave one of them out")
    return next(iter(held.values()), None)
