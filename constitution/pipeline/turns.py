"""What follows a turn of a scripted conversation: the next one, or a failure for each that is not asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from constitution.generate.chain import chain_of
from constitution.generate.failures import failure_id
from constitution.recipe import Recipe
from constitution.records import NOT_ASKED, NOTHING_TO_REVISE, REPEATS, Failure, Prompt, Response, Row


class Follow(NamedTuple):
    prompt: Prompt | None = None
    """The next turn; None: there is none, or not in this start."""
    unasked: tuple[Failure, ...] = ()
    """One for each turn that is left, where none of them is ever asked."""


def after(run_id: str, prompt: Prompt, have: Mapping[str, Row], recipe: Recipe, final: bool) -> Follow:
    """What follows `prompt`, whose answers are made. have: its rows. final: no restart adds an answer to it.

    The next turn is said after the last answer of the chain. A text that was cut, is empty or was held back is no
    answer that a user would have gone on from.
    """
    if not prompt.script:
        return Follow()
    chain, rounds = chain_of(have.values(), recipe.start_by), recipe.revise.rounds
    if len(chain) > rounds or final:
        why = _fault(chain) or ("" if len(chain) > rounds else _short(have))
        if not why:
            return Follow(prompt.next_turn(chain[-1].text))
        return Follow(unasked=tuple(_unasked(run_id, prompt, place, id, why) for place, id in _left(prompt)))
    return Follow()


def _short(have: Mapping[str, Row]) -> str:
    """Why a chain that no restart adds to has not all its rounds."""
    failures = [row for row in have.values() if isinstance(row, Failure) and not row.retryable]
    nothing = any(failure.error == NOTHING_TO_REVISE for failure in failures)
    return "no sample can be revised" if nothing else "an engine failed before its chain ended"


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
