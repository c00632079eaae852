"""proposals/<name>/proposals.toml: what models proposed, for people to read, edit, accept and refuse.

    [[proposals]]
    status = "proposed"            # or accepted, refused: a person's word
    [proposals.principle]          # as in a constitution's file
    id = "charter-3-2"

It lies beside principles/ and is no constitution: no reader of constitutions takes it. `accept` writes drafts from it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from constitution.errors import PrincipleError
from constitution.identity import digest, without_defaults
from constitution.principles.files import replace_file
from constitution.principles.schema import NAME_PATTERN, PrincipleTable
from constitution.principles.toml_writer import basic_string, lines_of
from constitution.reading import toml_of
from constitution.records import Principle

FILE = "proposals.toml"
BEFORE = "proposals.before.toml"
"""What a person's file was before a command wrote it again."""
Kind = Literal["extract", "induce", "improve", "values", "collective"]
Status = Literal["proposed", "accepted", "refused"]
Action = Literal["add", "replace", "remove"]
Force = Literal["", "must", "must-not", "should", "should-not", "may"]
STATUSES: tuple[Status, ...] = get_args(Status)
FORCES: tuple[Force, ...] = get_args(Force)
_TEXTS = ("force", "addressee", "condition", "exception", "note", "fault", "made")
_HEAD = """\
# What a model proposed. Nothing here is in a constitution: write status = "accepted" or "refused", edit what you like,
# then `constitution principles accept {name}` writes a draft from what is accepted.
"""


@dataclass(frozen=True, slots=True)
class Proposal:
    principle: Principle
    status: Status = "proposed"
    action: Action = "add"
    """What accepting it does with the principle of this id: adds it, takes its place, or takes it out."""
    force: Force = ""
    """How the document says it; empty: not from a rule."""
    addressee: str = ""
    """Whom the clause binds."""
    condition: str = ""
    exception: str = ""
    note: str = ""
    """What a person should know before accepting it."""
    fault: str = ""
    """Why it cannot be accepted as it is; empty: it can."""
    draft: str = ""
    """name@version that it was written into; empty: none."""
    made: str = ""
    """Digest of what the model proposed (`Proposal.content`): differs from what is there once a person edited it."""

    @property
    def id(self) -> str:
        return self.principle.id

    @property
    def content(self) -> str:
        """16 hex digits of what was proposed, without what becomes of it."""
        said = [self.action, self.force, self.addressee, self.condition, self.exception]
        return digest([without_defaults(self.principle), *said])[:16]

    @property
    def touched(self) -> bool:
        """Whether a person, or `accept`, has been here."""
        return self.status != "proposed" or bool(self.draft) or self.made != self.content

    def sealed(self) -> Proposal:
        return replace(self, made=self.content)


@dataclass(frozen=True, slots=True)
class Undrafted:
    """A clause of the document that no proposal came from."""

    clause: str
    """`charter#3.2`."""
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """What concerns several proposals, or a proposal and a principle that there is."""

    kind: Literal["duplicate", "contradiction", "change"]
    ids: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Proposals:
    kind: Kind
    constitution: str = ""
    """name@version that they change; empty: a constitution is to be begun, named as the folder."""
    document: str = ""
    """Name of the document, as before the # of clauses."""
    edition: str = ""
    proposals: tuple[Proposal, ...] = ()
    undrafted: tuple[Undrafted, ...] = ()
    notes: tuple[Note, ...] = ()
    language: str = ""
    """The language of its words, as a constitution's file declares it."""

    def get(self, id: str) -> Proposal | None:
        return next((each for each in self.proposals if each.id == id), None)


def folder_of(root: Path, name: str, given: Path | None = None) -> Path:
    """proposals/<name> beside the principles folder `root`, or in the folder `given`. PrincipleError for what is no
    name, and for a folder within principles/, where readers of constitutions look."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise PrincipleError(f"--name {name}: a name is lower-case letters, digits and hyphens", hint="")
    parent = (given or root.parent / "proposals").resolve()
    if parent == root.resolve() or root.resolve() in parent.parents:
        raise PrincipleError(
            f"{parent}: lies in {root.name}/, where constitutions are; proposals are none",
            hint="give a folder elsewhere with --proposals",
        )
    return parent / name


# ---- reading -------------------------------------------------------------------------------------------------------


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Proposal(_Table):
    principle: PrincipleTable
    status: Status = "proposed"
    action: Action = "add"
    force: Force = ""
    addressee: str = ""
    condition: str = ""
    exception: str = ""
    note: str = ""
    fault: str = ""
    draft: str = ""
    made: str = ""


class _Undrafted(_Table):
    clause: str
    reason: str


class _Note(_Table):
    kind: Literal["duplicate", "contradiction", "change"]
    ids: list[str]
    text: str


class _File(_Table):
    kind: Kind
    constitution: Annotated[str, StringConstraints(pattern=r"^$|^[a-z0-9][a-z0-9-]*@\S+$")] = ""
    document: str = ""
    edition: str = ""
    language: str = ""
    proposals: list[_Proposal] = []
    undrafted: list[_Undrafted] = []
    notes: list[_Note] = []


def read(path: Path) -> Proposals:
    """The proposals in a file. Raises PrincipleError with all that is wrong with the first faulty field."""
    label = f"{path.parent.name}/{path.name}"
    return proposals_of(toml_of(path, label, PrincipleError), label)


def proposals_of(raw: Mapping[str, Any], label: str) -> Proposals:
    try:
        found = _File.model_validate(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ", ".join(f"#{part + 1}" if isinstance(part, int) else str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        raise PrincipleError(f"{label}: {place}: {message}", hint="mend the file; nothing was written") from None
    made = tuple(
        Proposal(**{**each.model_dump(exclude={"principle"}), "principle": each.principle.record})
        for each in found.proposals
    )
    ids = [each.id for each in made]
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        raise PrincipleError(f"{label}: the id {twice[0]} is there {ids.count(twice[0])} times", hint="ids are unique")
    return Proposals(
        found.kind,
        found.constitution,
        found.document,
        found.edition,
        made,
        tuple(Undrafted(each.clause, each.reason) for each in found.undrafted),
        tuple(Note(each.kind, tuple(each.ids), each.text) for each in found.notes),
        found.language,
    )


# ---- writing -------------------------------------------------------------------------------------------------------


def render(found: Proposals, name: str) -> str:
    """The file's text: `read` gives the same proposals back."""
    return "\n".join([_HEAD.format(name=name), *_lines(found)]) + "\n"


