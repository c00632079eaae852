"""What can be wrong with a checklist's questions. Pure, as `texts` is, and English only.

A criterion is asked about one answer at a time and read as P(yes) against P(no): so it must be a question that yes or
no answers, and must ask for what is there. "No" to "Does the answer avoid insults?" is now meant as a fault found and
now as a fault denied; "Does the answer insult anybody?" with good = "no" can be read in one way only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from constitution.principles.texts import misplaced_placeholders, order_words, same, scaffolding
from constitution.records import Criterion

_OPEN = re.compile(
    r"(?:(?:to |in |for |at |by |on )?(?:which|what|who|whom|whose|why|how)\b"
    r"|(?:when|where)\b(?![^?]*, ?(?:does|do|did|is|are|was|were|has|have|had|can|could|will|would)\b))",
    re.I,
)
""""Where it is unsure, does the answer say so?" is no open question."""
_QUOTED = re.compile(r"“[^”]*”|\"[^\"]*\"")
_CLAUSE = re.compile(
    r"\b(?:that|which|who|whom|whose|what|where|when|why|how|if|whether|because|although|while|instead)\b|[,;:(—–]"
)
"""What follows is no longer the main clause: "Does the answer say what it does not know?" is not negated."""
_NEGATED = re.compile(
    r"\b(?:not|never|nothing|nobody|none|neither|no(?! (?:more|less|longer|later|sooner)\b)|without"
    r"|avoid\w*|refrain\w*|abstain\w*|free (?:of|from))\b|n['’]t\b",
    re.I,
)
_BLAMES = re.compile(
    r"^(?:does|do|did) (?:the|this|it)(?: \w+){0,2}? (?:insults?|mocks?|belittles?|demeans?|preach(?:es)?"
    r"|lectures?|moraliz\w+|moralis\w+|flatters?|dodges?|evades?|invents?|fabricates?|misleads?|deceives?|manipulates?"
    r"|stereotypes?|exaggerates?|misreads?|misquotes?|ignores?)\b"
    r"|^is (?:the|this) (?:answer|response|reply)(?: (?:too|so|in any way))? (?:rude|insulting|mocking"
    r"|condescending|preachy|evasive|vague|misleading|false|wrong|dangerous|harmful|offensive|manipulative|biased)\b",
    re.I,
)


def criteria_faults(criteria: Sequence[Criterion]) -> Iterator[str]:
    """All that is wrong with the words of one principle's checklist."""
    for number, criterion in enumerate(criteria, start=1):
        place = f"criteria #{number}"
        yield from (f"{place}: {fault}" for fault in _question_faults(criterion))
        twin = next((n for n, other in enumerate(criteria[: number - 1], 1) if _same(other, criterion)), None)
        if twin is not None:
            yield f"{place}: is criteria #{twin} over again, and would count twice; remove one"


def _same(one: Criterion, other: Criterion) -> bool:
    return same(one.question, other.question)


def _question_faults(criterion: Criterion) -> Iterator[str]:
    question = " ".join(criterion.question.split())
    if not question.endswith(("?", "？", "؟")):
        yield f"{_shown(question)} is no question; ask something that yes or no answers, and end with a question mark"
    elif _OPEN.match(question):
        yield f"{_shown(question)} cannot be answered with yes or no; begin with Does, Is, Has or the like"
    if question.rstrip("?").count("?"):
        yield f"{_shown(question)} asks more than one question; make each a criterion of its own"
    yield from _polarity_faults(criterion, question)
    for phrase in order_words(question):
        yield f"presupposes a second answer ({phrase!r}); a criterion is asked about one answer alone"
    yield from misplaced_placeholders(question)
    if found := scaffolding(question):
        yield f"holds leftover scaffolding ({found!r}); keep only the text itself"


def _polarity_faults(criterion: Criterion, question: str) -> Iterator[str]:
    """Where it is not plain which reply speaks for the answer."""
    clause = _CLAUSE.split(_QUOTED.sub("", question), maxsplit=1)[0]
    negated = _NEGATED.search(clause)
    if negated and criterion.good == "yes":
        yield (
            f"is asked in the negative ({negated.group()!r}), which judges misread; ask whether the answer does it, "
            'and set good = "no"'
        )
    elif negated:
        yield (
            f'is asked in the negative ({negated.group()!r}) and has good = "no": the two undo each other; ask whether '
            "the answer does it"
        )
    elif criterion.good == "yes" and _BLAMES.search(clause):
        yield f'{_shown(question)} asks about a fault and counts yes as good; set good = "no"'


def _shown(question: str) -> str:
    return repr(question if len(question) <= 60 else question[:59].rstrip() + "…")
