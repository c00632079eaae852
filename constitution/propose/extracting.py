"""`extract` in its folder: what is asked, what was answered before, another edition, and the files that are written.

proposals/<name>/proposals.toml    what people read and decide
                 clauses.jsonl     the document's clauses, a line each
                 document.json     which document and edition it is, with its text, and with what it was asked
                 replies.jsonl     every reply of a model
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from constitution.ask.questions import opened
from constitution.documents import Change, Clause, Document, compare
from constitution.engines.identity import model_identity
from constitution.errors import InputError
from constitution.identity import digest
from constitution.principles.files import path_of, read_constitution, replace_file, resolve, versions
from constitution.propose.accept import CLAUSES
from constitution.propose.drafts import MAX_TOKENS
from constitution.propose.editions import Edition, apart, edition_of, follow
from constitution.propose.extract import FAILED, PAIRS, Extraction
from constitution.propose.file import FILE, Note, Proposals, Undrafted, merge, read, write
from constitution.propose.replies import Replies
from constitution.reading import json_of, text_of
from constitution.recipe import ModelSection, Recipe
from constitution.records import Principle
from constitution.templates import EXTRACT

DOCUMENT = "document.json"
STALE = "its clause is no longer in the document as it was: reword it, or refuse it"


@dataclass(frozen=True, slots=True)
class Settings:
    constitution: str = ""
    """name@version that the proposals change; empty: a constitution named as the folder."""
    there: tuple[Principle, ...] = ()
    """The principles that there are, of that constitution's highest version."""
    language: str = ""
    edition: str = ""
    seed: int = 1
    window: int = 8
    limit: int | None = None
    """Clauses to ask about at most; None: all."""
    pairs: int = PAIRS
    max_tokens: int = MAX_TOKENS
    budget: float | None = None
    """In the currency of the model's price; None: none."""


def settings_of(root: Path, name: str, constitution: str = "", recipe: Recipe | None = None, **asked: Any) -> Settings:
    """The settings for proposals called `name` and the constitutions under `root`.

    constitution: the one that they change, if that is not called so too; recipe: whose window and budget hold. Raises
    PrincipleError for an unknown constitution."""
    label = "@".join(resolve(root, constitution)) if constitution else ""
    target = label.partition("@")[0] or name
    there: tuple[Principle, ...] = ()
    if (root / target).is_dir() and (known := versions(root, target)):
        there = read_constitution(path_of(root, target, known[-1])).principles
    if recipe:
        asked |= {"window": recipe.output.window, "budget": recipe.budget.limit if recipe.budget else None}
    return Settings(label, there, **asked)


@dataclass(frozen=True, slots=True)
class Extracted:
    document: Document
    proposals: Proposals
    changes: tuple[Change, ...]
    """Against the edition before; empty: it is the same, or there is none."""
    taken: int
    """Clauses whose outcome was there before."""
    failed: tuple[Undrafted, ...]
    pairs: tuple[int, int]
    """Pairs of drafts that share words, and those of them that were compared."""
    unread: int
    asked: int
    """Requests that went to the model; `kept`: that were answered from replies.jsonl."""
    kept: int
    tokens: tuple[int, int]
    cost: float
    messages: tuple[str, ...]


async def extracting(document: Document, folder: Path, section: ModelSection, settings: Settings) -> Extracted:
    """Raises InputError while another process works in `folder`, PrincipleError for a proposals.toml that cannot be
    read, and what an engine raises that does not open."""
    said: list[str] = []
    with Replies.open(folder / "replies.jsonl") as replies:
        if replies.torn:
            said.append("the last reply was not written to its end; it is asked for again")
        before = read(folder / FILE) if (folder / FILE).exists() else None
        if before and before.kind != "extract":
            raise InputError(f"{folder}: holds proposals of {before.kind}", hint="choose another --name")
        was, asked_with = _stored(folder)
        if was and was.name != document.name:
            said.append(f"{document.name} is taken for another edition of {was.name}, and its clauses are named so")
            document = replace(document, name=was.name)
        identity = model_identity(section)
        now = digest([identity, settings.seed, EXTRACT.digest, settings.language, settings.max_tokens])
        changes = compare(was, document) if was else ()
        known = before if before and was and asked_with == now else None
        if before and not known:
            said.append("asked of another model, or with other settings than before: every clause is asked")
        first = _plan(document, was, changes, known)
        async with opened(section) as engine:
            work = Extraction(
                document, replies.of(engine, identity), settings.seed, settings.window, settings.language,
                settings.edition, settings.max_tokens, over_budget=lambda: _over(settings.budget, section, replies),
            )  # fmt: skip
            await work.draft(first.ask[: settings.limit])
            for place in first.ask[settings.limit :] if settings.limit is not None else ():
                work.reasons[place] = f"{FAILED}not asked yet, by --limit {settings.limit}"
            changed = any(change.kind != "same" for change in changes)
            made = list({each.id: each for each in (*first.kept, *work.proposals)}.values())
            notes = list(_change_notes(before))
            if was and changed:
                made, notes = follow(changes, was, document, made, settings.there)
            made = apart(made, settings.there, _stale(before, first))
            await work.compare(made, settings.there, settings.pairs)
        new = Proposals(
            "extract", settings.constitution, document.name, settings.edition, tuple(made),
            _in_order(document, [*first.undrafted, *work.undrafted]), (*work.notes, *notes),
            settings.language,
        )  # fmt: skip
        if before:
            answered = [place for place in first.ask if not work.reasons.get(place, "").startswith(FAILED)]
            asked = [f"{document.name}#{document.clauses[place].id}" for place in answered]
            new = merge(_standing(before, first, new), new, first.gone, asked)
        said += filter(None, [write(folder, new)])
        _store(folder, document, settings, now)
    cost = _cost(section, replies)
    failed = tuple(each for each in new.undrafted if each.reason.startswith(FAILED))
    return Extracted(
        document, new, changes if changed else (), len(document.clauses) - len(first.ask), failed, work.pairs,
        work.unread, replies.asked, replies.kept, (replies.prompt_tokens, replies.completion_tokens), cost, tuple(said),
    )  # fmt: skip