def _lines(found: Proposals) -> Iterator[str]:
    for key in ("kind", "constitution", "document", "edition", "language"):
        if getattr(found, key):
            yield f"{key} = {basic_string(getattr(found, key))}"
    for each in found.proposals:
        yield from ("", "[[proposals]]", f"status = {basic_string(each.status)}")
        if each.draft:
            yield f"draft = {basic_string(each.draft)}"
        if each.action != "add":
            yield f"action = {basic_string(each.action)}"
        yield from (f"{key} = {basic_string(text)}" for key in _TEXTS if (text := getattr(each, key)))
        yield from ("", "[proposals.principle]", *lines_of(each.principle, "proposals.principle."))
    for gap in found.undrafted:
        yield from ("", "[[undrafted]]", *(f"{key} = {basic_string(text)}" for key, text in asdict(gap).items()))
    for note in found.notes:
        ids = ", ".join(map(basic_string, note.ids))
        yield from ("", "[[notes]]", f'kind = "{note.kind}"', f"ids = [{ids}]", f"text = {basic_string(note.text)}")


def write(folder: Path, found: Proposals) -> str:
    """Writes proposals.toml in `folder`. Where a person has written comments there, the old file is kept beside it, and
    the sentence that is returned says so.

    Raises PrincipleError for a text that UTF-8 cannot hold."""
    path = folder / FILE
    try:
        data = render(found, folder.name).encode("utf-8")
    except UnicodeEncodeError:
        raise PrincipleError(f"{folder.name}/{FILE}: holds half a surrogate pair, which is not text") from None
    assert proposals_of(tomllib.loads(data.decode()), FILE) == found, "a file of proposals reads as it was written"
    said = ""
    old = path.read_bytes() if path.exists() else data
    if old != data and old != render(read(path), folder.name).encode("utf-8"):
        replace_file(folder / BEFORE, old)
        said = f"{folder.name}/{FILE} is written again without its comments; as it was, it is {BEFORE}"
    replace_file(path, data)
    return said


def merge(old: Proposals, new: Proposals, gone: Sequence[str] = (), asked: Sequence[str] | None = None) -> Proposals:
    """What `new` proposes, and of `old` all that people edited or decided, as it was. gone: clauses that are no longer
    in the document, whose untouched proposals are dropped. asked: clauses that `new` covers; None: all. Untouched
    proposals of others stay."""
    kept: dict[str, Proposal] = {}
    for each in old.proposals:
        clauses = set(each.principle.clauses)
        covered = asked is None or bool(clauses & set(asked))
        if each.touched or not (clauses & set(gone) or covered):
            kept[each.id] = each
    fresh = {each.id: each for each in new.proposals}
    made = [kept.pop(id, each) for id, each in fresh.items()]
    return replace(new, proposals=(*made, *kept.values()))


def marked(text: str, ids: Sequence[str], status: Status, draft: str) -> str:
    """The file's text with the status and the draft of these proposals, comments and layout kept. Raises PrincipleError
    where a proposal has no line of its own `status = "…"`."""
    lines = text.split("\n")
    for id in ids:
        raw = tomllib.loads("\n".join(lines))
        number = next(n for n, each in enumerate(raw["proposals"]) if each["principle"]["id"] == id)
        raw["proposals"][number] |= {"status": status, "draft": draft}
        places = [n for n, line in enumerate(lines) if line.strip().startswith("status") and "=" in line]
        for place in sorted(places, key=lambda at: abs(places.index(at) - number)):
            edited = [*lines]
            edited[place : place + 1] = [f'status = "{status}"', f"draft = {basic_string(draft)}"]
            if _loads("\n".join(edited)) == raw:
                lines = edited
                break
        else:
            raise PrincipleError(f'{id}: has no line `status = "…"` to be marked in', hint=f"write draft = {draft!r}")
    return "\n".join(lines)


def _loads(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
