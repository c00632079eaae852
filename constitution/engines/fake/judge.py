"""The fake engine as a judge: what it sees in the answers it is shown, with the faults that its section plants.

A leaning, in logits, is made of the answers' quality, their style, their place and noise; the labels' probabilities,
or what a rationale says, follow from it. Which way of judging is wanted is told by the labels, and by the marks in the
last user turn that has any.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from constitution.engines.fake.world import Style, differences, quality, style, unit
from constitution.errors import RequestRefused
from constitution.identity import digest
from constitution.recipe import FakeModel
from constitution.records import Messages

STEEPNESS = 1.5
"""Logits for each sentence that one answer has in its favour."""
CONVICTION = 4.0
"""Logits for the answer that the judge's own reasoning has named: having reasoned, models are sure of themselves."""
PLAIN = Style(tokens=60)
"""What an answer that is judged alone is held against: its style counts as the difference from this."""
PITFALL = re.compile(
    r"\b(although|as if|boast|careless|claim|condescend|contempt|damage|danger|deceiv|declin|defraud|demean|deserve"
    r"|disordered|elsewhere|endanger|evasive|explicit|fail|false|flatter|foolish|generalities|guess|harm|hedge"
    r"|hurt|ignor|injur|insult|invent|justification|lectur|made.up|merely|mislead|miss|mistaken|mock|more than"
    r"|omit|overlook|padding|preach|private|refuse|rude|secret|shame|slur|steal|stereotype|suicide|suspect|threat"
    r"|unexplained|unsafe|vague|warn|wrong)",
    re.IGNORECASE,
)
"""A yes/no question with one of these words, and none of `DENIAL`, is taken to ask about something bad. A guess: it is
right for nine of ten criteria of the constitutions that ship with the project."""
DENIAL = re.compile(r"\b(avoid|free of|instead|plainly|say so|supported|without)", re.IGNORECASE)

