"""What the values in texts become: drafts of principles from the commonest, and tags on the texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from constitution.identity import digest
from constitution.principles.languages import known
from constitution.principles.lint import principle_faults
from constitution.propose.merging import Merged
from constitution.propose.values import Value
from constitution.records import Principle, Prompt, as_dicts


def principle_of(merged: Merged, document: str) -> Principle:
    """A draft by rule: no model writes it, so it asks for the value and for nothing of a text's own. The quote is the
    one that the most relevant of its values rests on."""
    phrase, best = _phrase(merged), merged.best()
    return Principle(
        id=merged.slug or f"{merged.kind}-{digest(merged.name)[:8]}",
        critique_request=f"Say where the answer fails to do justice to {phrase}, if that bears on what is asked.",
        revision_request=f"Rewrite the answer so that it does justice to {phrase} where that bears on what is asked.",
        comparison_question=f"Which answer does more justice to {phrase}?",
        tags=(merged.kind,),
        source=f"{document}: {best.source}" if document not in best.source else best.source,
        why=best.explanation,
        quote=best.quote,
    )


def _phrase(merged: Merged) -> str:
    if merged.kind in merged.name.split():
        return f"the {merged.name.removeprefix('the ')}"
    return merged.name if merged.kind == "value" else f"{merged.name} as a {merged.kind}"


def fault_of(principle: Principle) -> str:
    """What the lint of a principles file says of the draft; empty: nothing."""
    return "; ".join(principle_faults(principle, known("en")))


def note_of(merged: Merged) -> str:
    """How often, for and against what, and under which names."""
    sides = ", ".join(f"{side} {count}" for side, count in sorted(merged.valences().items()))
    said = f"{merged.kind} in {merged.texts} texts ({sides})"
    return said + (f"; merged: {merged.called()}" if merged.called() else "")


def tags_of(merged: Sequence[Merged], least: int) -> dict[str, list[str]]:
    """Names of what bears on each prompt with a relevance of `least` or more, by `Prompt.id`, the commonest first."""
    found: dict[str, list[str]] = {}
    for each in merged:
        for prompt_id in dict.fromkeys(value.prompt_id for value in each.values if value.relevance >= least):
            found.setdefault(prompt_id, []).append(f"{each.kind}: {each.name}")
    return found


def tagged(prompts: Sequence[Prompt], tags: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A line of JSON for each prompt, with its own tags and those of its values. A prompt that is not in `tags` keeps
    its own."""
    for prompt in prompts:
        row: dict[str, Any] = {"messages": as_dicts(prompt.messages)}
        row["tags"] = list(dict.fromkeys([*prompt.tags, *tags.get(prompt.id, ())]))
        if prompt.answers:
            row["answers"] = list(prompt.answers)
        yield json.dumps(row, ensure_ascii=False)


def value_lines(merged: Sequence[Merged]) -> Iterator[str]:
    """A line of JSON for each value in each text, with the name under which it is counted."""
    of = {id(value): each for each in merged for value in each.values}
    values: list[Value] = sorted(
        (value for each in merged for value in each.values), key=lambda value: (value.source, -value.relevance)
    )
    for value in values:
        yield json.dumps({**asdict(value), "counted_as": of[id(value)].name}, ensure_ascii=False)
