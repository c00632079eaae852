"""A document's clauses beside a run: which principles name them, and whether these quote them word for word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from constitution.documents import Clause, Document
from constitution.documents.lines import normal
from constitution.identity import row_id
from constitution.records import Principle, StoredClause


@dataclass(frozen=True, slots=True)
class Quoted:
    """What a principle says of one document, held against it."""

    principle: Principle
    clauses: tuple[Clause, ...]
    """Those that it names, in its order."""
    unknown: tuple[str, ...]
    """Names of clauses that the document does not have."""
    verbatim: bool | None
    """Whether its quote is in those that it names. None: it has no quote, or it may be of another document that it
    names too."""
    elsewhere: tuple[Clause, ...]
    """Clauses that it does not name and that have the quote."""


def held(document: Document, name: str, principles: Iterable[Principle]) -> list[Quoted]:
    """The principles that name a clause of the document, which they call `name`."""
    return [
        _held(document, name, principle)
        for principle in principles
        if any(_document(clause) == name for clause in principle.clauses)
    ]


def _held(document: Document, name: str, principle: Principle) -> Quoted:
    named = [each for each in principle.clauses if _document(each) == name]
    found = {each: document.clause(each.partition("#")[2]) for each in named}
    clauses = tuple(clause for clause in found.values() if clause is not None)
    unknown = tuple(each for each, clause in found.items() if clause is None)
    verbatim: bool | None = None
    elsewhere: tuple[Clause, ...] = ()
    if quote := normal(principle.quote):
        verbatim = _has(clauses, quote)
        if not verbatim:
            elsewhere = tuple(each for each in document.clauses if each not in clauses and quote in _words(each))
        if not verbatim and not elsewhere and len(named) < len(principle.clauses):
            verbatim = None
    return Quoted(principle, clauses, unknown, verbatim, elsewhere)


def _document(clause: str) -> str:
    return clause.partition("#")[0]


def _words(clause: Clause) -> str:
    """All that a quote of the clause may have: what it completes, its number, its text."""
    return normal(f"{clause.lead} {clause.number} {clause.text}")


def _has(clauses: Sequence[Clause], quote: str) -> bool:
    """Whether one of them has the quote, or several together where it goes over their ends."""
    if any(
        quote in words for each in clauses for words in (each.text, normal(f"{each.lead} {each.text}"), _words(each))
    ):
        return True
    together = sorted(clauses, key=lambda each: each.start)
    return quote in normal(" ".join(each.text for each in together))


def stored(run_id: str, document: Document, name: str, quoted: Iterable[Quoted]) -> list[StoredClause]:
    """The document's clauses as rows of the run."""
    quotes: dict[str, list[str]] = {}
    wrong: dict[str, list[str]] = {}
    for each in quoted:
        for clause in each.clauses if each.verbatim is False else ():
            wrong.setdefault(clause.id, []).append(each.principle.id)
        if each.verbatim:
            quote = normal(each.principle.quote)
            own = [clause for clause in each.clauses if _has([clause], quote)] or each.clauses
            for clause in own:
                quotes.setdefault(clause.id, []).append(each.principle.id)
    return [
        StoredClause(
            id=row_id("clause", run_id, name, document.digest, clause.id),
            run_id=run_id,
            document=name,
            edition=document.digest,
            format=document.format,
            clause=f"{name}#{clause.id}",
            position=position,
            number=clause.number,
            heading=clause.heading,
            lead=clause.lead,
            kind=clause.kind,
            text=clause.text,
            begins=clause.start,
            ends=clause.end,
            page=clause.page or None,
            line=clause.line or None,
            quoted_by=tuple(quotes.get(clause.id, ())),
            misquoted_by=tuple(wrong.get(clause.id, ())),
        )
        for position, clause in enumerate(document.clauses)
    ]
