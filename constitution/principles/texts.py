"""What can be wrong with a principle's words. Pure: each function takes texts and gives back sentences.

The checks are written to keep quiet on sound texts: published constitutions pass, and a phrase is only called out
when there is a clear rewording.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from constitution.measures import refuses
from constitution.records import Exemplar, Principle

PLACEHOLDERS = ("prompt", "response")
"""`{{prompt}}`: the last human turn; `{{response}}`: the answer in question. In critique and revision requests only."""

MIN_CRITIQUE_WORDS = 4
NEAR_IDENTICAL = 0.92
"""Share of equal words from which two principles count as one (difflib ratio); published lists stay below 0.75."""

_BRACES = re.compile(r"\{\{(.*?)\}\}|(?<!\{)\{\s*(\w+)\s*\}(?!\})|\{\{|(?<!\{)\{\s*\w+\s*\}\}", re.DOTALL)
"""A `}}` that closes nothing is left alone: JSON ends so."""


def placeholder_faults(text: str) -> Iterator[str]:
    """Faults of a text in which placeholders are allowed."""
    for match in _BRACES.finditer(text):
        double, single = match.group(1), match.group(2)
        if double in PLACEHOLDERS:
            continue
        known = " and ".join(f"{{{{{name}}}}}" for name in PLACEHOLDERS)
        if single is not None:
            near = _nearest(single)
            if near:
                yield f"{match.group()} is not a placeholder; did you mean {{{{{near}}}}}?"
        elif double is None:
            yield f"{match.group()} is left open; placeholders are {known}"
        else:
            near = _nearest(double.strip())
            remedy = f"did you mean {{{{{near}}}}}?" if near else f"there are {known}"
            yield f"the placeholder {match.group()} does not exist; {remedy}"


def _nearest(word: str) -> str | None:
    near = difflib.get_close_matches(word.lower(), PLACEHOLDERS, n=1, cutoff=0.75)
    return near[0] if near else None


def misplaced_placeholders(text: str) -> Iterator[str]:
    """Faults of a text in which nothing is filled in."""
    for name in PLACEHOLDERS:
        if f"{{{{{name}}}}}" in text:
            yield f"{{{{{name}}}}} is filled in only in critique_request and revision_request"


_NOUN = r"(?:answer|response|reply|option|candidate|completion|output|assistant|version|choice|one)s?"
_AFTER = (
    r"(?=\s*(?:$|[.,;:?!)]|\b(?:is|was|does|has|or|over|than|rather|more|better|instead"
    r"|kinder|safer|clearer|wiser|truer|shorter|longer)\b))"
)
_NOT_A_KIND = r"(?<!vitamin )(?<!hepatitis )(?<!type )(?<!group )(?<!grade )(?<!plan )"
_OWNERS = ("their", "your", "his", "her", "its", "my", "our", "any", "another", "a", "an")
_NOBODYS = "(?<!['’]s )(?<!s['’] )" + "".join(rf"(?<!\b{word} )" for word in _OWNERS)
"""Not after "a", "their", "the user's": "a last option" is none of the two answers."""
_ONE = _NOUN.removesuffix("s?")
_ORDER = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        (
            rf"{_NOBODYS}\b(?:the\s+)?(?:first|second|1st|2nd|former|latter|last)\s+"
            rf"(?:assistant\s+|of\s+the\s+)?(?:{_ONE}|two)\b",
            re.I,
        ),
        (rf"\bthe\s+(?:first|second|former|latter){_AFTER}", re.I),
        (r"\b(?:answer|response|reply|option|candidate|completion|output|assistant|choice)\s*[\[(]?[AB]\b[\])]?", re.I),
        (
            r"\b(?:answer|response|reply|option|candidate|completion|output|assistant|choice)\s*[#(\[]*\s*[12]\b"
            r"(?!\s+(?!is\b|was\b|has\b|does\b|as\b)\w+s\b)",
            re.I,
        ),
        (rf"\b(?:response|option|candidate|completion|output|choice)\s+(?:one|two){_AFTER}", re.I),
        (r"\(\s*[AB12]\s*\)", 0),
        (rf"{_NOT_A_KIND}\bA\s+(?:or|vs\.?|versus|over|than|rather than)\s+B\b", 0),
        (r"\b(?:[Ii]s|[Dd]oes|[Cc]hoose|[Pp]refer|[Pp]ick|than|over)\s+B\b", 0),
        (rf"{_NOBODYS}\b(?:left|upper|lower|top|bottom|leftmost|rightmost|left-hand|right-hand)\s+{_ONE}\b", re.I),
        (rf"\b{_NOUN}\s+(?:given\s+|shown\s+)?on\s+the\s+(?:left|right)\b", re.I),
        (rf"{_NOBODYS}\b(?:above|below|preceding|previous|next|earlier|later)\s+{_ONE}\b", re.I),
        (
            rf"\bthe\s+(?:\w+\s+)?{_NOUN}\s+(?:given\s+|shown\s+)?(?:above|below)\b"
            r"(?!\s+(?:all|average|par|the|an?)\b)",
            re.I,
        ),
        (rf"{_NOBODYS}\b(?:initial|revised)\s+(?:answer|response|reply|completion|output|version)\b", re.I),
    )
)
_ARTICLE_A = re.compile(r"^(?:answer|response|reply|option|candidate|completion|output|assistant|choice)\s*[ab]$", re.I)


def order_words(question: str) -> list[str]:
    """The phrases of a comparison question that name an answer by where it stands: "the first", "Answer A", "(B)"."""
    found: list[tuple[int, int, str]] = []
    question = _without_enumeration(" ".join(question.split()))
    for pattern in _ORDER:
        for match in pattern.finditer(question):
            phrase = " ".join(match.group().split())
            if _ARTICLE_A.match(phrase) and not phrase[-1].isupper():
                continue  # "the answer a friend would give"
            if not any(start < match.end() and match.start() < end for start, end, _ in found):
                found.append((match.start(), match.end(), phrase))
    return [phrase for _, _, phrase in sorted(found)]


_POINTS = re.compile(r"\([AB12]\)(?= (?!(?:or|is|was|does|has|over|than|rather|if|when|unless)\b)[a-z])")


def _without_enumeration(question: str) -> str:
    """`question` without the marks of "(1) more accurate and (2) easier to follow"."""
    points = _POINTS.findall(question)
    return _POINTS.sub("", question) if len(points) > 1 else question


_SCAFFOLDING = re.compile(r"\b(?:Critique|Revision)\s?Request:|<\|[^|<>\s]+\|>|\[/?INST\]|\n\n(?:Human|Assistant):")
_LABELS = re.compile(
    r"^[ \t]*(?:Critique|Revision|Options|Human|Assistant):|\b(?:Critique|Revision|Options):\s*\Z", re.M
)


def scaffolding(text: str, *, ours: bool = True) -> str | None:
    """The first leftover of a prompt format in `text`. `ours`: a text that we ask or show as a critique or revision,
    where a line that opens with "Critique:" is one too; a quoted answer may hold such a line."""
    match = _SCAFFOLDING.search(text) or (_LABELS.search(text) if ours else None)
    return match.group().strip() if match else None


_FINDS_FAULT = re.compile(
    r"\b(?:should|ought|could|must|needs?|lack\w*|miss(?:es|ing)|fail\w*|ignor\w+|overlook\w*|leaves? out|omits?"
    r"|wrong\w*|false\w*|in(?:correct|accurate|complete)\w*|mistak\w+|errors?|mislead\w*|harm\w*|danger\w*|unsafe"
    r"|illegal\w*|rude\w*|un(?:kind|fair|true|clear|helpful)\w*|offensive|insult\w*|condescend\w*|disrespect\w*"
    r"|dishonest\w*|preach\w*|lectur\w*|moralis\w*|moraliz\w*|evas\w*|vague\w*|bias\w*|flatter\w*|problem\w*"
    r"|faults?|bad(?:ly)?|poor(?:ly)?|weak\w*|too|however|but|instead)\b",
    re.I,
)
"""English only: of a critique in another language nothing is claimed."""
_NO_FAULT = re.compile(
    r"\b(?:no|any|without) (?:\w+ ){0,3}(?:faults?|problems?|issues?|harm\w*|concerns?|changes?|need|flaws?|examples?|"
    r"violations?|reason|edits?|revisions?|improvements?)\b"
    r"|\bnothing\b|\bnone\b|\balready\b|\b(?:is|are|was|looks?|seems?) (?:\w+ )?(?:fine|good|appropriate|sound|right"
    r"|harmless|correct|accurate|honest|helpful|respectful|kind|polite|clear|safe|acceptable|ok|okay)\b"
    r"|\b(?:does|did|do|is|are)(?: not|n't)\b|\bcorrectly\b|\bunchanged\b|\b(?:leave|keep) (?:it|the)\b"
    r"|\bas (?:it )?(?:is|stands)\b|\bavoids?\b|\brightly\b",
    re.I,
)


def exemplar_faults(exemplar: Exemplar, principle: Principle | None = None) -> Iterator[str]:
    """Why `exemplar` teaches the wrong thing. `principle`: whose requests it borrows, if it has none."""
    requests = [exemplar.critique_request, exemplar.revision_request]
    if principle is not None:
        requests += [principle.critique_request, principle.revision_request]
    faults = list(_critique_faults(exemplar, [request for request in requests if request]))
    yield from faults
    if any(same(exemplar.revision, request) for request in requests if request):
        yield "revision: repeats the request instead of answering it"
    unchanged = same(exemplar.revision, exemplar.response)
    blames = _FINDS_FAULT.search(exemplar.critique) and not _NO_FAULT.search(exemplar.critique)
    if unchanged and not faults and blames:
        yield "revision: is the response unchanged although the critique finds fault; revise it, or say that it is fine"
    texts = {"critique": exemplar.critique, "revision": exemplar.revision, "response": exemplar.response}
    for name, text in texts.items():
        found = scaffolding(text, ours=name != "response")
        if found:
            yield f"{name}: holds leftover scaffolding ({found!r}); keep only the text itself"
        if name != "response":
            yield from (f"{name}: {fault}" for fault in misplaced_placeholders(text))
    yield from _request_faults(exemplar.critique_request, exemplar.revision_request)


def _critique_faults(exemplar: Exemplar, requests: list[str]) -> Iterator[str]:
    """Why the critique is none."""
    critique = exemplar.critique
    others = {
        "the response": exemplar.response,
        "the revision": exemplar.revision,
        "the prompt": exemplar.messages[-1].content,
    }
    for name, other in others.items():
        if same(critique, other):
            yield f"critique: is {name} over again; say what the response does well or badly"
    if any(same(critique, request) for request in requests):
        yield "critique: repeats the request instead of answering it"
    # Scripts that put no spaces between words have few "words"; a dozen of their characters say as much.
    if len(critique.split()) < MIN_CRITIQUE_WORDS and (critique.isascii() or len(critique) < 12):
        yield f"critique: {critique!r} is too short for a critique; name what is wrong, or say why the response is fine"
    if refuses(critique):
        yield f"critique: refuses to critique ({_start(critique)!r}); write what a critic would say"


def principle_faults(principle: Principle) -> Iterator[str]:
    """All that is wrong with the words of one principle, its exemplars and examples."""
    yield from _request_faults(principle.critique_request, principle.revision_request)
    question = principle.comparison_question
    for phrase in order_words(question):
        yield (
            f"comparison_question: presupposes an order ({phrase!r}); ask what the better answer does, "
            "for every pair is shown both ways round"
        )
    yield from (f"comparison_question: {fault}" for fault in misplaced_placeholders(question))
    found = scaffolding(question)
    if found:
        yield f"comparison_question: holds leftover scaffolding ({found!r}); keep only the text itself"
    for number, exemplar in enumerate(principle.exemplars, start=1):
        yield from (f"exemplars #{number}, {fault}" for fault in exemplar_faults(exemplar, principle))
    for number, example in enumerate(principle.examples, start=1):
        if same(example.better, example.worse):
            yield f"examples #{number}: better and worse are the same text"
        for name, text in (("better", example.better), ("worse", example.worse)):
            found = scaffolding(text, ours=False)
            if found:
                yield f"examples #{number}, {name}: holds leftover scaffolding ({found!r}); keep only the text itself"


def _request_faults(critique_request: str, revision_request: str) -> Iterator[str]:
    for name, text in (("critique_request", critique_request), ("revision_request", revision_request)):
        yield from (f"{name}: {fault}" for fault in placeholder_faults(text))
        found = scaffolding(text)
        if found:
            yield f"{name}: holds leftover scaffolding ({found!r}); keep only the text itself"
    if critique_request and same(critique_request, revision_request):
        yield "revision_request: is the critique_request over again; ask for the better answer"


def same(one: str, other: str) -> bool:
    """Equal but for case, white space and outer punctuation."""
    return _plain(one) == _plain(other)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!?\"'")


def _start(text: str) -> str:
    return text if len(text) <= 40 else text[:39].rstrip() + "…"


def near_identical(principles: list[Principle]) -> Iterator[tuple[Principle, Principle, float]]:
    """Couples (earlier, later, share of equal words) whose texts are the same to a reader."""
    words = [_principle_words(principle) for principle in principles]
    for later in range(len(principles)):
        for earlier in range(later):
            matcher = difflib.SequenceMatcher(None, words[earlier], words[later], autojunk=False)
            if matcher.real_quick_ratio() >= NEAR_IDENTICAL and matcher.quick_ratio() >= NEAR_IDENTICAL:
                ratio = matcher.ratio()
                if ratio >= NEAR_IDENTICAL:
                    yield principles[earlier], principles[later], ratio


def _principle_words(principle: Principle) -> list[str]:
    texts = (principle.critique_request, principle.revision_request, principle.comparison_question)
    return re.findall(r"[\w']+", " ".join(texts).casefold())
