"""Drafts of principles from one clause: how a model is asked for them, and what of its reply is one.

The reply is hostile text: it must be the form that was asked for, its quote must be in the clause, and what the lint of
constitutions and of checklists finds stays with the draft as its fault. Nothing of it is mended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from constitution import templates
from constitution.documents import Clause, Document
from constitution.engines import Completion, Request
from constitution.errors import InputError, MalformedReply
from constitution.identity import digest, seed
from constitution.judge.ask import nonce
from constitution.judge.rubrics.lint import lint
from constitution.judge.rubrics.written import Written
from constitution.principles.languages import Language
from constitution.principles.lint import principle_faults
from constitution.principles.schema import PrincipleTable
from constitution.propose.file import FORCES, Proposal
from constitution.propose.quotes import quoted
from constitution.reading import parse_json
from constitution.records import Message, Messages, Principle, Sampling
from constitution.shown import brief, printable, printable_lines
from constitution.templates import EXTRACT

STEP = "extract"
TEXTS = ("quote", "addressee", "force", "condition", "exception", "why")
ASKING = ("critique_request", "revision_request", "comparison_question")
KEYS = (*TEXTS, *ASKING, "criteria", "examples")
NEIGHBOUR = 600
"""Characters of the clause before and of the one after that a model is shown."""
MAX_TOKENS = 2000
"""That a reply may take; one draft takes about 400."""
MOST_DRAFTS = 20
"""That are taken from one clause."""
_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\r?\n(.*?)\r?\n[ \t]*```\s*\Z", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Read:
    """What one reply gave."""

    proposals: tuple[Proposal, ...] = ()
    none: str = ""
    """Why the clause asks nothing; empty: it asks something."""
    rejected: tuple[str, ...] = ()
    """Why drafts are none."""


def request(document: Document, place: int, run_seed: int, attempt: int, max_tokens: int = MAX_TOKENS) -> Request:
    """What a model is asked about clause `place`. attempt: replies that could not be used; each has another seed, and
    from the second on a temperature, without which the same reply would come again."""
    clause = document.clauses[place]
    chosen = seed(run_seed, document.name, clause.id, STEP, attempt)
    sampling = Sampling(temperature=0.7 if attempt else 0.0, top_p=1.0, max_tokens=max_tokens)
    mark = nonce(run_seed, f"{document.name}#{clause.id}")
    return Request(messages(document, place, mark), sampling, chosen, step=STEP)


def messages(document: Document, place: int, mark: str) -> Messages:
    """The chat. All of the document stands between marks, disarmed; the clause is whole."""
    clause, around = document.clauses[place], document.clauses
    before = (
        [clause.lead] if clause.lead else [brief(each.text, NEIGHBOUR) for each in around[max(place - 1, 0) : place]]
    )
    after = [brief(each.text, NEIGHBOUR) for each in around[place + 1 : place + 2]]
    said = {
        "place": place_of(document, clause),
        "before": "\n".join(before) or "-",
        "clause": clause.text,
        "after": "\n".join(after) or "-",
    }
    values = {name: templates.shown(text, mark, EXTRACT) for name, text in said.items()}
    values |= {"nonce": mark, "format": EXTRACT.texts["extract-json.txt"]}
    return (Message("user", templates.fill(EXTRACT.texts["extract.txt"], values)),)


def place_of(document: Document, clause: Clause, edition: str = "") -> str:
    """Where a clause is, for people: `charter (2025): Reporting, 3.2, page 4`."""
    number = clause.number or clause.id
    page = [f"page {clause.page}"] if clause.page else []
    return f"{document.name}{f' ({edition})' if edition else ''}: {', '.join([*clause.heading, number, *page])}"


def read(document: Document, clause: Clause, done: Completion, language: Language | None, edition: str) -> Read:
    """Raises MalformedReply for a reply that is not the form that was asked for."""
    if done.finish_reason != "stop":
        raise MalformedReply(f"the reply ended before its end ({done.finish_reason})")
    fenced = _FENCED.match(done.text)
    found = _json(fenced[1] if fenced else done.text)
    if isinstance(found, dict) and set(found) == {"none"} and _is_text(found["none"]):
        return Read(none=_line(found["none"]) or "no reason given")
    drafts = found.get("drafts") if isinstance(found, dict) and set(found) == {"drafts"} else None
    if not isinstance(drafts, list) or not drafts:
        raise MalformedReply('the reply is neither {"none": …} nor {"drafts": […]} with a draft')
    if len(drafts) > MOST_DRAFTS:
        raise MalformedReply(f"the reply has {len(drafts)} drafts of one clause, and at most {MOST_DRAFTS} are taken")
    made: list[Proposal] = []
    rejected: list[str] = []
    for number, item in enumerate(drafts, 1):
        try:
            id = id_of(document, clause, len(made) + 1)
            made.append(_proposal(document, clause, item, id, edition))
        except ValueError as error:
            rejected.append(f"draft {number}: {brief(printable(str(error)), 200)}")
    return Read(tuple(replace(each, fault=_fault(each, language)).sealed() for each in made), "", tuple(rejected))


def _json(text: str) -> Any:
    try:
        return parse_json(text, "the reply", InputError)
    except InputError as error:
        raise MalformedReply(str(error)) from None


def id_of(document: Document, clause: Clause, number: int) -> str:
    """`charter-3-2`, and `charter-3-2--2` for its second: of the clause alone, so that another edition has the same."""
    base = re.sub(r"[^a-z0-9]+", "-", f"{document.name}-{clause.id}".casefold()).strip("-")
    plain = f"{document.name}-{clause.id}".casefold().replace(".", "-").replace("_", "-")
    if base != plain or len(base) > 56:
        base = f"{base[:47].rstrip('-')}-{digest([document.name, clause.id])[:8]}"
    return base if number == 1 else f"{base}--{number}"  # `-2` would be the first of an inner clause, 3.2 in 3


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value == value.encode("utf-8", "replace").decode("utf-8") and "\0" not in value


def _line(text: str) -> str:
    return " ".join(text.split())


def _proposal(document: Document, clause: Clause, item: Any, id: str, edition: str) -> Proposal:
    """Raises ValueError for what is no draft."""
    if not isinstance(item, Mapping) or set(item) != set(KEYS):
        keys = ", ".join(sorted(map(str, item))) if isinstance(item, Mapping) else type(item).__name__
        raise ValueError(f"has the keys {keys}, and not {', '.join(KEYS)}")
    if bad := next((key for key in (*TEXTS, *ASKING) if not _is_text(item[key])), ""):
        raise ValueError(f"{bad}: is no text")
    if item["force"] not in FORCES or not item["force"]:
        raise ValueError(f"force: is {item['force']!r}, and not one of {', '.join(FORCES[1:])}")
    quote = quoted(clause.text, item["quote"])
    if not quote.words:
        raise ValueError(f"its quote is not in the clause: {item['quote']!r}")
    principle = _principle(item, id, f"{document.name}#{clause.id}", quote.words, place_of(document, clause, edition))
    return Proposal(
        principle,
        force=item["force"],
        addressee=_line(item["addressee"]),
        condition=_line(item["condition"]),
        exception=_line(item["exception"]),
        note=quote.note,
    )


def _principle(item: Mapping[str, Any], id: str, clause: str, quote: str, source: str) -> Principle:
    table: dict[str, Any] = {key: item[key].strip() for key in ASKING if item[key].strip()}
    table |= {"id": id, "tags": [item["force"]], "source": source, "quote": quote, "clauses": [clause]}
    table |= {"why": item["why"].strip()}
    table |= {"criteria": _tables(item, "criteria", {"question", "good"})}
    table |= {"examples": _tables(item, "examples", {"prompt", "better", "worse"})}
    try:
        return PrincipleTable.model_validate(table).record
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def _tables(item: Mapping[str, Any], key: str, keys: set[str]) -> list[dict[str, str]]:
    rows = item[key]
    if not isinstance(rows, list) or not all(isinstance(row, dict) and set(row) == keys for row in rows):
        raise ValueError(f"{key}: is not a list of objects with {', '.join(sorted(keys))}")
    if not all(_is_text(text) for row in rows for text in row.values()):
        raise ValueError(f"{key}: holds what is no text")
    return rows


def _fault(proposal: Proposal, language: Language | None) -> str:
    """What is wrong with its words, all of it, as `check` and the lint of checklists find it."""
    principle = proposal.principle
    said = [principle.critique_request, principle.revision_request, principle.comparison_question]
    found = ["holds signs that are not shown"] if any(printable_lines(text) != text for text in said) else []
    found += principle_faults(principle, language)
    items = [Written(each.question, each.good) for each in principle.criteria]
    faults: Sequence[Any] = lint(items, (), None)
    found += [f"criteria #{n}: {fault[0]} ({fault[1]})" for n, fault in enumerate(faults, 1) if fault]
    return "; ".join(map(printable, dict.fromkeys(found)))