def _plan(document: Document, was: Document | None, changes: Sequence[Change], known: Proposals | None) -> Edition:
    if was and known:
        return edition_of(changes, was, document, known)
    gone = [f"{document.name}#{change.old.id}" for change in changes if change.old and change.kind != "same"]
    return Edition(tuple(range(len(document.clauses))), (), (), tuple(gone))


def _standing(before: Proposals, first: Edition, new: Proposals) -> Proposals:
    """The earlier proposals with their clauses' new names, without those that are in a draft and have a successor."""
    renamed = {each.id: each for each in first.kept}
    stale, stand = _stale(before, first), []
    for old in before.proposals:
        successor = new.get(old.id)
        if old.draft and successor and successor.action != "add":
            continue
        each = renamed.get(old.id, old)
        if old.id in stale:
            stand.append(replace(each, note=STALE))
        else:
            stand.append(each)
    return replace(before, proposals=tuple(stand))


def _stale(before: Proposals | None, first: Edition) -> set[str]:
    """Ids of proposals that a person edited, and that are in no draft, whose clauses are gone."""
    gone, found = set(first.gone), before.proposals if before else ()
    return {each.id for each in found if each.touched and not each.draft and gone & set(each.principle.clauses)}


def _change_notes(before: Proposals | None) -> Sequence[Note]:
    return [note for note in before.notes if note.kind == "change"] if before else []


def _in_order(document: Document, found: Sequence[Undrafted]) -> tuple[Undrafted, ...]:
    order = {f"{document.name}#{clause.id}": place for place, clause in enumerate(document.clauses)}
    return tuple(sorted(dict.fromkeys(found), key=lambda each: order.get(each.clause, -1)))


def _over(budget: float | None, section: ModelSection, replies: Replies) -> str:
    if budget is None or (spent := _cost(section, replies)) < budget:
        return ""
    return f"not asked, for the budget of {budget:g} is spent ({spent:.4f} by tokens)"


def _cost(section: ModelSection, replies: Replies) -> float:
    price = section.price
    if price is None:
        return 0.0
    return (replies.prompt_tokens * price.input + replies.completion_tokens * price.output) / 1e6


def _stored(folder: Path) -> tuple[Document | None, str]:
    """The document as it was read last, and the digest of what it was asked with."""
    path = folder / DOCUMENT
    if not path.exists():
        return None, ""
    label = f"{folder.name}/{DOCUMENT}"
    try:
        about = json_of(path, label, InputError)
        rows = [json.loads(line) for line in text_of(folder / CLAUSES, label, InputError).splitlines()]
        clauses = tuple(Clause(**_clause(row)) for row in rows)
        return Document(about["name"], about["format"], about["sha256"], about["text"], clauses), about["asked_with"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{label}: is not as it was written ({type(error).__name__}: {error})",
            hint=f"delete it, and {CLAUSES}; replies and proposals stay",
        ) from None


def _clause(row: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in row.items() if name != "clause"}, "heading": tuple(row["heading"])}


def _store(folder: Path, document: Document, settings: Settings, asked_with: str) -> None:
    rows = [{"clause": f"{document.name}#{clause.id}", **asdict(clause)} for clause in document.clauses]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    about = {
        "name": document.name,
        "format": document.format,
        "sha256": document.digest,
        "edition": settings.edition,
        "clauses": len(document.clauses),
        "asked_with": asked_with,
        "text": document.text,
    }
    replace_file(folder / CLAUSES, lines.encode())
    replace_file(folder / DOCUMENT, (json.dumps(about, ensure_ascii=False, indent=1) + "\n").encode())
