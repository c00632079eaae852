"""Conversations in other forms than a list of messages, as such a list: columns of turns, as Parquet files of the hub
have them; pairs of what the user said and what was answered, as Alpaca's `history` and Capybara have them."""

from __future__ import annotations

from typing import Any

_SPEAKERS = {"role", "from"}
_PAIRS = (
    *(("input", "output"), ("instruction", "output"), ("prompt", "response"), ("query", "response")),
    *(("question", "answer"), ("human", "assistant"), ("user", "assistant")),
)
"""Keys of what the user said and of what was answered, where a turn of both is an object."""


def turn_list(value: Any) -> Any:
    """`value` as a list of {role, content}; as it is where it is in neither form."""
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        lengths = {len(column) for column in value.values()}
        if _SPEAKERS & value.keys() and len(lengths) == 1:
            return [dict(zip(value, turn, strict=True)) for turn in zip(*value.values(), strict=True)]
    if isinstance(value, list) and value and all(pairs := [_pair(item) for item in value]):
        said = zip(("user", "assistant") * len(pairs), (text for pair in pairs if pair for text in pair), strict=True)
        return [{"role": role, "content": text} for role, text in said if text is not None]
    return value


def _pair(item: Any) -> tuple[Any, Any] | None:
    """Two texts, the second perhaps null where no answer came."""
    if isinstance(item, dict):
        keys = next((keys for keys in _PAIRS if set(keys) == item.keys()), None)
        item = [item[key] for key in keys] if keys else None
    if isinstance(item, list) and len(item) == 2 and any(item) and all(isinstance(text, str | None) for text in item):
        return item[0], item[1]
    return None