_NONCE_MARK = r"\[[^\[\]\n]*(?<![A-Za-z]){} ?[0-9a-f]{{6}}\]"
"""A mark of a template in another language: words, a label, six hex digits."""
_TRANSLATED = re.compile("(?m)^" + _NONCE_MARK.format("A"))
_END = re.compile(r"\n\s*\[/?\s*end\b[^\n]*|\n\s*</", re.IGNORECASE)
_ANY_MARK = re.compile("\n" + _NONCE_MARK.format(""))
_MARKED = re.compile(r"(?im)^\[answer\b(?! +[A-Z]\b)[^\]\n]*\]\n")
_OPTIONS = re.compile(r"\n(?:Options|Grades|\nReason first):")
_NEGATED = re.compile(r'(?m)^Is the right reply to that "no"\?$')
"""Asks whether the reply to the question before it is no (rubric-negated.txt)."""
_WRITTEN = re.compile("[“„«「]Verdict: A[”“»」]")
"""Asks for a verdict in writing."""
_VERDICT = re.compile(r"\bso answer ([A-Z]) is better\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a judge's prompt shows: two answers, or one, and what is asked of them."""

    answers: tuple[str, ...]
    question: str


def choose(messages: Messages, labels: Sequence[str], bits: str, section: FakeModel) -> dict[str, float]:
    """Log-probabilities of `labels`; together they have 0.90 to 0.99 of the mass, as with a real model.

    Two labels for two answers that are found in a user turn: which is better. Digits, or yes and no, for one answer:
    its grade, or whether something holds of it. Anything else gets numbers drawn from `bits`.
    """
    if not all(labels):
        raise RequestRefused("fake: an empty label has no probability")
    logits = _logits(messages, labels, bits, section)
    top = max(logits)
    total = top + math.log(sum(math.exp(logit - top) for logit in logits))
    mass = math.log(0.90 + 0.09 * unit(bits[24:]))
    return {label: logit - total + mass for label, logit in zip(labels, logits, strict=True)}


def reason(messages: Messages, bits: str, section: FakeModel, temperature: float) -> str | None:
    """What the judge thinks aloud of two marked answers (A) and (B) in the last user turn, and which of them it names
    in the end; None where there are none. A verdict is drawn at the temperature, with the probability that a label
    would have at 1; a rationale names what it leans to."""
    asked = next((turn.content for turn in reversed(messages) if turn.role == "user"), "")
    shown = _compared(asked, "A", "B") if "[answer A" in asked or _TRANSLATED.search(asked) else None
    if shown is None:
        return None
    lean = _lean(shown, bits, section)
    seen = (f"Answer {label} has {style(text).tokens} tokens." for label, text in zip("AB", shown.answers, strict=True))
    written = bool(_WRITTEN.search(asked))
    bar = math.log(1 / max(unit(digest(["drawn", bits])), 1e-12) - 1) if written and temperature else 0.0
    better = "A" if lean + temperature * bar > 0 else "B"
    ending = f"Verdict: {better}" if written else f"The answer is: ({better})"
    return f"{' '.join(seen)} I look at what they advise. So answer {better} is better.\n\n{ending}"


def candidates(text: str, first: str, second: str) -> tuple[str, str] | None:
    """The two answers in a judge's prompt, marked like `[answer A …]`, `Response A:` or `(A) …`; None: not found."""
    shown = _compared(text, first, second)
    return (shown.answers[0], shown.answers[1]) if shown else None


def _logits(messages: Messages, labels: Sequence[str], bits: str, section: FakeModel) -> list[float]:
    kind = _kind(tuple(labels))
    for turn in reversed(messages):
        if turn.role == "assistant":
            verdict = _VERDICT.findall(turn.content) if kind == "compare" else []
            if verdict and verdict[-1] in labels:
                return [CONVICTION if label == verdict[-1] else 0.0 for label in labels]
            continue
        shown = _compared(turn.content, labels[0], labels[1]) if kind == "compare" else _alone(turn.content)
        if shown is None or not kind:
            continue
        lean = _lean(shown, bits, section)
        if kind == "compare":
            return [lean, 0.0]
        return _grades(_ranks(labels), lean) if kind == "grade" else _checked(shown, labels, lean)
    return [4 * unit(digest([label, bits])) - 2 for label in labels]


@lru_cache(maxsize=64)
def _kind(labels: tuple[str, ...]) -> str:
    if len(labels) > 1 and (all(label.strip().isdecimal() for label in labels) or len(labels) > 9):
        return "grade"
    if len(labels) != 2:
        return ""
    return "check" if {label.strip().casefold()[:1] for label in labels} == {"y", "n"} else "compare"


def _ranks(labels: Sequence[str]) -> list[int]:
    """Digits are grades themselves; others are named from the worst to the best."""
    named = [label.strip() for label in labels]
    return [int(label) for label in named] if all(map(str.isdecimal, named)) else list(range(1, len(named) + 1))


def _grades(grades: Sequence[int], lean: float) -> list[float]:
    """A hill over the grades: its top is in the middle for a leaning of 0 and one grade higher for each sentence in the
    answer's favour, at nine grades."""
    low, high = min(grades), max(grades)
    top = (low + high) / 2 + lean / STEEPNESS * (high - low) / 8
    return [-((grade - top) ** 2) / 2 for grade in grades]


def _checked(shown: Shown, labels: Sequence[str], lean: float) -> list[float]:
    """Yes to what speaks for the answer, no to what speaks against it, the more so the more it leans that way; the
    opposite where it is asked whether the reply is no."""
    bad = PITFALL.search(shown.question) and not DENIAL.search(shown.question)
    yes = -lean if bool(bad) != bool(_NEGATED.search(shown.question)) else lean
    return [yes if label.strip().casefold().startswith("y") else 0.0 for label in labels]


def scored(answer: str, bits: str, section: FakeModel) -> float:
    """What a reward model says of an answer: on a scale without a zero."""
    return _lean(Shown((answer,), ""), bits, section)


def read_out(answer: str, bits: str, section: FakeModel) -> float:
    """Log-probability of a reserved token after the answer, as if the model had been trained for it: about -23, and 10
    higher after an answer without fault (LaSeR's c_ref of Qwen2.5, and 1 / beta)."""
    return -23 + 10 / (1 + math.exp(-_lean(Shown((answer,), ""), bits, section)))


def _lean(shown: Shown, bits: str, section: FakeModel) -> float:
    """Logits in favour of the first of two answers, or of one alone, which has no place to be favoured for."""
    first, *others = shown.answers
    lean = quality(first) - sum(quality(other) for other in others)
    if section.accuracy != 1.0 and unit(digest(["sight", sorted(shown.answers), shown.question])) >= _accuracy(
        section.accuracy, shown.question
    ):
        lean = -lean
    lean *= STEEPNESS
    if section.length_bias or section.style_bias:
        length, *markdown = differences(style(first), style(others[0]) if others else PLAIN)
        lean += section.length_bias * length + section.style_bias * sum(markdown)
    if others:
        lean += section.position_bias
    return lean + section.noise * (2 * unit(bits[8:]) - 1)


def _accuracy(accuracy: float | dict[str, float], question: str) -> float:
    if not isinstance(accuracy, dict):
        return accuracy
    asked = question.casefold()
    return next((share for text, share in accuracy.items() if text.casefold() in asked), accuracy.get("*", 1.0))


def _compared(text: str, first: str, second: str) -> Shown | None:
    for pattern in _marks(first, second):
        opening = pattern[0].search(text)
        middle = pattern[1].search(text, opening.end()) if opening else None
        if opening and middle:
            end = pattern[2]
            one = end.split(text[opening.end() : middle.start()], maxsplit=1)[0]
            two = end.split(text[middle.end() :], maxsplit=1)
            # Without an end mark the second answer is one paragraph: what follows it is the question.
            if len(two) == 1:
                two = [*two[0].strip().split("\n\n", 1), ""]
            return Shown((one.strip(), two[0].strip()), _asked(two[1]))
    return None


def _asked(behind: str) -> str:
    """The question, out of what follows the answers."""
    return _OPTIONS.split(behind, maxsplit=1)[0].strip()


def _alone(text: str) -> Shown | None:
    opening = _MARKED.search(text)
    if opening is None:
        return None
    answer, *rest = _END.split(text[opening.end() :], maxsplit=1)
    return Shown((answer.strip(),), _asked(rest[0]) if rest else "")


@lru_cache(maxsize=64)
def _marks(first: str, second: str) -> list[tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]]:
    """Ways to mark the answers: what opens the first, the second, and what ends each."""
    named = r"(?im)^\W*(?:answer|response|option) +\(?{}\b[^\n]*\n"
    short = r"(?m)^\(?{}[):]"
    translated = "(?m)^" + _NONCE_MARK + r"\n"
    return [
        (re.compile(shape.format(re.escape(first))), re.compile(shape.format(re.escape(second))), end)
        for shape, end in ((named, _END), (translated, _ANY_MARK), (short, _END))
    ]
