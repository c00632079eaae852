"""Turns as chat templates take them: many demand that roles alternate, and some take no system turn."""

from __future__ import annotations

from itertools import groupby

from constitution.records import Message, Messages


def normal(messages: Messages, *, system: bool, late_system: bool) -> Messages:
    """Neighbours of one role merged, joined by a blank line; a system turn put into the user's where none is taken:
    `system` of those before the first other turn, `late_system` of those after it."""
    spoken = next((place for place, turn in enumerate(messages) if turn.role != "system"), len(messages))
    taken = [system] * spoken + [late_system] * (len(messages) - spoken)
    messages = tuple(
        turn if turn.role != "system" or takes else Message("user", turn.content)
        for turn, takes in zip(messages, taken, strict=True)
    )
    turns = ((role, [turn.content for turn in same]) for role, same in groupby(messages, lambda turn: turn.role))
    return tuple(Message(role, "\n\n".join(contents)) for role, contents in turns)
