"""Principles that people have, as our constitutions: published files, told apart by what they hold, and lists.

    {"harmful0": {"prompt": ["\\n\\nCritiqueRequest: … \\n\\nCritique:"], "edit_request": "…"}, …}   critiques
    ["\\nChoose the … Options:", "The AI should …", …]                        questions and statements
    ["\\n\\nHuman: … \\n\\nAssistant: … \\n\\nCritiqueRequest: … Revision: …", …]   few-shot transcripts
    {"system_chat": [[{role, content}, …], …], "constitutions": [{"critic", "revision"}, …]}
    a line, an item, a row or an object for each principle                      lists.py, statements.py

The first three are those of Constitutional AI (arXiv 2212.08073), the fourth that of an open re-implementation. The
scaffolding around a text is dropped, and nothing else: a key that has no place in our format is an error.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from constitution.errors import PrincipleError
from constitution.principles.files import create_file, is_semver, path_of, shown
from constitution.principles.languages import known
from constitution.principles.lists import TABLES, TEXTS, Entry, entries_of, json_lines_of, objects_of, rows_of
from constitution.principles.schema import NAME_PATTERN, parse
from constitution.principles.statements import How, kind_of, principles_of, table_entries
from constitution.principles.toml_writer import write_toml
from constitution.reading import json_of
from constitution.records import Constitution, Exemplar, Message, Principle

ENGLISH = How()
"""Words in English, which the file does not declare; columns by their names."""
_FORMATS = "docs/principles.md shows the formats"


@dataclass(frozen=True, slots=True)
class Imported:
    """What `import_files` did."""

    path: Path
    notes: tuple[str, ...]
    """What lines and rows became, and what was left out."""


def import_files(
    files: Sequence[Path],
    root: Path,
    name: str,
    version: str = "1.0.0",
    *,
    source: str = "",
    license: str = "",  # the field's name in the file
    how: How = ENGLISH,
) -> Imported:
    """Writes principles/<name>/<version>.toml from `files`, taken together.

    Lists of critiques and lists of comparisons are independent, so each entry becomes its own principle. Raises
    PrincipleError for a file of no known shape, and where the target exists.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise PrincipleError(f"--name {name}: a name is lower-case letters, digits and hyphens")
    if not is_semver(version):
        raise PrincipleError(f"--version {version}: is not a semantic version, such as 1.0.0")
    named = ", ".join(path.name for path in files)
    notes: list[str] = []
    found = [each for path in files for each in _read(path, how, notes)]
    principles = [each for each in found if isinstance(each, Principle)]
    if not principles:
        raise PrincipleError(
            f"{named}: exemplars only, and a constitution needs principles",
            hint="import them together with a file of principles",
        )
    constitution = Constitution(
        name=name,
        version=version,
        description=f"Imported from {named}.",
        principles=tuple(_unique_ids(principles)),
        exemplars=tuple(dict.fromkeys(each for each in found if isinstance(each, Exemplar))),
        source=source,
        license=license,
        language=how.language,
    )
    target = path_of(root, name, version)
    try:
        text = write_toml(constitution).encode("utf-8")
    except UnicodeEncodeError:
        raise PrincipleError(f"{named}: holds half a surrogate pair, which is not text") from None
    faults = parse(tomllib.loads(text.decode("utf-8"))).faults
    if faults:  # e.g. two human turns in a row: a file that could not be loaded is not written
        where = f"principle {faults[0].principle}: " if faults[0].principle else ""
        raise PrincipleError(f"{named}: {where}{faults[0].message}", hint="mend the file, then import")
    create_file(target, text, shown(root, target))
    return Imported(target, tuple(notes))


def _unique_ids(principles: Iterable[Principle]) -> Iterator[Principle]:
    """The principles, a repeated id numbered on: `compare-0`, `compare-0-2`."""
    taken: set[str] = set()
    for principle in principles:
        numbered = (f"{principle.id}-{number}" for number in itertools.count(2))
        id = next(each for each in itertools.chain([principle.id], numbered) if each not in taken)
        taken.add(id)
        yield replace(principle, id=id)


