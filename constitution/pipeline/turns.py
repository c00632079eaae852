"""What follows a turn of a scripted conversation: the next one, or a failure for each that is not asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from constitution.generate.base import of_kinds
from constitution.generate.failures import failure_id
from constitution.records import NOT_ASKED, REPEATS, Failure, Prompt, Response, Row


class Follow(NamedTuple):
    prompt: Prompt | None = None
    """The next turn; None: there is none, or not in this start."""
    unasked: tuple[Failure, ...] = ()
    """One for each turn that is left, where none of them is ever asked."""


def after(run_id: str, prompt: Prompt, have: Mapping[str, Row], rounds: int, final: bool) -> Follow:
    """What follows `prompt`, whose answers are made. have: its rows. rounds: of its chain. final: no restart adds an
    answer to it.

    The next turn is said after the last answer of the chain. A text that was cut, is empty or was held back is no
    answer that a user would have gone on from.
    """
    if not prompt.script:
        return Follow()
    chain = of_kinds(have, "initial", "revision")
    if len(chain) > rounds or final:
        why = _fault(chain) or ("" if len(chain) > rounds else "an engine failed before its chain ended")
        if not why:
            return Follow(prompt.next_turn(chain[-1].text))
        return Follow(unasked=tuple(_unasked(run_id, prompt, place, id, why) for place, id in _left(prompt)))
    return Follow()


def _fault(chain: list[Response]) -> str:
    """What is wrong with the chain's last text, where it was written; empty: nothing."""
    by_id = {answer.id: answer for answer in chain}
    last = chain[-1] if chain else None
    while last is not None and last.outcome in REPEATS:
        last = by_id.get(last.parent_id or "")
    return "" if last is None else _FAULTS.get(last.outcome, "")


_FAULTS = {
    "cut": "its last answer was cut, by max_tokens or to call a tool",
    "empty": "its last answer has no text",
    "refused": "its last answer was refused by the server",
    "filtered": "its last answer was held back by the server's content filter",
}


def _left(prompt: Prompt) -> list[tuple[int, str]]:
    """Place and id of the turns that are left."""
    return list(enumerate(prompt.later_ids(), prompt.turn + 1))


def _unasked(run_id: str, prompt: Prompt, place: int, id: str, why: str) -> Failure:
    step = f"turn-{place}"
    message = f"turn {place} is not asked: of turn {prompt.turn}, {why}"
    return Failure(failure_id(run_id, prompt.id, step, id), run_id, prompt.id, step, NOT_ASKED, message, False)
