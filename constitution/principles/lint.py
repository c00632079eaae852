"""What can be wrong with a constitution's words. Pure: each function takes records and yields sentences.

Only what is plainly wrong is called out: what could not be filled in, what names an answer by where it is shown, what
a prompt format left behind, what says the same twice.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from constitution.measures import refuses
from constitution.principles.languages import Language
from constitution.principles.texts import TODO
from constitution.records import Criterion, Exemplar, Principle

PLACEHOLDERS = ("prompt", "response")
"""`{{prompt}}`: the last human turn; `{{response}}`: the answer in question. In critique and revision requests only."""

MIN_CRITIQUE_WORDS = 4

_BRACES = re.compile(r"\{\{(.*?)\}\}|(?<!\{)\{\s*(\w+)\s*\}(?!\})|\{\{|(?<!\{)\{\s*\w+\s*\}\}", re.DOTALL)
"""A `}}` that closes nothing is left alone: JSON ends so."""


def placeholder_faults(text: str) -> Iterator[str]:
    """Faults of a text in which placeholders are allowed."""
    known = " and ".join(f"{{{{{name}}}}}" for name in PLACEHOLDERS)
    for match in _BRACES.finditer(text):
        double, single = match.groups()
        word = (double or single or "").strip().lower()
        near = difflib.get_close_matches(word, PLACEHOLDERS, n=1, cutoff=0.75)
        meant = f"did you mean {{{{{near[0]}}}}}?" if near else ""
        if double in PLACEHOLDERS or (single is not None and not near):
            continue
        if single is not None:
            yield f"{match.group()} is not a placeholder; {meant}"
        elif double is None:
            yield f"{match.group()} is left open; placeholders are {known}"
        else:
            yield f"the placeholder {match.group()} does not exist; {meant or f'there are {known}'}"


def order_words(question: str, language: Language) -> list[str]:
    """The phrases of a question that name an answer by where it is shown: "the first answer", "Answer A", "(B)"."""
    return [match.group().strip() for match in language.pattern("order").finditer(" ".join(question.split()))]


_LEFTOVER = re.compile(
    r"\b(?:Critique|Revision)\s?Request:|<\|[^|<>\s]+\|>|\[/?INST\]|\n\n(?:Human|Assistant):"
    r"|^[ \t]*(?:Critique|Revision|Options|Human|Assistant):|\b(?:Critique|Revision|Options):\s*\Z",
    re.MULTILINE,
)


def text_faults(text: str, *, plain: bool = True) -> Iterator[str]:
    """Faults of a text in which nothing is filled in. plain: False for a text that may have placeholders."""
    if text.startswith(TODO):
        yield f"is still to be written ({text.splitlines()[0][:60]!r})"
    for name in PLACEHOLDERS if plain else ():
        if f"{{{{{name}}}}}" in text:
            yield f"{{{{{name}}}}} is filled in only in critique_request and revision_request"
    if match := _LEFTOVER.search(text):
        yield f"holds leftover scaffolding ({match.group().strip()!r}); keep only the text itself"


def request_faults(critique_request: str, revision_request: str) -> Iterator[str]:
    for name, text in (("critique_request", critique_request), ("revision_request", revision_request)):
        yield from (f"{name}: {fault}" for fault in (*placeholder_faults(text), *text_faults(text, plain=False)))
    if critique_request and same(critique_request, revision_request):
        yield "revision_request: is the critique_request over again; ask for the better answer"


def exemplar_faults(exemplar: Exemplar, principle: Principle | None = None) -> Iterator[str]:
    """Why `exemplar` teaches the wrong thing. principle: whose requests it borrows, if it has none."""
    requests = [exemplar.critique_request, exemplar.revision_request]
    if principle is not None:
        requests += [principle.critique_request, principle.revision_request]
    critique = exemplar.critique
    others = {
        "the response": exemplar.response,
        "the revision": exemplar.revision,
        "the prompt": exemplar.messages[-1].content,
    }
    for name, other in others.items():
        if same(critique, other):
            yield f"critique: is {name} over again; say what the response does well or badly"
    for name, text in (("critique", critique), ("revision", exemplar.revision)):
        if any(same(text, request) for request in requests if request):
            yield f"{name}: repeats the request instead of answering it"
        yield from (f"{name}: {fault}" for fault in text_faults(text))
    # Scripts that put no spaces between words have few "words"; a dozen of their characters say as much.
    if len(critique.split()) < MIN_CRITIQUE_WORDS and (critique.isascii() or len(critique) < 12):
        yield f"critique: {critique!r} is too short for a critique; name what is wrong, or say why the response is fine"
    if refuses(critique):
        yield f"critique: refuses to critique ({critique[:40]!r}); write what a critic would say"
    yield from request_faults(exemplar.critique_request, exemplar.revision_request)


def principle_faults(principle: Principle, language: Language | None) -> Iterator[str]:
    """All that is wrong with the words of one principle, its exemplars, examples and checklist. language: None where
    its words are not known; then what hangs on words is not looked for."""
    yield from request_faults(principle.critique_request, principle.revision_request)
    question = principle.comparison_question
    yield from (f"comparison_question: {fault}" for fault in _comparison_faults(question, language))
    yield from (f"comparison_question: {fault}" for fault in text_faults(question))
    for number, exemplar in enumerate(principle.exemplars, start=1):
        yield from (f"exemplars #{number}, {fault}" for fault in exemplar_faults(exemplar, principle))
    for number, example in enumerate(principle.examples, start=1):
        if same(example.better, example.worse):
            yield f"examples #{number}: better and worse are the same text"
    yield from criteria_faults(principle.criteria, language)
    if principle.quote.startswith(TODO):
        yield "quote: is still to be written"


def _comparison_faults(question: str, language: Language | None) -> Iterator[str]:
    if language is None:
        return
    for phrase in order_words(question, language):
        yield (
            f"presupposes an order ({phrase!r}); ask what the better answer does, for every pair is shown both ways "
            "round"
        )
    yield from _twisted(question, language)


def _twisted(question: str, language: Language) -> Iterator[str]:
    """Two negations, and two questions, in one."""
    question = " ".join(question.split())
    if found := language.pattern("doubled").search(question):
        yield f"takes one negation back by another ({found.group()!r}), which judges misread; ask it without both"
    if found := language.pattern("joined").search(question):
        yield f"asks more than one question ({found.group()[-40:]!r}); make each its own"


def criteria_faults(criteria: Sequence[Criterion], language: Language | None) -> Iterator[str]:
    """All that is wrong with the words of one principle's checklist: each question is asked about one answer alone, and
    read as P(yes) against P(no)."""
    for number, criterion in enumerate(criteria, start=1):
        question = " ".join(criterion.question.split())
        for fault in _question_faults(question, language):
            yield f"criteria #{number}: {fault}"
        twin = next((n for n, other in enumerate(criteria[: number - 1], 1) if same(other.question, question)), None)
        if twin is not None:
            yield f"criteria #{number}: is criteria #{twin} over again, and would count twice; remove one"


def _question_faults(question: str, language: Language | None) -> Iterator[str]:
    shown = repr(question if len(question) <= 60 else question[:59].rstrip() + "…")
    if not question.endswith(_MARKS):
        yield f"{shown} is no question; ask something that yes or no answers, and end with a question mark"
    elif language and language.pattern("open").match(question):
        yield f"{shown} cannot be answered with yes or no; begin with Does, Is, Has or the like"
    if sum(map(question.rstrip("".join(_MARKS)).count, _MARKS)):
        yield f"{shown} asks more than one question; make each its own criterion"
    yield from text_faults(question)
    if language is None:
        return
    if negated := language.pattern("negated").match(question):
        yield (
            f"is asked in the negative ({negated.group()!r}), which judges misread; ask whether the answer does it, "
            'and set good = "no"'
        )
    for phrase in order_words(question, language):
        yield f"presupposes a second answer ({phrase!r}); a criterion is asked about one answer alone"
    yield from _twisted(question, language)


_MARKS = ("?", "？", "؟")
"""Question marks: of most scripts, of Chinese, of Arabic."""


def same(one: str, other: str) -> bool:
    """Equal but for case, white space and outer punctuation."""
    return _plain(one) == _plain(other)


def same_texts(one: Principle, other: Principle) -> bool:
    """Whether a reader would take the two principles for one."""
    names = ("critique_request", "revision_request", "comparison_question")
    return all(same(getattr(one, name), getattr(other, name)) for name in names)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!?\"'")
