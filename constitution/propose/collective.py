"""Principles from statements that people voted on: proposals, the one that most bridges groups first. No model is
asked; what each statement becomes is what `principles import` makes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from constitution.measures import Estimate
from constitution.principles.lists import Entry
from constitution.principles.polls import Poll, Statement, read_poll
from constitution.principles.statements import How, principles_of
from constitution.principles.texts import TODO
from constitution.propose.file import FILE, Proposal, Proposals, merge, read, write
from constitution.records import Principle

DIVIDES = "divides groups"


def propose_statements(statements: Path, votes: Path, folder: Path, how: How) -> tuple[Poll, tuple[str, ...]]:
    """Writes proposals.toml in `folder` from a table of statements and one of votes; what people edited or decided in
    one that is there stays. The poll, and what is to be known. Raises PrincipleError as `polls.read_poll` does."""
    poll = read_poll(statements, votes)
    notes = [*poll.notes]
    entries = [Entry(each.place, each.text) for each in poll.statements]
    made = [
        _proposal(statement, principle, poll.groups)
        for statement, principle in zip(poll.statements, principles_of(entries, how, notes), strict=True)
    ]
    found = Proposals("collective", document=statements.stem, proposals=tuple(made))
    if (folder / FILE).exists():
        found = merge(read(folder / FILE), found)
    folder.mkdir(parents=True, exist_ok=True)
    if said := write(folder, found):
        notes.append(said)
    return poll, tuple(notes)


def _proposal(statement: Statement, principle: Principle, groups: tuple[str, ...]) -> Proposal:
    slug = re.sub(r"[^a-z0-9]+", "-", statement.id.casefold()).strip("-")[:50]
    todo = any(
        text.startswith(TODO)
        for text in (principle.comparison_question, principle.critique_request, principle.revision_request)
    )
    return Proposal(
        replace(principle, id=f"statement-{slug}", quote=statement.text),
        note=support_of(statement, groups),
        fault=f"a text of it begins with {TODO}: write it" if todo else "",
    ).sealed()


def support_of(statement: Statement, groups: tuple[str, ...]) -> str:
    """`agree 67 % (30 to 90 %) of 6 votes; 0: 100 % (…) of 3; bridging 0.45; divides groups`."""
    found = statement.support
    parts = [f"agree {_written(found.overall)} votes"]
    parts += [f"{name}: {_written(each)}" for name, each in zip(groups, found.by_group, strict=True)]
    parts += [f"bridging {found.bridging:.2f}", *([DIVIDES] if found.divides else [])]
    return "; ".join(parts)


def _written(found: Estimate) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "none of 0"
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%}) of {found.n}"
