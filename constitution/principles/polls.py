"""Statements that people voted on, by group, as Polis exports them, or any two tables of the like.

    comments.csv             comment-id, comment-body, moderated (-1: taken out), agrees, disagrees …
    participants-votes.csv   participant, group-id, a column a comment: 1 agree, -1 disagree, 0 pass, or empty
    a row a vote             participant (voter-id, user), comment-id (statement, id), vote: 1, -1, 0, or agree,
                             disagree, pass; and perhaps group

Some exports of Polis write -1 for agree: where comments.csv counts agrees and disagrees, votes that say the
opposite are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from constitution.errors import PrincipleError
from constitution.measures.consensus import Support, support
from constitution.principles.lists import rows_of

IDS = ("comment-id", "comment_id", "statement-id", "statement_id", "id")
TEXTS = ("comment-body", "comment_body", "statement", "text", "idea")
PEOPLE = ("participant", "voter-id", "voter_id", "user_id", "user", "rater")
GROUPS = ("group-id", "group_id", "group")
VOTES = ("vote", "value")
COUNTED = {"agrees": 0, "disagrees": 1}
_SAYS = {"1": 0, "1.0": 0, "agree": 0, "-1": 1, "-1.0": 1, "disagree": 1, "0": 2, "0.0": 2, "pass": 2, "unsure": 2}
_OTHERS = ("n-comments", "n-votes", "n-agree", "n-disagree", "xid", "timestamp", "datetime")
"""Columns of a wide table of votes that are none."""

Cells = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Statement:
    id: str
    text: str
    place: str
    """`comments.csv: row 4`."""
    support: Support


@dataclass(frozen=True, slots=True)
class Poll:
    groups: tuple[str, ...]
    people: int
    statements: tuple[Statement, ...]
    """Those that were not taken out; the one that most bridges groups first."""
    notes: tuple[str, ...]
    """What was left out, and why."""


def read_poll(statements: Path, votes: Path) -> Poll:
    """Raises PrincipleError for tables of other columns, a vote that is none of the three, a vote on what is no
    statement, a person of two groups, or one who says two things of one statement."""
    texts, places, counted, notes = _statements(statements)
    groups, said = _votes(votes, set(texts), notes)
    names = tuple(sorted({group for group in groups.values() if group}, key=lambda name: (len(name), name)))
    ids = list(texts)
    counts = np.zeros((3, len(names) + 1, len(ids)), dtype=np.int64)
    place, column = {id: n for n, id in enumerate(ids)}, {name: n for n, name in enumerate(names)}
    for (person, id), what in said.items():
        if id in place:
            counts[what, column.get(groups.get(person, ""), len(names)), place[id]] += 1
    _check_signs(votes, counts, ids, counted)
    found = support(counts[0], counts[1], counts[2], len(names))
    made = [Statement(id, texts[id], places[id], each) for id, each in zip(ids, found, strict=True)]
    silent = [each.id for each in made if not each.support.overall.n]
    if silent:
        notes.append(f"without a vote, and not proposed: {len(silent)} statements, {', '.join(silent[:10])}")
    ranked = sorted((each for each in made if each.support.overall.n), key=lambda each: -each.support.bridging)
    without = sum(not group for group in groups.values())
    if names and without:
        notes.append(f"{without} of {len(groups)} people are of no group: they count overall alone")
    return Poll(names, len(groups), tuple(ranked), tuple(notes))


def _statements(path: Path) -> tuple[dict[str, str], dict[str, str], dict[str, tuple[int, int]], list[str]]:
    """By id: texts, places, and how many agreed and disagreed as the table itself counts; and notes."""
    texts, places, counted, out = dict[str, str](), dict[str, str](), dict[str, tuple[int, int]](), list[str]()
    rows = rows_of(path)
    id_column, text_column = _named(path, rows, IDS), _named(path, rows, TEXTS)
    seen: set[str] = set()
    for place, cells in rows:
        id, text = cells[id_column].strip(), " ".join(cells[text_column].split())
        if not id or not text or id in seen:
            fault = "has no id" if not id else "has no text" if not text else f"has the id {id} again"
            raise PrincipleError(f"{path}: {place}: {fault}", hint="each statement has an id and a text")
        seen.add(id)
        if cells.get("moderated", "").strip() == "-1":
            out.append(f"{id} ({text[:40]!r})")
            continue
        texts[id], places[id] = text, f"{path.name}: {place}"
        if all(cells.get(name, "").strip().isdigit() for name in COUNTED):
            counted[id] = int(cells["agrees"]), int(cells["disagrees"])
    notes = [f"taken out by moderators, {len(out)}: {', '.join(out)}"] if out else []
    if not texts:
        raise PrincipleError(f"{path}: has no statement that moderators left in", hint="export it again")
    return texts, places, counted, notes


def _votes(path: Path, known: set[str], notes: list[str]) -> tuple[dict[str, str], dict[tuple[str, str], int]]:
    """The group of each person, empty for none; and what each said of each statement: 0 agree, 1 disagree, 2 pass."""
    rows = rows_of(path)
    person, group = _named(path, rows, PEOPLE), _named(path, rows, GROUPS, needed=False)
    names = list(rows[0][1]) if rows else []
    wide = [name for name in names if name not in (person, group, *_OTHERS)]
    long = _named(path, rows, VOTES, needed=False)
    id_column = _named(path, rows, IDS) if long else ""
    groups: dict[str, str] = {}
    said: dict[tuple[str, str], int] = {}
    unknown: dict[str, None] = {}
    for place, cells in rows:
        who = cells[person].strip()
        _put(path, place, groups, who, cells[group].strip() if group else "", "is of the group")
        cast = {cells[id_column].strip(): cells[long]} if long else {id: cells[id] for id in wide}
        for id, text in cast.items():
            if not (word := text.strip().lower()):
                continue
            if word not in _SAYS:
                raise PrincipleError(
                    f"{path}: {place}: {id}: {text!r} is no vote",
                    hint="1, -1 and 0, or agree, disagree and pass; columns that are no statements are to be taken out",
                )
            if id not in known:
                unknown[id] = None
            elif said.setdefault((who, id), _SAYS[word]) != _SAYS[word]:
                raise PrincipleError(f"{path}: {place}: {who} says two things of {id}", hint="keep one vote of each")
    if unknown:
        notes.append(f"votes on {len(unknown)} statements that were taken out or are not there: {', '.join(unknown)}")
    return groups, said


def _put(path: Path, place: str, groups: dict[str, str], who: str, group: str, fault: str) -> None:
    before = groups.setdefault(who, group)
    if before != group:
        raise PrincipleError(
            f"{path}: {place}: {who} {fault} {group or 'none'!r}, and of {before or 'none'!r} before",
            hint="a person is of one group",
        )


def _check_signs(
    path: Path, counts: NDArray[np.int64], ids: Sequence[str], counted: Mapping[str, tuple[int, int]]
) -> None:
    """Raises PrincipleError where votes fit what the statements' table counts better with agree for disagree."""
    mine = counts.sum(axis=1)
    places = [n for n, id in enumerate(ids) if id in counted]
    theirs = np.array([counted[ids[n]] for n in places], dtype=np.int64).reshape(-1, 2).T
    straight, turned = (int(np.abs(mine[order][:, places] - theirs).sum()) for order in ([0, 1], [1, 0]))
    if turned < straight:
        raise PrincipleError(
            f"{path}: its votes agree where the statements' table counts disagreement ({straight} votes off, {turned} "
            "with -1 read as agree)",
            hint="in some exports -1 is agree: turn the signs, then import",
        )


def _named(path: Path, rows: Sequence[tuple[str, Cells]], names: Sequence[str], *, needed: bool = True) -> str:
    """The column that is called by one of the names."""
    columns = list(rows[0][1]) if rows else []
    found = [column for name in names for column in columns if column.strip().lower() == name]
    if not found and needed:
        raise PrincipleError(
            f"{path}: has the columns {', '.join(columns[:12]) or 'none'}", hint=f"needed is one of {', '.join(names)}"
        )
    return found[0] if found else ""
