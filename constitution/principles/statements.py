"""What one line or row becomes: a question between answers as it is, anything else by what it is, never by a guess.

    question or request to choose    its words are the comparison_question
    request for a critique           the critique_request; the revision_request is TODO
    yes/no question about an answer  a criterion; the comparison_question is TODO
    statement ("The AI should …")    questions and requests that quote it, in the file's language

A text that begins with TODO is reported by the check and refused by a run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from constitution.errors import PrincipleError
from constitution.principles.languages import Language, known, named
from constitution.principles.lists import Entry
from constitution.principles.texts import REQUESTS, TODO
from constitution.records import Criterion, Principle

COLUMNS = (
    "principle",
    "statement",
    "rule",
    "text",
    "comment-body",
    "principles",
    "statements",
    "rules",
    "constitution",
)
"""Names of a column of principles, the likelier first."""
_FIELDS = {
    **{name: name for name in ("id", *REQUESTS, "weight", "tags", "source", "quote", "clauses")},
    "critique": "critique_request",
    "critic": "critique_request",
    "revision": "revision_request",
    "edit_request": "revision_request",
    "question": "comparison_question",
}
"""Other columns, and the field that each becomes."""

_SAID = {
    "asks": "questions and requests to choose, put to the judge as they are",
    "critiques": "requests for a critique; the revision_request is still to be written",
    "one_answer": "questions about one answer, made criteria; the comparison_question is still to be written",
    "unknown": "principles whose comparison_question is still to be written",
    "statement": "statements, quoted in a question, a critique request and a revision request",
}


@dataclass(frozen=True, slots=True)
class How:
    """What the user says of the files."""

    language: str = ""
    """The language of their words, as BCP 47 has it; empty: English, and not declared."""
    column: str = ""
    """The column that holds the principles; empty: by its name."""
    ignore: tuple[str, ...] = ()
    """Columns that are not read."""


def principles_of(entries: Iterable[Entry], how: How, notes: list[str], *, first: int = 1) -> Iterator[Principle]:
    """One principle an entry, numbered from `first`; how many of each kind there were is added to `notes`."""
    language, kinds = known(how.language), Counter[str]()
    for number, entry in enumerate(entries, first):
        principle, kind = _principle(entry, number, language)
        kinds[kind] += 1
        yield principle
    del kinds[""]
    notes += [f"{_SAID[kind]}: {count}" for kind, count in kinds.items()]
    if language is None:
        notes.append(f"statements are not told from questions in {how.language}; known are {named()}")


def kind_of(text: str, language: Language) -> str:
    """asks, critiques, one_answer or statement."""
    question = text.rstrip("\"'”»」’ ").endswith(("?", "？", "؟"))
    answer = re.search(language.data["answer"], text, re.IGNORECASE)
    if language.pattern("asks").match(text) and (question or answer):
        return "asks"
    if question and language.pattern("one_answer").match(text):  # Russian "Объясняет ли …" begins as a request does
        return "one_answer"
    return "critiques" if language.pattern("critiques").match(text) and answer else "statement"


def _principle(entry: Entry, number: int, language: Language | None) -> tuple[Principle, str]:
    """The principle, and the kind of its text; no kind where the row's cells say all."""
    given = {_FIELDS[name]: text for name, text in entry.cells.items() if text}
    made, kind = _texts(entry.text, language) if entry.text else ({}, "")
    texts = {**made, **{name: text for name, text in given.items() if name in made or name.endswith(_ASKED)}}
    criteria = (Criterion(entry.text),) if kind == "one_answer" else ()
    source = f"{given['source']} ({entry.place})" if given.get("source") else entry.place
    slug = re.sub(r"[^a-z0-9]+", "-", given.get("id", "").casefold()).strip("-")[:56].rstrip("-")
    return (
        Principle(
            id=slug or f"principle-{number}",
            critique_request=texts.get("critique_request", ""),
            revision_request=texts.get("revision_request", ""),
            comparison_question=texts.get("comparison_question", ""),
            weight=_weight(entry, given.get("weight")),
            tags=_listed(given.get("tags", "")),
            quote=given.get("quote", ""),
            clauses=_listed(given.get("clauses", "")),
            source=source,
            criteria=criteria,
        ),
        kind,
    )


_ASKED = ("_request", "_question")


def _texts(text: str, language: Language | None) -> tuple[dict[str, str], str]:
    if language is None:
        return {"comparison_question": f"{TODO}: ask which of two answers keeps to this better: {text}"}, "unknown"
    kind = kind_of(text, language)
    if kind == "asks":
        return {"comparison_question": text}, kind
    if kind == "critiques":
        return {"critique_request": text, "revision_request": f"{TODO}: ask for the answer without that fault."}, kind
    if kind == "one_answer":
        return {"comparison_question": f"{TODO}: ask which of two answers is better in this: {text}"}, kind
    forms = {"critique": "critique_request", "revise": "revision_request", "compare": "comparison_question"}
    return {name: language.data[form].replace("{statement}", text) for form, name in forms.items()}, kind


def _weight(entry: Entry, given: str | None) -> float:
    try:
        return float(given) if given else 1.0
    except ValueError:
        raise PrincipleError(f"{entry.place}: weight: {given!r} is no number") from None


def _listed(given: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tag.strip() for tag in re.split("[,;|]", given) if tag.strip()))


def table_entries(
    path: Path, rows: Sequence[tuple[str, dict[str, str]]], how: How, notes: list[str]
) -> Iterator[Entry]:
    """The rows of a table. Raises PrincipleError for a column that has no place in our format."""
    columns = list(dict.fromkeys(name for _, cells in rows for name in cells))
    column = _column(path, columns, how)
    for name in how.ignore:
        if name not in columns:
            raise PrincipleError(f"{path}: --ignore {name}: there is no such column; there are {', '.join(columns)}")
    fields = {name: name.strip().casefold().replace("-", "_").replace(" ", "_") for name in columns}
    lost = [name for name in columns if name != column and name not in how.ignore and fields[name] not in _FIELDS]
    if lost:
        raise PrincipleError(
            f"{path}: {', '.join(lost)} has no place in our format and would be lost",
            hint=f"--ignore {','.join(lost)} says not to read it"
            + ("" if column else "; --column NAME takes principles from it"),
        )
    if how.ignore:
        notes.append(f"{path.name}: not read, as --ignore says: {', '.join(how.ignore)}")
    for place, cells in rows:
        text = cells.get(column, "").strip() if column else ""
        kept = {fields[n]: v.strip() for n, v in cells.items() if n not in (column, *how.ignore) and v.strip()}
        if text or any(_FIELDS[name].endswith(_ASKED) for name in kept):
            yield Entry(f"{path.name}: {place}", text, kept)
        else:
            notes.append(f"{path.name}: {place} is not read, for it has no principle")


def _column(path: Path, columns: Sequence[str], how: How) -> str:
    """The column of principles; empty where others say all: critiques and revisions, or questions."""
    if how.column:
        if how.column not in columns:
            raise PrincipleError(f"{path}: --column {how.column}: there is none; there are {', '.join(columns)}")
        return how.column
    for name in COLUMNS:
        for column in columns:
            if column.strip().casefold() == name:
                return column
    whole = {_FIELDS.get(column.strip().casefold(), "") for column in columns}
    if "comparison_question" in whole or {"critique_request", "revision_request"} <= whole:
        return ""
    raise PrincipleError(
        f"{path}: no column is known to hold principles; there are {', '.join(columns)}",
        hint="--column NAME says which one does",
    )
