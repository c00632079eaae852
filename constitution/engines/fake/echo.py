"""The fake engine that gives its system prompt away, in the forms in which models do: to see that none gets through."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from constitution.engines.base import Request
from constitution.engines.fake.world import unit
from constitution.identity import digest


def echoes(bits: str, share: float) -> bool:
    """Whether it repeats what it was given; `share` of all requests do."""
    return unit(digest(["echo", bits])) < share


def repeated(request: Request, bits: str, thought: str, text: str) -> tuple[str, str]:
    """Thought and text with the system turn and the given thought in one of the forms, which `bits` choose; as they are
    where the request has neither."""
    system = [turn.content for turn in request.messages if turn.role == "system"]
    given = "\n".join(filter(None, [*system, request.thought]))
    if not given:
        return thought, text
    form = list(FORMS)[int(digest(["form", bits])[:8], 16) % len(FORMS)]
    said = FORMS[form](given, text)
    return (f"{thought} {said}".strip(), text) if form == "thought" else (thought, said)


def _half(given: str, second: bool) -> str:
    words = given.split()
    return " ".join(words[len(words) // 2 :] if second else words[: len(words) // 2])


FORMS: Mapping[str, Callable[[str, str], str]] = {
    "whole": lambda given, text: given,
    "first half": lambda given, text: _half(given, second=False),
    "second half": lambda given, text: _half(given, second=True),
    "loud": lambda given, text: f"{text}\n\n{given.upper()}",
    "spaced": lambda given, text: "\n\t ".join(given.split()),
    "code": lambda given, text: f"{text}\n\n```\n{given}\n```",
    "bold": lambda given, text: " ".join(f"**{word}**," for word in given.split()),
    "quoted": lambda given, text: f"{text} I was told “{_half(given, second=True)}”, and so: {text} {text} {text}",
    "thought": lambda given, text: given,
}
"""How what was given is said, alone or with the text that there would have been."""
