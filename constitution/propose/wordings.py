"""Other wordings of one principle, asked of a writer that is shown pairs on which the old one is wrong.

What a model wrote is hostile: it must be the form that was asked for, pass the lint of a principles file, and hold
nothing that is not shown; else it falls, and why is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from constitution import templates
from constitution.engines import Completion, Engine, Request
from constitution.errors import EngineError, InputError
from constitution.identity import seed
from constitution.judge.ask import nonce
from constitution.principles.languages import Language
from constitution.principles.lint import principle_faults, same
from constitution.principles.schema import CriterionTable
from constitution.propose.gold import GoldPair
from constitution.reading import parse_json
from constitution.records import Criterion, Message, Messages, Principle, Sampling
from constitution.shown import brief, printable
from constitution.templates import IMPROVE

STEP = "improve"
A_CALL = 2
"""Wordings that are asked for at once: each call is shown other pairs."""
SHOWN = 6
"""Pairs that a call shows at most."""
MOST = 600
"""Characters of a wording: a longer one describes pairs."""
SAMPLING = Sampling(temperature=0.7, top_p=1.0, max_tokens=1200)
FIELDS = ("criteria", "requests")
"""What a writer may be asked for beside the question."""
_MORE = {
    "criteria": '"criteria": a list of objects with the keys "question", which yes or no answers about one answer, and '
    '"good", the reply "yes" or "no" that speaks for the answer.',
    "requests": '"critique_request": asks where an answer fails in this.\n'
    '"revision_request": asks for the answer without that failure.',
}
_KEYS = {"criteria": ("criteria",), "requests": ("critique_request", "revision_request")}
_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\r?\n(.*?)\r?\n[ \t]*```\s*\Z", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wording:
    """One that was proposed."""

    principle: Principle
    """The old one with the new words; as it was where `fault` says that they are none."""
    reason: str
    """The writer's, for people to read."""
    fault: str = ""
    """Why it is not tried; empty: it is."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A pair on which the old wording prefers the answer that people do not."""

    gold: GoldPair

    def texts(self, turned: bool) -> tuple[str, str, str]:
        """The answers as they are shown, and the letter of the better one."""
        pair = self.gold.pair
        shown = (pair.b.text, pair.a.text) if turned else (pair.a.text, pair.b.text)
        return *shown, "B" if (self.gold.p_b > 0.5) != turned else "A"


