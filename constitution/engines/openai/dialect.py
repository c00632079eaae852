"""What the servers of one model take of a request, as far as their refusals tell.

A field that a server refuses is renamed, lowered or taken out, and turns that its template refuses are merged and put
into the user's, once it turns out that a request so changed is answered. From then on every request is sent so, and an
event says what was sent in place of what.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from constitution.engines.openai.refused import TURNS, most
from constitution.engines.spoken import normal
from constitution.errors import RequestRefused
from constitution.records import Messages

EXACT = frozenset({"logprob_token_ids", "return_tokens_as_token_ids"})
TOGETHER = (frozenset({"priority"}), EXACT)
"""vLLM's fields that make a request faster or a vote exact; a refusal that names one is enough to do without."""
PREFIX = frozenset({"continue_final_message", "add_generation_prompt"})
REMOVABLE = ("chat_template_kwargs", "thinking", "cache_control", "seed", "stop", "top_p", "temperature")
"""Fields that an answer can be made without, in the order in which they are tried where several are named."""
RENAMED = {"max_tokens": "max_completion_tokens"}
LOWERED = ("top_logprobs", "max_tokens")
TOP_LOGPROBS_LEAST = 5
"""What is tried where a server refuses the number and does not say which it takes: every server with any takes it."""

_WHY = {
    "chat_template_kwargs": ", so that nothing turns reasoning off: `extra_body` can, in the server's own way",
    "thinking": ", so that nothing turns reasoning off: `extra_body` can, in the server's own way",
    "cache_control": ", so that the server caches what it pleases",
    "seed": ", so that no answer can be made again by its seed, and rows have none",
    "stop": ", and texts are cut where it would have ended them",
    "top_p": ": the server's own is used, which rows give as 1",
    "temperature": ": the server's own is used, which rows give as 1",
    "priority": " (vLLM takes it with --scheduling-policy priority)",
}
_TOP = re.compile(r"logprobs of \d+, which is greater than max allowed: (\d+)")
"""vLLM names no field."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How requests are changed before they are sent."""

    removed: frozenset[str] = frozenset()
    renamed: frozenset[str] = frozenset()
    """Keys of RENAMED."""
    most: tuple[tuple[str, int], ...] = ()
    """Greatest values of fields."""
    turns: int = 0
    """Keys of TURNS_AS."""

    def __or__(self, other: Habits) -> Habits:
        """Both of what two requests found out."""
        lowest = dict(self.most)
        for name, value in other.most:
            lowest[name] = min(value, lowest.get(name, value))
        return Habits(
            self.removed | other.removed,
            self.renamed | other.renamed,
            tuple(sorted(lowest.items())),
            max(self.turns, other.turns),
        )

    def messages(self, messages: Messages) -> Messages:
        return TURNS_AS[self.turns](messages)

    def fields(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if not (self.removed or self.renamed or self.most):
            return dict(body)
        lowest = dict(self.most)
        return {
            RENAMED[name] if name in self.renamed else name: min(value, lowest[name]) if name in lowest else value
            for name, value in body.items()
            if name not in self.removed
        }


TURNS_AS: Sequence[Callable[[Messages], Messages]] = (
    lambda messages: messages,
    lambda messages: normal(messages, system=True, late_system=True),
    lambda messages: normal(messages, system=True, late_system=False),
    lambda messages: normal(messages, system=False, late_system=False),
)
_TURNS_WORDS = (
    "",
    "neighbouring turns of one role are merged",
    "neighbouring turns of one role are merged, and system turns after the first ones put into the user's",
    "neighbouring turns of one role are merged, and system turns put into the user's",
)


def as_turned(messages: Messages, changed: str) -> Messages:
    """`messages` as they are sent by what a run's record has of `Dialect.changed`."""
    return TURNS_AS[max(turns for turns, words in enumerate(_TURNS_WORDS) if words in changed)](messages)


class Dialect:
    """The habits of one engine."""

    def __init__(
        self,
        omit: Collection[str],
        given: Collection[str],
        note: Callable[[str], object],
        turns: int = 0,
        said: str = "",
    ) -> None:
        """omit: fields that the recipe leaves out, or the API lacks. given: those that the recipe gives itself, which
        are sent as they are or not at all. note: takes an event. turns: of TURNS_AS. said: how `changed` begins."""
        self.habits = Habits(removed=frozenset(omit), turns=turns)
        self._given = frozenset(given)
        self._note = note
        self._said: list[str] = [said] if said else []

    @property
    def changed(self) -> str:
        """What is sent otherwise than a request says because a server wants it, for the run's record."""
        return "; ".join(self._said)

    def next(self, habits: Habits, body: Mapping[str, Any], messages: Messages, error: RequestRefused) -> Habits | None:
        """What to try after a server refused a request made by `habits`; None: nothing that its words speak of."""
        if error.flagged and not error.fields:
            return None  # a filter may repeat the words of a prompt
        sent = habits.fields(body)
        named = [name for name in sent if _names(error, name) and name not in self._given]
        for together in TOGETHER:
            if not together.isdisjoint(named):
                return replace(habits, removed=habits.removed | together)
        if error.unknown and not PREFIX.isdisjoint(named):
            return replace(habits, removed=habits.removed | PREFIX)
        if "max_tokens" in named and _wants_other_name(error):
            return replace(habits, renamed=habits.renamed | {"max_tokens"})
        if lowered := self._lowered(habits, sent, named, error):
            return lowered
        if error.unknown and (removable := [name for name in _by_use(body) if name in named]):
            return replace(habits, removed=habits.removed | {removable[0]})
        return self._turned(habits, messages, error)

    def without_logprobs(self, error: RequestRefused) -> bool:
        """Whether a refusal says that no log-probabilities are given, with any number of them."""
        named = any(_names(error, name) for name in ("logprobs", "top_logprobs"))
        return named and (error.unknown or "logprobs" in error.fields) and not error.flagged

    def keep(self, habits: Habits, why: RequestRefused) -> None:
        """A request so changed was answered, after another one had been refused: `why`."""
        before, self.habits = self.habits, self.habits | habits
        removed = sorted(self.habits.removed - before.removed - EXACT)
        said = [f"{name} is not sent{_WHY.get(name, '')}" for name in removed]
        said += [f"{RENAMED[name]} is sent for {name}" for name in sorted(self.habits.renamed - before.renamed)]
        said += [f"{name} is at most {value}" for name, value in self.habits.most if (name, value) not in before.most]
        if self.habits.turns > before.turns:
            said.append(_TURNS_WORDS[self.habits.turns])
        for sentence in said:
            self._note(f"{sentence}, because a server refused it otherwise: {str(why)[:300]}")
        self._said += said

    def _lowered(
        self, habits: Habits, sent: Mapping[str, Any], named: Collection[str], error: RequestRefused
    ) -> Habits | None:
        for name in LOWERED:
            sent_as = RENAMED[name] if name in habits.renamed else name
            value = sent.get(sent_as)
            top = _TOP.search(error.words) if name == "top_logprobs" else None
            if not isinstance(value, int) or not (top or {name, sent_as} & {*named, *error.fields}):
                continue
            lowest = int(top[1]) if top else most(error.words, value)
            if lowest is None and name == "top_logprobs" and value > TOP_LOGPROBS_LEAST and not _alone(error):
                lowest = TOP_LOGPROBS_LEAST
            if lowest is not None and 1 <= lowest < value:
                return habits | Habits(most=((name, lowest),))
        return None

    def _turned(self, habits: Habits, messages: Messages, error: RequestRefused) -> Habits | None:
        if not TURNS.search(error.words):
            return None
        now = habits.messages(messages)
        for turns in range(habits.turns + 1, len(TURNS_AS)):
            if TURNS_AS[turns](messages) != now:
                return replace(habits, turns=turns)
        return None


def _names(error: RequestRefused, name: str) -> bool:
    """Whether it speaks of the field. `stop` is a word of every day, and has to be in quotes."""
    quote = "['\"`]" if name == "stop" else ""
    return name in error.fields or re.search(rf"(?<!\w){quote}{name}{quote}(?!\w)", error.words) is not None


def _wants_other_name(error: RequestRefused) -> bool:
    """Whether max_tokens is taken under another name alone; "max_tokens is too large" is no such thing."""
    return error.unknown and not re.search(r"too (?:large|big|long|many)|at most|greater|exceed", error.words)


def _alone(error: RequestRefused) -> bool:
    """Whether log-probabilities are refused as such, with any number of them."""
    return error.unknown and not re.search(r"\d", error.words)


def _by_use(body: Mapping[str, Any]) -> list[str]:
    """REMOVABLE, those first that say what a server does anyway: of two that may not be sent together, top_p = 1 is
    the one to leave out."""
    return sorted(REMOVABLE, key=lambda name: name in body and body[name] not in (1.0, None))
