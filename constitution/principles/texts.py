"""The texts of a constitution, each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from constitution.records import Constitution, Criterion, Example, Exemplar, Principle

REQUESTS = ("critique_request", "revision_request", "comparison_question")
TODO = "TODO"
"""Begins a text that is still to be written: a run does not take it."""

_WORKED = ("response", "critique_request", "critique", "revision_request", "revision", "better", "worse", "question")

Place = tuple[str | None, str]
"""Id of the principle, None for the constitution as a whole; and the field, such as `exemplars #1, critique`."""


def own_texts(constitution: Constitution) -> dict[Place, str]:
    """Every text that models are shown, in the file's order, and the description; empty ones are left out."""
    found: dict[Place, str] = {(None, "description"): constitution.description}
    found |= {(None, place): text for place, text in _listed("exemplars", constitution.exemplars)}
    for prompt in constitution.system_prompts:
        found[None, f"system prompt {prompt.id}, text"] = prompt.text
        found[None, f"system prompt {prompt.id}, thought"] = prompt.thought
    for principle in constitution.principles:
        found |= {(principle.id, place): text for place, text in _of_principle(principle)}
    return {place: text for place, text in found.items() if text}


def _of_principle(principle: Principle) -> Iterator[tuple[str, str]]:
    for name in (*REQUESTS, "aim", "against", "why"):
        yield name, getattr(principle, name)
    yield from _listed("exemplars", principle.exemplars)
    yield from _listed("examples", principle.examples)
    yield from _listed("criteria", principle.criteria)


def _listed(name: str, items: Sequence[Exemplar | Example | Criterion]) -> Iterator[tuple[str, str]]:
    for number, item in enumerate(items, 1):
        messages = () if isinstance(item, Criterion) else item.messages
        for turn, message in enumerate(messages, 1):
            yield f"{name} #{number}, {'prompt' if len(messages) == 1 else f'messages #{turn}'}", message.content
        for field in _WORKED:
            yield f"{name} #{number}, {field}", getattr(item, field, "")