@dataclass(frozen=True, slots=True)
class Writer:
    engine: Engine
    seed: int
    language: Language | None
    """The constitution's, whose words the lint knows; None: they are not known."""
    more: tuple[str, ...] = ()
    """What else is asked for: of FIELDS."""

    async def propose(
        self, principle: Principle, wrong: Sequence[Wrong], count: int
    ) -> tuple[list[Wording], list[str]]:
        """`count` wordings at most, and what failed in words. Each call is shown other pairs, as far as there are."""
        found: list[Wording] = []
        failed: list[str] = []
        for call in range(-(-count // A_CALL)):
            start = call * SHOWN % max(len(wrong), 1)
            shown = (*wrong[start:], *wrong[:start])[:SHOWN]
            asked = min(A_CALL, count - call * A_CALL)
            try:
                done = await self.engine.generate(self._request(principle, shown, asked, call))
                found += self._read(principle, done, found, asked)
            except (EngineError, InputError) as error:
                failed.append(f"call {call + 1}: {type(error).__name__}: {brief(printable(str(error)))}")
        return found, failed

    def _request(self, principle: Principle, wrong: Sequence[Wrong], count: int, call: int) -> Request:
        chosen = seed(self.seed, principle.id, STEP, call)
        mark = nonce(chosen, principle.id)
        return Request(messages(principle, wrong, count, mark, self.more), SAMPLING, chosen, step=STEP)

    def _read(self, principle: Principle, done: Completion, before: Sequence[Wording], count: int) -> list[Wording]:
        if done.finish_reason != "stop":
            raise InputError(f"the reply ended before its end ({done.finish_reason})")
        items = items_of(done.text)
        if len(items) > count:
            raise InputError(f"the reply has {len(items)} wordings where {count} were asked for")
        made = [_wording(principle, item, self.more) for item in items]
        tried: list[Wording] = list(before)
        for each in made:
            fault = each.fault or next(_faults(each.principle, principle, tried, self.language), "")
            tried.append(replace(each, fault=fault))
        return tried[len(before) :]


def messages(principle: Principle, wrong: Sequence[Wrong], count: int, mark: str, more: Sequence[str] = ()) -> Messages:
    """The chat that asks for wordings. What models and strangers wrote stands between marks, disarmed. Every second
    pair is shown the other way round, so that no letter is always the better one."""
    texts = IMPROVE.texts
    pairs = []
    for place, each in enumerate(wrong):
        first, second, better = each.texts(turned=(place % 2 == 0) == (each.gold.p_b > 0.5))
        values = {
            "nonce": mark,
            "conversation": templates.conversation(each.gold.prompt.messages, mark, IMPROVE),
            "first": templates.shown(first, mark, IMPROVE),
            "second": templates.shown(second, mark, IMPROVE),
            "better": better,
            "worse": "A" if better == "B" else "B",
        }
        pairs.append(templates.fill(texts["improve-pair.txt"], values))
    values = {
        "nonce": mark,
        "pairs": "\n\n".join(pairs),
        "question": templates.one_line(principle.comparison_question, mark, IMPROVE),
        "count": str(count),
        "format": "\n".join([texts["improve-json.txt"], *(_MORE[field] for field in more)]),
    }
    return (Message("user", templates.fill(texts["improve.txt"], values)),)


def items_of(text: str, *, empty: bool = False) -> list[Mapping[str, Any]]:
    """The objects of a reply that is a JSON list of them, alone or as one block of code. Raises InputError for anything
    else, and for an empty list unless that may be."""
    fenced = _FENCED.match(text)
    found = parse_json(fenced[1] if fenced else text, "the reply", InputError)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError("the reply is not a list of objects")
    if not found and not empty:
        raise InputError("the reply is an empty list")
    return found


def _wording(principle: Principle, item: Mapping[str, Any], more: Sequence[str]) -> Wording:
    wanted = ["comparison_question", "reason", *(key for field in more for key in _KEYS[field])]
    if set(item) != set(wanted):
        keys = ", ".join(map(repr, sorted(map(str, item))))
        return Wording(principle, "", f"has the keys {brief(printable(keys), 200)}, and not {', '.join(wanted)}")
    criteria = item.get("criteria", [])
    texts = {key: item[key] for key in wanted if key != "criteria"}
    if bad := next((key for key, text in texts.items() if not isinstance(text, str) or not text.strip()), ""):
        return Wording(principle, "", f"{bad}: is no text")
    said = {key: text.strip() for key, text in texts.items()}
    reason = said.pop("reason")
    changed = replace(principle, **said)
    if "criteria" in wanted:
        try:
            changed = replace(changed, criteria=_criteria(criteria))
        except (ValidationError, TypeError, ValueError) as error:
            return Wording(principle, reason, f"criteria: {brief(printable(str(error)), 200)}")
    return Wording(changed, reason)


def _criteria(items: Any) -> tuple[Criterion, ...]:
    if not isinstance(items, list) or not items:
        raise ValueError("is no list of objects")
    if any(not isinstance(item, dict) or set(item) != {"question", "good"} for item in items):
        raise ValueError('an object has other keys than "question" and "good"')
    return tuple(CriterionTable.model_validate(item).record for item in items)


def _faults(new: Principle, old: Principle, before: Sequence[Wording], language: Language | None) -> Any:
    """Why a wording is not tried, the first that is found first."""
    for text in texts_of(new):
        if len(text) > MOST:
            yield f"has {len(text):,} characters, more than {MOST}: it would describe pairs, not a principle"
        if printable(text) != text:
            yield "holds signs that are not shown, or line breaks"
    if same_words(new, old):
        yield "is the wording that there is"
    if twin := next((n for n, each in enumerate(before, 1) if same_words(new, each.principle)), 0):
        yield f"is wording {twin} over again"
    yield from principle_faults(new, language)


def texts_of(principle: Principle) -> list[str]:
    """What a writer may reword."""
    questions = [principle.comparison_question, principle.critique_request, principle.revision_request]
    return [text for text in (*questions, *(each.question for each in principle.criteria)) if text]


def same_words(one: Principle, other: Principle) -> bool:
    """Whether both ask the same, but for case, white space and outer punctuation."""
    mine, others = texts_of(one), texts_of(other)
    return len(mine) == len(others) and all(map(same, mine, others))
