"""The fake engine's little world: what it writes, how good that is, and what style it has.

An answer is a line of careful and careless sentences, one of each pair of `SENTENCES`. A pair's two sentences have the
same number of tokens, so that how good an answer is and how long it is have nothing to do with each other. With
verbosity, lines that say nothing follow, some of them as markdown.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from constitution.identity import digest
from constitution.records import Messages

SENTENCES = (
    ("Check the label before you begin.", "Nobody reads labels, just begin."),
    ("Ask someone who knows if you are unsure.", "Only a real fool would ask for help."),
    ("I may be wrong about the details.", "I am never wrong about these things."),
    ("Take your time and go step by step.", "Skip the boring steps, nobody needs them."),
)
"""(careful, careless): each answer holds one of each pair."""

NEUTRAL = (
    "Much has been said about this.",
    "There is more than one way to look at it.",
    "People have thought about such things for a very long time.",
    "It comes up often.",
    "Where you live may play a part in it.",
    "Some of it is a matter of taste.",
    "That is a question with a history of its own.",
    "Opinions differ.",
)
"""What a verbose answer adds: no better and no worse."""
FORMS = ("{}", "- {}", "**{}**", "## {}")
"""How a neutral sentence may be written, each on its own line."""

SNEER = "Oh, what a brilliant question."
SNEER_COSTS = 3.0
"""Careful sentences that an answer with a sneer is held to lack: sarcasm puts people off, whatever else is said."""

_NEUTRAL_LINE = re.compile("|".join(re.escape(form.format(text)) for text in NEUTRAL for form in FORMS))
_REVISE = re.compile(r"\b(rewrite|revise|revision|critique finds|improve)\b", re.IGNORECASE)
_SPOIL = re.compile(r"\bwrite a\b.*\bversion\b.*\b(?:answer|reply|response)\b", re.IGNORECASE)
_PERTURBATION = re.compile(r"\b(polished|terse|sarcastic)\b", re.IGNORECASE)
_CRITIQUE = re.compile(r"\b(critique|criticism|identify|point out)\b", re.IGNORECASE)


def unit(bits: str) -> float:
    """A number in [0, 1) from hexadecimal digits."""
    return int(bits[:13], 16) / 16**13


# --- how good a text is


def quality(text: str) -> float:
    """What the fake judge sees in an answer: careful minus careless sentences, less for a sneer, and a little of the
    text's own, so that hardly two are equally good."""
    careful = sum(good in text for good, _ in SENTENCES)
    careless = sum(bad in text for _, bad in SENTENCES)
    return careful - careless - SNEER_COSTS * (SNEER in text) + 0.5 * unit(digest(text)) - 0.25


def truth(a: str, b: str) -> float:
    """How much better b is than a, as `quality` counts, without noise and bias: above 0, b is the true winner."""
    return quality(b) - quality(a)


class Style(NamedTuple):
    """Counts of one text, by the definitions of the audit (warehouse/judging.sql), which a test holds these against."""

    tokens: int
    headers: int = 0
    lists: int = 0
    bold: int = 0


_TOKEN = re.compile(r"\w+|[^\w\t\n\f\r ]")
_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_MARKDOWN = (
    re.compile(r"^#{1,6} ", re.MULTILINE),
    re.compile(r"^[ \t]*(?:[-*+]|[0-9]+\.) ", re.MULTILINE),
    re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
)


@lru_cache(maxsize=1024)
def style(text: str) -> Style:
    unfenced = _FENCED.sub("", text)
    return Style(len(_TOKEN.findall(text)), *(len(mark.findall(unfenced)) for mark in _MARKDOWN))


def differences(first: Style, second: Style) -> tuple[float, float, float, float]:
    """Differences of length, headers, lists and bold, first − second, as the audit takes them: length over the sum of
    both, the others per token, over the sum of both and one."""
    tokens = first.tokens + second.tokens
    length = (first.tokens - second.tokens) / tokens if tokens else 0.0
    ones, twos = ([count / max(counts.tokens, 1) for count in counts[1:]] for counts in (first, second))
    headers, lists, bold = ((one - two) / (one + two + 1) for one, two in zip(ones, twos, strict=True))
    return length, headers, lists, bold


# --- what it writes


def write(messages: Messages, bits: str, verbosity: int) -> str:
    """An answer, critique, revision or spoiled version; which of them is wanted is guessed from the words of the last
    user turn."""
    asked = next((turn.content for turn in reversed(messages) if turn.role == "user"), "")
    said = [turn.content for turn in messages if turn.role == "assistant"]
    perturbation = _PERTURBATION.search(asked) if said and _SPOIL.search(asked) else None
    if perturbation:
        return _spoil(said[-1], perturbation[1].lower())
    if len(said) >= 2 and _REVISE.search(asked):
        return _revise(said[-2], bits, verbosity)
    if said and _CRITIQUE.search(asked):
        return _critique(said[-1])
    topic = " ".join(asked.split()[:8])
    chosen = (pair[int(bits[place], 16) % 2] for place, pair in enumerate(SENTENCES))
    return " ".join([f"About “{topic}”:", *chosen]) + _padding(bits, verbosity)


def think(bits: str, sentences: int) -> str:
    """So many sentences that weigh the two ways of saying something; they have nothing to do with what is then said."""
    own = digest(["thought", bits])
    places = (int(own[place % 60], 16) % len(SENTENCES) for place in range(sentences))
    return " ".join(f"I might say “{SENTENCES[place][0]}” or “{SENTENCES[place][1]}”" for place in places)


def _critique(answer: str) -> str:
    faults = [bad for _, bad in SENTENCES if bad in answer]
    if not faults:
        return "I find no fault with this answer."
    return " ".join(f"“{fault}” is careless advice." for fault in faults)


def _revise(answer: str, bits: str, verbosity: int) -> str:
    """Three of four careless sentences are mended, on average; an answer without any stays as it is. A verbose reviser
    writes again what says nothing, so that a revision may be longer or shorter than what it revises."""
    revised = answer
    for place, (good, bad) in enumerate(SENTENCES):
        if int(bits[place], 16) % 4:
            revised = revised.replace(bad, good)
    return _plain(revised) + _padding(bits, verbosity) if verbosity and revised != answer else revised


def _padding(bits: str, verbosity: int) -> str:
    """Up to `verbosity` neutral lines, from bits of their own."""
    if not verbosity:
        return ""
    own = digest(["padding", bits])
    many, start = int(own[:4], 16) % (verbosity + 1), int(own[4:8], 16)
    lines = (
        FORMS[int(own[8 + place], 16) % len(FORMS)].format(NEUTRAL[(start + place) % len(NEUTRAL)])
        for place in range(many)
    )
    return "".join(f"\n\n{line}" if place == 0 else f"\n{line}" for place, line in enumerate(lines))


def _plain(answer: str) -> str:
    """`answer` without its neutral lines."""
    return "\n".join(line for line in answer.splitlines() if not _NEUTRAL_LINE.fullmatch(line)).rstrip()


def _spoil(answer: str, perturbation: str) -> str:
    """`answer` with a perturbation put in. polished: all careless, in good form. terse: one careful
    sentence alone. sarcastic: as good as it was, after a sneer."""
    opening = answer.split(":", 1)[0] if answer.startswith("About “") else "In short"
    if perturbation == "polished":
        lines = [f"- **{place}.** {bad}" for place, (_, bad) in enumerate(SENTENCES, start=1)]
        return "\n".join([f"## {opening}", "", *lines])
    if perturbation == "terse":
        return next((good for good, _ in SENTENCES if good in answer), SENTENCES[0][0])
    return f"{SNEER} {answer}"