def _read(path: Path, how: How, notes: list[str]) -> Iterator[Principle | Exemplar]:
    suffix = path.suffix.casefold()
    if suffix in TEXTS:
        yield from principles_of(entries_of(path, notes), how, notes)
        return
    if suffix in TABLES:
        yield from principles_of(table_entries(path, rows_of(path), how, notes), how, notes)
        return
    data = json_lines_of(path) if suffix == ".jsonl" else json_of(path, str(path), PrincipleError)
    if isinstance(data, dict) and "constitutions" in data:
        yield from _swarm(path, data)
    elif isinstance(data, dict) and data and all(isinstance(v, dict) and "edit_request" in v for v in data.values()):
        yield from _critique_revision(path, data)
    elif isinstance(data, list) and data and all(isinstance(item, str) for item in data):
        if any("CritiqueRequest:" in item for item in data):
            for number, text in enumerate(data):
                yield from _transcript(path, number, text)
        else:
            yield from _texts_of_list(path, data, how, notes)
    elif isinstance(data, list) and data and all(isinstance(item, dict) for item in data):
        _check_pairs(path, data)
        yield from principles_of(table_entries(path, objects_of(path, data), how, notes), how, notes)
    else:
        raise PrincipleError(f"{path}: is of no published format that we know", hint=_FORMATS)


def _texts_of_list(path: Path, texts: Sequence[str], how: How, notes: list[str]) -> Iterator[Principle]:
    """`Options:` at its end says that a text is put to a judge; without it, the text's words say what it is."""
    language, others = known(how.language), []
    for number, text in enumerate(texts):
        question = _stripped(text, closing="Options")
        _not_empty(path, f"entry {number}", question)
        if text.rstrip().endswith("Options:") or (language and kind_of(question, language) == "asks"):
            yield Principle(f"compare-{number}", comparison_question=question, source=f"{path.name}: {number}")
        else:
            others.append(Entry(f"{path.name}: entry {number}", question))
    if others:
        yield from principles_of(others, how, notes)


def _check_pairs(path: Path, data: Sequence[dict[str, Any]]) -> None:
    """The paper's few-shot examples of choices have no principle."""
    keys = {key for item in data for key in item}
    if keys in ({"prompt"}, {"prompt", "corrects", "incorrects"}):
        raise PrincipleError(
            f"{path}: holds worked choices between answers ({', '.join(sorted(keys))}) and no principle",
            hint="a pair of answers is an example: [[principles.examples]] of the principle that it belongs to",
        )


def _stripped(text: str, opening: str = "", closing: str = "") -> str:
    """`text` without `opening:` before it and `closing:` after it, nor the white space around them."""
    text = text.strip().removeprefix(f"{opening}:" if opening else "")
    return text.removesuffix(f"{closing}:" if closing else "").strip()


def _critique_revision(path: Path, data: dict[str, Any]) -> Iterator[Principle]:
    """Several prompts or edit requests to a key become several principles, which share the weight of one."""
    for key, entry in data.items():
        _only_keys(path, key, entry, {"prompt", "edit_request"})
        critiques, revisions = (_texts(path, key, entry, name) for name in ("prompt", "edit_request"))
        couples = list(itertools.product(critiques, revisions))
        slug = re.sub(r"[^a-z0-9]+", "-", key.casefold()).strip("-")[:56].rstrip("-") or "principle"
        for number, (critique, revision) in enumerate(couples, start=1):
            id = slug + (f"-{number}" if len(couples) > 1 else "")
            yield _revising(id, critique, revision, round(1 / len(couples), 6), f"{path.name}: {key}")


def _revising(id: str, critique: str, revision: str, weight: float, source: str) -> Principle:
    return Principle(
        id=id,
        critique_request=_stripped(critique, "CritiqueRequest", "Critique"),
        revision_request=_stripped(revision, "RevisionRequest", "Revision"),
        weight=weight,
        source=source,
    )


_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant|CritiqueRequest|Critique|RevisionRequest|Revision):")
_ROUND = ["CritiqueRequest", "Critique", "RevisionRequest", "Revision"]


