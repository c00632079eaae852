"""The [prompts] section that an inspection prints, with what else of the rows a recipe may ask for, as comments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from constitution.errors import PromptError
from constitution.prompts.keys import is_empty, plain_key
from constitution.prompts.row import Row
from constitution.prompts.rubrics import given_rubric

_RUBRICS = {plain_key(key) for key in ("rubric", "rubrics", "rubric_list", "checklist", "criteria")}
_REFERENCES = {
    plain_key(key)
    for key in ("reference", "reference_answer", "ground_truth", "gold_answer", "ideal_answer", "solution", "truth")
}
"""Keys of what is known of each prompt, in public data sets, in any spelling."""
_OFFERS = {
    "rubric": 'the rubric of each row, with [rubric] from = ["given"] and reward.by = ["prompt-rubric"]',
    "reference": 'the answer that is known of each row, with [reference] from = "given"',
    "id_field": "each row has another one: kept, and exported",
    "metadata": "kept and exported, where it is asked for",
}


def known_of(rows: Sequence[Row], unused: Iterable[str]) -> dict[str, str]:
    """`rubric` and `reference` of [prompts], with the first key of `unused` that each of these rows can be read by."""
    found: dict[str, str] = {}
    for key in unused:
        held = [row for row in rows if not row.fault and not is_empty(row.data.get(key))]
        if held and plain_key(key) in _RUBRICS and all(_is_rubric(row, key) for row in held):
            found.setdefault("rubric", key)
        texts = (isinstance(value := row.data[key], str | int | float) and not isinstance(value, bool) for row in held)
        if held and plain_key(key) in _REFERENCES and all(texts):
            found.setdefault("reference", key)
    return found


def _is_rubric(row: Row, key: str) -> bool:
    try:
        return bool(given_rubric(row, key, "fault"))  # the run says where prompts.pitfalls is to be set
    except PromptError:
        return False


def section(path: str, settings: Mapping[str, Any], offers: Mapping[str, Any]) -> str:
    """In TOML. offers: fields that are left to the reader."""
    lines = [f"{name} = {_toml(value)}" for name, value in {"path": path, **settings}.items()]
    lines += [f"# {name} = {_toml(value)}  # {_OFFERS[name]}" for name, value in offers.items()]
    return "\n".join(["[prompts]", *lines])


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # which TOML refuses
    return text.encode(errors="backslashreplace").decode()
