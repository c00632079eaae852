"""What is wrong with the items of a prompt's rubric by their words, before anything is read by them. Pure.

    for item, fault in zip(items, lint(items, prompt.messages, reference, answers), strict=True):
        drop_reason, detail = fault or (None, None)

    steers           tells the judge what to reply
    unanswerable     yes or no does not answer it, or nothing that the judge sees does
    leaks-reference  speaks of the reference, repeats its words, or names what no answer could know
    length           asks for a length or a format that the prompt does not ask for
    subjective       praise without a measure
    compound         demands more than one thing
    duplicate        demands what an item before it demands
    mirror           demands by its negation what an item before it demands
    contradicts      demands what another forbids; neither is kept (of two sources, that of the first is)

The faults are those that make judges err on rubrics that models write (RIFT, arXiv 2604.01375; RubricBench,
2603.01562; items met in part, 2605.12474). An item has the first that is found, and falls for it whole: nothing is
mended. What words do not show, such as an item that every answer meets, is seen in the readings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from constitution.judge.rubrics.alike import Demand, demand, relation
from constitution.judge.rubrics.phrases import LABELLED, YES_OR_NO, bare, pattern, quoted, required, undotted
from constitution.judge.rubrics.written import Written
from constitution.measures.copies import recites
from constitution.records import LintReason, Messages
from constitution.templates.disarm import looks

Fault = tuple[LintReason, str]
"""The reason, and what it rests on: words of the item, or the other item."""

HOLDS_FOR_GIVEN: frozenset[LintReason] = frozenset({"steers", "unanswerable", "duplicate", "contradicts"})
"""Reasons for which an item falls that came with the prompt. People join demands on purpose, and repeat them: of
HealthBench's items (arXiv 2505.08775) most name several things."""

QUOTED_WORDS = 4
"""Words in quotation marks that repeat the reference: fewer are a name or a formula."""
HEADING = 4
"""Words of a text without a verb and without an end, at most: a longer one is read as what the answer has."""
SHOWN = 80
"""Characters of a text that a detail repeats."""


def lint(
    items: Sequence[Written],
    prompt: Messages,
    reference: str | None,
    answers: Sequence[str] = (),
    given: bool = False,
) -> list[Fault | None]:
    """The fault of each item, in their order; None: it has none.

    answers: the prompt's own, which the reference was made from or is to be held against; without them, what only the
    reference names is not looked for. given: the rubric came with the prompt, and `HOLDS_FOR_GIVEN` says what counts.
    """
    known = Known(" ".join(turn.content for turn in prompt), reference, answers)
    rules = [(reason, rule) for reason, rule in _RULES.items() if not given or reason in HOLDS_FOR_GIVEN]
    found = [_own(item, known, rules) for item in items]
    kept: list[tuple[int, Demand]] = []
    for place, item in enumerate(items):
        if found[place] is not None:
            continue
        new = demand(item)
        kinds = [(before, relation(other, new)) for before, other in kept]
        first = next(((n, kind) for n, kind in kinds if kind and (not given or kind in HOLDS_FOR_GIVEN)), None)
        if first is None:
            kept.append((place, new))
            continue
        before, kind = first
        found[place] = kind, _short(items[before].question)
        if kind == "contradicts":
            found[before] = found[before] or (kind, _short(item.question))
    return found


class Known:
    """What the items are held against."""

    def __init__(self, prompt: str, reference: str | None, answers: Sequence[str]) -> None:
        self.prompt = " ".join(prompt.casefold().split())
        self.reference = reference or ""
        # A reference may be one of the answers, such as the last revision.
        self.answers = tuple(answer for answer in answers if answer.strip() != self.reference.strip())
        self.told = (prompt, *self.answers)
        """Texts whose words give nothing of the reference away."""
        heard = " ".join(self.told).casefold()
        self.only_there = frozenset(name for name in _names(self.reference) if name.casefold() not in heard)
        """Names and numbers of the reference that are in no other text."""


def _own(item: Written, known: Known, rules: Sequence[tuple[LintReason, Rule]]) -> Fault | None:
    for reason, rule in rules:
        if (words := rule(item, known)) is not None:
            return reason, _short(words)
    return None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1].rstrip() + "…"


Rule = Callable[[Written, Known], "str | None"]
"""The words of an item that show the fault, or what is amiss; None: it has not this one."""


def _words(name: str, text: str) -> str | None:
    """What of `text` a pattern of lint.toml finds first."""
    return found.group().strip() if (found := pattern(name).search(text)) else None


def _steers(item: Written, known: Known) -> str | None:
    # Of all of the item, as it looks: what steers may be in quotes, in brackets, in letters that only look like others.
    return _words("steers", looks(YES_OR_NO.sub("", item.question)).casefold())


def _unanswerable(item: Written, known: Known) -> str | None:
    text = bare(item.question)
    demanded = required(text)
    found = next((words for name in ("open", "graded", "doubled") if (words := _words(name, demanded))), None)
    for name in ("others", "other_items", "unseen"):
        if found is None and (words := _words(name, demanded)) and words not in known.prompt:
            found = words
    if found is None and (labelled := LABELLED.search(item.question)):
        found = labelled.group()
    if found is None and len(text.split()) <= HEADING and text.isascii() and text[-1:].isalnum():
        return None if _words("claim", text) else "neither a question nor a statement"
    return found


def _leaks(item: Written, known: Known) -> str | None:
    found = _words("reference", bare(item.question))
    if found is not None and found not in known.prompt:
        return found
    if not known.reference:
        return None
    if recites(item.question, [known.reference], known.told):
        return "repeats the reference's words"
    for words in quoted(item.question):
        said = " ".join(words.split()).strip(" .,;:!?")
        if len(said.split()) >= QUOTED_WORDS and said in known.reference and not any(said in t for t in known.told):
            return said
    # The one right answer may be what no answer has yet: an item that is marked as essential may name it.
    if known.answers and item.kind != "essential":
        names = _names(item.question)
        return next((name for name in sorted(known.only_there) if name in names), None)
    return None


def _length(item: Written, known: Known) -> str | None:
    text = _SAYING.sub("", bare(item.question))
    for wish in ("length", "format"):
        if (found := _words(wish, text)) is not None and not pattern(f"{wish}_in_prompt").search(known.prompt):
            return found
    return None


def _subjective(item: Written, known: Known) -> str | None:
    found = _words("subjective", bare(item.question))
    # Of a funny poem it may be asked whether it is funny.
    asked = set(re.findall(r"\w+", known.prompt))
    return None if found is None or asked & set(pattern("praised").findall(found)) else found


def _compound(item: Written, known: Known) -> str | None:
    if len(item.question.strip().splitlines()) > 1:
        return "several lines"
    return _words("compound", pattern("one").sub(" both ", required(bare(item.question))))


_RULES: dict[LintReason, Rule] = {
    "steers": _steers,
    "unanswerable": _unanswerable,
    "leaks-reference": _leaks,
    "length": _length,
    "subjective": _subjective,
    "compound": _compound,
}
"""The gravest first."""

_SAYING = re.compile(r" (?:that|whether|how|why|what)\b.*")
"""What an answer is to say: a length in it is none of the answer's."""
_NAME = re.compile(r"(?<![.!?:] )(?<!^)\b[A-Z][\w'’-]{2,}|\d+(?:[.,]\d+)*", re.MULTILINE)


def _names(text: str) -> set[str]:
    """Capitalised words within sentences, and numbers."""
    return set(_NAME.findall(undotted(text)))