def _transcript(path: Path, number: int, text: str) -> Iterator[Exemplar]:
    """One exemplar per round of critique and revision; in a further round, the response is the revision before it. The
    empty "Human:" that closes a transcript is dropped; a new human turn after a revision continues from it."""
    first, *rest = _TURN.split("\n\n" + text.strip())
    turns = [(kind, content.strip()) for kind, content in zip(rest[::2], rest[1::2], strict=True)]
    while turns and turns[-1] == ("Human", ""):
        turns.pop()
    kinds = [kind for kind, _ in turns]
    conversation: list[Message] = []
    place, rounds = 0, 0
    while place < len(turns) and not first.strip():
        kind, content = turns[place]
        if kind in ("Human", "Assistant"):
            conversation.append(Message("user" if kind == "Human" else "assistant", content))
            place += 1
        elif kinds[place : place + 4] == _ROUND and len(conversation) > 1 and conversation[-1].role == "assistant":
            texts = [content for _, content in turns[place : place + 4]]
            yield _exemplar(path, f"entry {number}", conversation, texts)
            conversation[-1] = Message("assistant", texts[-1])
            place, rounds = place + 4, rounds + 1
        else:
            break
    if first.strip() or place < len(turns) or not rounds or kinds[-1] != "Revision":
        raise PrincipleError(
            f"{path}: entry {number}: expected Human, Assistant, … CritiqueRequest, Critique, RevisionRequest, "
            f"Revision; found {', '.join(kinds) or 'none of them'}",
            hint=_FORMATS,
        )


def _swarm(path: Path, data: dict[str, Any]) -> Iterator[Principle | Exemplar]:
    _only_keys(path, "the file", data, {"system_chat", "constitutions"})
    entries, chats = data["constitutions"], data.get("system_chat", [])
    if not isinstance(entries, list) or not isinstance(chats, list):
        raise PrincipleError(f"{path}: constitutions and system_chat must be lists", hint=_FORMATS)
    for number, entry in enumerate(entries):
        place = f"constitutions[{number}]"
        _only_keys(path, place, entry, {"critic", "revision"})
        (critique,), (revision,) = (_texts(path, place, entry, name, most=1) for name in ("critic", "revision"))
        yield _revising(f"principle-{number}", critique, revision, 1.0, f"{path.name}: {place}")
    for number, chat in enumerate(chats):
        yield _chat(path, f"system_chat[{number}]", chat)


def _chat(path: Path, place: str, chat: Any) -> Exemplar:
    """A chat whose last four turns are critique request, critique, revision request, revision."""
    if not isinstance(chat, list):
        raise PrincipleError(f"{path}: {place}: expected a list of messages", hint=_FORMATS)
    for turn in chat:
        _only_keys(path, place, turn, {"role", "content"})
        if not isinstance(turn.get("content"), str):
            raise PrincipleError(f"{path}: {place}: a message's content is no text", hint="complete it, then import")
    messages = [Message(turn.get("role"), turn["content"].strip()) for turn in chat]
    roles = [message.role for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if len(spoken) < 6 or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise PrincipleError(
            f"{path}: {place}: expected user and assistant in turn, the last four being critique request, critique, "
            "revision request and revision",
            hint=_FORMATS,
        )
    return _exemplar(path, place, messages[:-4], [message.content for message in messages[-4:]])


def _exemplar(path: Path, place: str, said: Sequence[Message], texts: Sequence[str]) -> Exemplar:
    """`said` ends with the response in question; `texts`: critique request, critique, revision request, revision."""
    for text in (*(message.content for message in said), *texts):
        _not_empty(path, place, text)
    return Exemplar(tuple(said[:-1]), said[-1].content, *texts)


def _texts(path: Path, place: str, entry: dict[str, Any], name: str, most: int | None = None) -> list[str]:
    """`entry[name]`, a text or a list of them, as a list."""
    value = entry.get(name)
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise PrincipleError(
            f"{path}: {place}: {name} must be a text or a list of texts", hint="complete it, then import"
        )
    if most is not None and len(texts) > most:
        raise PrincipleError(
            f"{path}: {place}: {name} holds {len(texts)} texts where one is expected", hint="split the entry"
        )
    return texts


def _only_keys(path: Path, place: str, entry: Any, known: set[str]) -> None:
    if not isinstance(entry, dict):
        raise PrincipleError(f"{path}: {place}: expected an object", hint=_FORMATS)
    if extra := sorted(set(entry) - known):
        raise PrincipleError(
            f"{path}: {place}: {', '.join(extra)} has no place in our format and would be lost",
            hint="remove it from the file, or write it into the principle's texts",
        )


def _not_empty(path: Path, place: str, text: str) -> None:
    if not text.strip():
        raise PrincipleError(f"{path}: {place}: an empty text", hint="complete or remove it, then import")
