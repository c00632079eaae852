"""Accepting proposals: a person's act, which writes a *draft* version of a constitution, and never another file there.

    done = accept(root, folder, only=["charter-3-2"])
    done.label, done.added

The draft is the constitution's highest version with what was accepted; `check`, `diff` and `lock` treat it like any
other edit. A proposal that is in a draft is marked with it, and is not written twice.
"""

from __future__ import annotations

import fcntl
import json
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from constitution.errors import PrincipleError
from constitution.principles.check import Finding, check_file
from constitution.principles.files import (
    Lock,
    create_file,
    path_of,
    read_constitution,
    replace_file,
    shown,
    status,
    versions,
)
from constitution.principles.languages import known
from constitution.principles.lint import principle_faults, same_texts
from constitution.principles.lock import next_version, with_version
from constitution.principles.schema import parse
from constitution.principles.toml_writer import lines_of, write_toml
from constitution.propose.file import FILE, Proposal, Proposals, marked, read
from constitution.reading import text_of
from constitution.records import Constitution, Principle

CLAUSES = "clauses.jsonl"
"""A line for each clause of the document: {"id", "lead", "text", …}."""
FIRST = "1.0.0"


@dataclass(frozen=True, slots=True)
class Accepted:
    """What `accept` did."""

    label: str
    """name@version of the draft; empty: nothing was written."""
    path: Path | None
    base: str
    """name@version that the draft was made from; empty: it is the first."""
    added: tuple[str, ...]
    replaced: tuple[str, ...]
    removed: tuple[str, ...]
    before: tuple[tuple[str, str], ...]
    """Proposals that were accepted before, and the draft that they are in."""
    left: tuple[tuple[str, str], ...]
    """Proposals that were left out, and why; only where all were to be accepted."""
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]
    """What `check` says of the draft."""


