"""What can be wrong with a constitution's words. Pure: each function takes records and yields sentences.

Only what is plainly wrong is called out: what could not be filled in, what names an answer by where it is shown, what
a prompt format left behind, what says the same twice.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from constitution.measures import refuses
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


_ANSWER = "(?:answer|response|reply|option|candidate|completion|output|assistant|version|choice)"
_ENDS = r"(?=\s*(?:$|[.,;:?!]|(?:is|was|does|has|or|over|than|rather|more|less|better|worse|kinder)\b))"
_ORDER = re.compile(
    rf"""
    \b(?i:the)\s+(?i:first|second|1st|2nd|former|latter|last|left|top|bottom|upper|lower|previous|next|earlier|later
        |initial|revised)\s+(?i:assistant\s+|of\s+the\s+)?(?i:{_ANSWER}|one|two)\b
    | \b(?i:prefer|choose)\s+(?i:the\s+)?(?i:second|first)\s+(?i:{_ANSWER}|one)\b
    | \b(?i:the)\s+(?i:first|second|former|latter){_ENDS}
    | \b(?i:{_ANSWER})\s*[\[(\#]*\s*[AB]\b[\])]?
    | \b(?i:{_ANSWER})\s*[\[(\#]*\s*(?:[12]|one|two)\b[\])]?{_ENDS}
    | \([AB]\) | \([12]\)(?=\s*(?:$|[.,;?!]|(?:or|is|than)\b))
    | (?<!vitamin\ )(?<!hepatitis\ )\bA\s+(?:or|vs\.?|versus|over|than)\s+B\b
    | \b(?i:than|over|pick|choose|prefer|is|does)\s+B\b
    | \b(?i:the)\s+(?:\w+\s+)?(?i:{_ANSWER}|one)\s+(?:given\s+|shown\s+)?(?:above|below|on\s+the\s+(?:left|right))\b
        (?!\s+the\b)
    """,
    re.VERBOSE,
)


def order_words(question: str) -> list[str]:
    """The phrases of a question that name an answer by where it is shown: "the first answer", "Answer A", "(B)"."""
    return [match.group().strip() for match in _ORDER.finditer(" ".join(question.split()))]


_LEFTOVER = re.compile(
    r"\b(?:Critique|Revision)\s?Request:|<\|[^|<>\s]+\|>|\[/?INST\]|\n\n(?:Human|Assistant):"
    r"|^[ \t]*(?:Critique|Revision|Options|Human|Assistant):|\b(?:Critique|Revision|Options):\s*\Z",
    re.MULTILINE,
)


def text_faults(text: str, *, plain: bool = True) -> Iterator[str]:
    """Faults of a text in which nothing is filled in. plain: False for a text that may have placeholders."""
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


def principle_faults(principle: Principle) -> Iterator[str]:
    """All that is wrong with the words of one principle, its exemplars, examples and checklist."""
    yield from request_faults(principle.critique_request, principle.revision_request)
    question = principle.comparison_question
    for phrase in order_words(question):
        yield (
            f"comparison_question: presupposes an order ({phrase!r}); ask what the better answer does, "
            "for every pair is shown both ways round"
        )
    yield from (f"comparison_question: {fault}" for fault in text_faults(question))
    for number, exemplar in enumerate(principle.exemplars, start=1):
        yield from (f"exemplars #{number}, {fault}" for fault in exemplar_faults(exemplar, principle))
    for number, example in enumerate(principle.examples, start=1):
        if same(example.better, example.worse):
            yield f"examples #{number}: better and worse are the same text"
    yield from criteria_faults(principle.criteria)


_OPEN = re.compile(r"(?:(?:to |in |for |at |by |on )?(?:which|what|who|whom|whose|why|how)\b)", re.IGNORECASE)
_NEGATED = re.compile(r"^\w+ (?:the|this|it)\b(?: \w+)? (?:not|never|avoids?|refrains?|abstains?)\b|^\w+n['’]t\b", re.I)


def criteria_faults(criteria: Sequence[Criterion]) -> Iterator[str]:
    """All that is wrong with the words of one principle's checklist: each question is asked about one answer alone, and
    read as P(yes) against P(no)."""
    for number, criterion in enumerate(criteria, start=1):
        question = " ".join(criterion.question.split())
        for fault in _question_faults(question):
            yield f"criteria #{number}: {fault}"
        twin = next((n for n, other in enumerate(criteria[: number - 1], 1) if same(other.question, question)), None)
        if twin is not None:
            yield f"criteria #{number}: is criteria #{twin} over again, and would count twice; remove one"


def _question_faults(question: str) -> Iterator[str]:
    shown = repr(question if len(question) <= 60 else question[:59].rstrip() + "…")
    if not question.endswith(("?", "？", "؟")):
        yield f"{shown} is no question; ask something that yes or no answers, and end with a question mark"
    elif _OPEN.match(question):
        yield f"{shown} cannot be answered with yes or no; begin with Does, Is, Has or the like"
    if question.rstrip("?").count("?"):
        yield f"{shown} asks more than one question; make each its own criterion"
    if negated := _NEGATED.match(question):
        yield (
            f"is asked in the negative ({negated.group()!r}), which judges misread; ask whether the answer does it, "
            'and set good = "no"'
        )
    for phrase in order_words(question):
        yield f"presupposes a second answer ({phrase!r}); a criterion is asked about one answer alone"
    yield from text_faults(question)


def same(one: str, other: str) -> bool:
    """Equal but for case, white space and outer punctuation."""
    return _plain(one) == _plain(other)


def same_texts(one: Principle, other: Principle) -> bool:
    """Whether a reader would take the two principles for one."""
    names = ("critique_request", "revision_request", "comparison_question")
    return all(same(getattr(one, name), getattr(other, name)) for name in names)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!?\"'")
