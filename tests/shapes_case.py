"""Rows in the forms of public files, made up after their documentation, with what is in them counted by eye."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    source: str
    """Where the form is documented."""
    rows: list[dict[str, Any]]
    prompts: int
    turns: int
    """Of all prompts together, the systems' among them and the given answers not."""
    systems: int = 0
    answers: int = 0
    gold: tuple[int, ...] = ()
    """Prompts whose first answer is gold, whose second is, and so on."""
    beside: tuple[str, ...] = ()
    """Keys, of rows and of what is in them, that no model would have been shown."""
    ignored: tuple[str, ...] = ()
    """Keys that the printed section must name in `ignore`."""
    form: str = "jsonl"
    settings: dict[str, Any] = field(default_factory=dict)
    """What is to be set where the printed section alone is not enough, as a message says."""


def chat(
    *texts: str, roles: tuple[str, str] = ("user", "assistant"), keys: tuple[str, str] = ("role", "content")
) -> Any:
    """Turns, the user's first; a text that begins with `system:` is the system's."""
    found, place = [], 0
    for text in texts:
        if text.startswith("system:"):
            found.append({keys[0]: "system", keys[1]: text.removeprefix("system:")})
            continue
        found.append({keys[0]: roles[place % 2], keys[1]: text})
        place += 1
    return found


def sharegpt(*texts: str) -> Any:
    return chat(*texts, roles=("human", "gpt"), keys=("from", "value"))


def said(*turns: str) -> str:
    """As HH-RLHF writes transcripts."""
    return "".join(
        f"\n\n{('Human', 'Assistant')[n % 2]}: {text}" if text else "\n\nAssistant:" for n, text in enumerate(turns)
    )


HF = "https://huggingface.co/datasets/"
SCORES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