def accept(root: Path, folder: Path, only: Sequence[str] = (), *, every: bool = False) -> Accepted:
    """Writes the proposals of `folder` into a draft under `root`: those that `only` names; or all without a fault that
    was not refused (`every`); or else those that the file says are accepted.

    Raises PrincipleError, having written nothing: for an unknown, refused or faulty proposal that is named, an id that
    the constitution has already, a locked file that was edited, and while another process accepts here."""
    with _alone(folder):
        found = read(folder / FILE)
        name, base = _base(root, found, folder.name)
        found = replace(found, language=base.language if base else found.language)
        chosen, before, left = _chosen(found, _clauses(folder), only, every)
        if every:
            chosen, twins = _without_twins(chosen, base)
            left = (*left, *twins)
        if not chosen:
            return Accepted("", None, base.label if base else "", (), (), (), before, left, (), ())
        chosen, there = _split(chosen, base)
        version = next_version(base.version, "minor") if base else FIRST
        written = ""
        notes: list[str] = []
        if chosen:
            target = path_of(root, name, version)
            made = _made(name, version, base, chosen, found)
            text, notes = _text(root, base, made, chosen)
            create_file(target, text, shown(root, target))
            written = f"{name}@{version}"
        label = written or (base.label if base else "")
        named: dict[str, list[str]] = {"add": [], "replace": [], "remove": []}
        for each in chosen:
            named[each.action].append(each.id)
        _mark(folder, [each.id for each in (*chosen, *there)], label)
        if base and found.constitution and base.label != found.constitution:
            notes.append(f"made for {found.constitution}; the draft is {base.label} with what was accepted")
        if there:
            notes.append(f"already in {base.label if base else ''}: {', '.join(each.id for each in there)}")
        findings = check_file(root, path_of(root, name, version), Lock.read(root)) if written else []
    return Accepted(
        written,
        path_of(root, name, version) if written else None,
        base.label if base else "",
        tuple(named["add"]),
        tuple(named["replace"]),
        tuple(named["remove"]),
        before,
        left,
        tuple(notes),
        tuple(findings),
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time accepts what is in `folder`."""
    if not (folder / FILE).is_file():
        raise PrincipleError(
            f"{folder}: there are no proposals", hint="`constitution principles extract DOC --name NAME` makes some"
        )
    with (folder / ".accept").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PrincipleError(
                f"{folder.name}: another process is accepting proposals", hint="wait until it has ended"
            ) from None
        yield


def _chosen(
    found: Proposals, clauses: dict[str, str], only: Sequence[str], every: bool
) -> tuple[list[Proposal], tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """Those to be written, those that are in a draft already, and those that are left out."""
    if unknown := [id for id in only if found.get(id) is None]:
        raise PrincipleError(
            f"there is no proposal {unknown[0]}", hint=f"there are: {', '.join(each.id for each in found.proposals)}"
        )
    named = [each for each in found.proposals if _named(each, only, every)]
    before = tuple((each.id, each.draft) for each in named if each.draft)
    chosen: list[Proposal] = []
    left: list[tuple[str, str]] = []
    for each in named:
        if each.draft:
            continue
        why = "refused" if each.status == "refused" else fault_of(each, clauses, found.language)
        if why and not every:
            raise PrincipleError(
                f"{each.id} cannot be accepted: {why}", hint=f"edit it in {FILE}, or take it out of what is accepted"
            )
        if why:
            left.append((each.id, why))
        else:
            chosen.append(each)
    return chosen, before, tuple(left)


def _without_twins(
    chosen: Sequence[Proposal], base: Constitution | None
) -> tuple[list[Proposal], tuple[tuple[str, str], ...]]:
    """Those that ask something else than the principles that there are and the proposals before them."""
    there: list[Principle] = list(base.principles if base else ())
    kept: list[Proposal] = []
    twins: list[tuple[str, str]] = []
    for each in chosen:
        twin = next((own for own in there if own.id != each.id and same_texts(own, each.principle)), None)
        if each.action == "add" and twin:
            twins.append((each.id, f"has the same texts as {twin.id}"))
            continue
        kept.append(each)
        there.append(each.principle)
    return kept, tuple(twins)


def _named(each: Proposal, only: Sequence[str], every: bool) -> bool:
    return every or (each.id in only if only else each.status == "accepted")


def fault_of(proposal: Proposal, clauses: dict[str, str], language: str = "") -> str:
    """Why it cannot be accepted; empty: it can. What the command that made it found holds until a person edits it.
    clauses: texts by `document#id`; a quote of a clause that is not among them is taken as it is."""
    if proposal.fault and proposal.made == proposal.content:
        return proposal.fault
    if proposal.action == "remove":
        return ""
    principle = proposal.principle
    if fault := next(iter(principle_faults(principle, known(language))), ""):
        return fault
    names = {each.partition("#")[0] for each in clauses}
    if lost := [each for each in principle.clauses if each not in clauses and each.partition("#")[0] in names]:
        return f"{lost[0]} is no clause of the document as it was read last"
    texts = [clauses[each] for each in principle.clauses if each in clauses]
    if principle.quote and texts and not any(principle.quote in text for text in texts):
        return f"its quote is not in {', '.join(principle.clauses)}, word for word"
    return ""


def _clauses(folder: Path) -> dict[str, str]:
    """Texts of the document's clauses by `document#id`; empty where the proposals are of none."""
    path = folder / CLAUSES
    if not path.exists():
        return {}
    try:
        rows = [json.loads(line) for line in text_of(path, f"{folder.name}/{CLAUSES}", PrincipleError).splitlines()]
        return {row["clause"]: row["text"] for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise PrincipleError(
            f"{folder.name}/{CLAUSES}: is not as it was written ({error})", hint="extract writes it again"
        ) from None


def _base(root: Path, found: Proposals, name: str) -> tuple[str, Constitution | None]:
    """Name of the constitution, and its highest version as it is now; None where it is to be begun."""
    name = found.constitution.partition("@")[0] or name
    there = versions(root, name) if (root / name).is_dir() else []
    if not there:
        if found.constitution:
            raise PrincipleError(f"{found.constitution}: the proposals change it, and there is no such constitution")
        return name, None
    highest = there[-1]
    path = path_of(root, name, highest)
    if status(root, name, highest, Lock.read(root)) == "changed":
        raise PrincipleError(
            f"{shown(root, path)}: is locked and its content has changed",
            hint=f"`constitution principles bump {name}` makes your edit the next version; then accept",
        )
    return name, read_constitution(path, shown(root, path))


def _split(chosen: Sequence[Proposal], base: Constitution | None) -> tuple[list[Proposal], list[Proposal]]:
    """What is to be done, and what the base says already: a process may have ended after it wrote the draft."""
    ours: dict[str, Principle] = {each.id: each for each in base.principles} if base else {}
    todo: list[Proposal] = []
    there: list[Proposal] = []
    for each in chosen:
        own = ours.get(each.id)
        if each.action == "remove":
            (todo if own else there).append(each)
        elif own == each.principle:
            there.append(each)
        elif each.action == "add" and own:
            raise PrincipleError(
                f"{base.label if base else ''} has another principle {each.id}",
                hint=f'give the proposal another id in {FILE}, or write action = "replace" to have it take the place',
            )
        elif each.action == "replace" and not own:
            raise PrincipleError(
                f"{each.id}: the proposal rewords a principle that {base.label if base else 'no constitution'} has not",
                hint='write action = "add" to have it added',
            )
        else:
            todo.append(each)
    return todo, there


def _made(
    name: str, version: str, base: Constitution | None, chosen: Sequence[Proposal], found: Proposals
) -> Constitution:
    new = {each.id: each.principle for each in chosen if each.action != "remove"}
    gone = {each.id for each in chosen if each.action == "remove"}
    if base is None:
        about = f"From {found.document}" if found.document else f"From proposals ({found.kind})"
        edition = f", {found.edition}" if found.edition else ""
        return Constitution(
            name, version, f"{about}{edition}.", tuple(new.values()), source=found.document, language=found.language
        )
    kept = [new.pop(each.id, each) for each in base.principles if each.id not in gone]
    principles = (*kept, *new.values())
    if not principles:
        raise PrincipleError(
            f"{base.label}: no principle would be left", hint="a constitution has one or more; keep one, or add one"
        )
    return replace(base, version=version, principles=principles)


def _text(
    root: Path, base: Constitution | None, made: Constitution, chosen: Sequence[Proposal]
) -> tuple[bytes, list[str]]:
    """The draft's text. Where principles are only added, the base's text stays as it is, comments too."""
    text = write_toml(made)
    notes: list[str] = []
    if base is not None:
        path = path_of(root, base.name, base.version)
        longer = _longer(path, shown(root, path), made.version, chosen)
        if longer and _says(longer, made):
            text = longer
        elif path.read_bytes() != write_toml(base).encode("utf-8"):
            notes.append(f"written without the comments and the layout of {base.label}")
    assert _says(text, made), "a draft reads as it was written"
    return text.encode("utf-8"), notes


def _longer(path: Path, label: str, version: str, chosen: Sequence[Proposal]) -> str:
    """The base's text with the proposals after it; empty where some do something else than be added."""
    if any(each.action != "add" for each in chosen):
        return ""
    head = with_version(path, label, version).decode("utf-8")
    more = [line for each in chosen for line in ("", "[[principles]]", *lines_of(each.principle, "principles."))]
    return head.rstrip("\n") + "\n" + "\n".join(more) + "\n"


def _says(text: str, made: Constitution) -> bool:
    try:
        parsed = parse(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return False
    return not parsed.faults and parsed.constitution() == made


def _mark(folder: Path, ids: Sequence[str], label: str) -> None:
    path = folder / FILE
    text = text_of(path, f"{folder.name}/{FILE}", PrincipleError)
    replace_file(path, marked(text, ids, "accepted", label).encode("utf-8"))
