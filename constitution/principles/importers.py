"""Published principle files, as our constitutions. Four shapes are known, told apart by what they hold:

    {"harmful0": {"prompt": ["\\n\\nCritiqueRequest: … \\n\\nCritique:"], "edit_request": "…"}, …}   critiques
    ["\\nChoose the … Options:", …]                                                       comparison questions
    ["\\n\\nHuman: … \\n\\nAssistant: … \\n\\nCritiqueRequest: … Revision: …", …]               few-shot transcripts
    {"system_chat": [[{role, content}, …], …], "constitutions": [{"critic", "revision"}, …]}

The first three are those of Constitutional AI (arXiv 2212.08073), the last that of an open re-implementation. The
scaffolding around a text is dropped, and nothing else: a key that has no place in our format is an error.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from constitution.errors import PrincipleError
from constitution.principles.files import create_file, is_semver, path_of, shown
from constitution.principles.schema import NAME_PATTERN, parse
from constitution.principles.toml_writer import write_toml
from constitution.reading import json_of
from constitution.records import Constitution, Exemplar, Message, Messages, Principle


@dataclass(slots=True)
class _Imported:
    principles: list[Principle] = field(default_factory=list)
    exemplars: list[Exemplar] = field(default_factory=list)


def import_files(
    files: Sequence[Path],
    root: Path,
    name: str,
    version: str = "1.0.0",
    *,
    source: str = "",
    license: str = "",  # the field's name in the file
) -> Path:
    """Writes principles/<name>/<version>.toml from published `files`, taken together, and returns its path.

    Lists of critiques and lists of comparisons are independent, so each entry becomes a principle of its own. Raises
    PrincipleError for a file of no known shape, and where the target exists.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise PrincipleError(f"--name {name}: a name is lower-case letters, digits and hyphens")
    if not is_semver(version):
        raise PrincipleError(f"--version {version}: is not a semantic version, such as 1.0.0")
    both = _Imported()
    for path in files:
        one = _read(path)
        both.principles += one.principles
        both.exemplars += one.exemplars
    if not both.principles:
        raise PrincipleError(
            f"{_names(files)}: exemplars only, and a constitution needs principles",
            hint="import them together with a file of principles",
        )
    constitution = Constitution(
        name=name,
        version=version,
        description=f"Imported from {_names(files)}.",
        principles=tuple(_unique_ids(both.principles)),
        exemplars=tuple(dict.fromkeys(both.exemplars)),
        source=source,
        license=license,
    )
    target = path_of(root, name, version)
    try:
        text = write_toml(constitution).encode("utf-8")
    except UnicodeEncodeError:
        raise PrincipleError(f"{_names(files)}: holds half a surrogate pair, which is not text") from None
    faults = parse(tomllib.loads(text.decode("utf-8"))).faults
    if faults:  # e.g. two human turns in a row: a file that could not be loaded is not written
        where = f"principle {faults[0].principle}: " if faults[0].principle else ""
        raise PrincipleError(f"{_names(files)}: {where}{faults[0].message}", hint="mend the file, then import")
    create_file(target, text, shown(root, target))
    return target


def _names(files: Iterable[Path]) -> str:
    return ", ".join(path.name for path in files)


def _unique_ids(principles: Iterable[Principle]) -> list[Principle]:
    """The principles, a repeated id numbered on: `compare-0`, `compare-0-2`."""
    taken: set[str] = set()
    out = []
    for principle in principles:
        identifier = principle.id
        for number in itertools.count(2):
            if identifier not in taken:
                break
            identifier = f"{principle.id}-{number}"
        taken.add(identifier)
        out.append(replace(principle, id=identifier))
    return out


def _read(path: Path) -> _Imported:
    data = json_of(path, str(path), PrincipleError)
    if isinstance(data, dict) and "constitutions" in data:
        return _swarm(path, data)
    if isinstance(data, dict) and data and all(isinstance(v, dict) and "edit_request" in v for v in data.values()):
        return _Imported(list(_critique_revision(path, data)))
    if isinstance(data, list) and data and all(isinstance(item, str) for item in data):
        if any("CritiqueRequest:" in item for item in data):
            exemplars = [e for number, item in enumerate(data) for e in _transcript(path, number, item)]
            return _Imported(exemplars=exemplars)
        return _Imported(list(_comparisons(path, data)))
    raise PrincipleError(
        f"{path}: is of no published format that we know", hint="docs/principles.md shows the four formats"
    )


def strip_scaffolding(text: str, opening: str = "", closing: str = "") -> str:
    """`text` without `opening:` before it and `closing:` after it, nor the white space around them."""
    text = text.strip()
    if opening and text.startswith(f"{opening}:"):
        text = text[len(opening) + 1 :]
    if closing and text.endswith(f"{closing}:"):
        text = text[: -len(closing) - 1]
    return text.strip()


def _critique_revision(path: Path, data: dict[str, Any]) -> Iterable[Principle]:
    """Several prompts or edit requests to a key become several principles, which share the weight of one."""
    for key, entry in data.items():
        _only_keys(path, key, entry, {"prompt", "edit_request"})
        critiques, revisions = (_texts(path, key, entry, name) for name in ("prompt", "edit_request"))
        couples = list(itertools.product(critiques, revisions))
        for number, (critique, revision) in enumerate(couples, start=1):
            yield Principle(
                id=_slug(key) + (f"-{number}" if len(couples) > 1 else ""),
                critique_request=strip_scaffolding(critique, "CritiqueRequest", "Critique"),
                revision_request=strip_scaffolding(revision, "RevisionRequest", "Revision"),
                weight=round(1 / len(couples), 6),
                source=f"{path.name}: {key}",
            )


def _comparisons(path: Path, data: list[str]) -> Iterable[Principle]:
    for number, text in enumerate(data):
        question = strip_scaffolding(text, closing="Options")
        _not_empty(path, f"entry {number}", question)
        yield Principle(id=f"compare-{number}", comparison_question=question, source=f"{path.name}: {number}")


_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant|CritiqueRequest|Critique|RevisionRequest|Revision):")
_ROUND = ["CritiqueRequest", "Critique", "RevisionRequest", "Revision"]


def _transcript(path: Path, number: int, text: str) -> Iterable[Exemplar]:
    """One exemplar per round of critique and revision; in a further round, the response is the revision before it. The
    empty "Human:" that closes a transcript is dropped; a new human turn after a revision goes on from that revision."""
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
            request, critique, revision_request, revision = (content for _, content in turns[place : place + 4])
            yield _exemplar(path, f"entry {number}", conversation, (request, critique, revision_request, revision))
            conversation[-1] = Message("assistant", revision)
            place, rounds = place + 4, rounds + 1
        else:
            break
    if first.strip() or place < len(turns) or not rounds or kinds[-1] != "Revision":
        raise PrincipleError(
            f"{path}: entry {number}: expected Human, Assistant, … CritiqueRequest, Critique, RevisionRequest, "
            f"Revision; found {', '.join(kinds) or 'none of them'}",
            hint="docs/principles.md shows the format",
        )


def _swarm(path: Path, data: dict[str, Any]) -> _Imported:
    _only_keys(path, "the file", data, {"system_chat", "constitutions"})
    entries, chats = data["constitutions"], data.get("system_chat", [])
    if not isinstance(entries, list) or not isinstance(chats, list):
        raise PrincipleError(
            f"{path}: constitutions and system_chat must be lists", hint="docs/principles.md shows the format"
        )
    found = _Imported()
    for number, entry in enumerate(entries):
        place = f"constitutions[{number}]"
        _only_keys(path, place, entry, {"critic", "revision"})
        (critique,), (revision,) = (_texts(path, place, entry, name, most=1) for name in ("critic", "revision"))
        found.principles.append(
            Principle(
                id=f"principle-{number}",
                critique_request=strip_scaffolding(critique, "CritiqueRequest", "Critique"),
                revision_request=strip_scaffolding(revision, "RevisionRequest", "Revision"),
                source=f"{path.name}: {place}",
            )
        )
    for number, chat in enumerate(chats):
        found.exemplars.append(_chat(path, f"system_chat[{number}]", chat))
    return found


def _chat(path: Path, place: str, chat: Any) -> Exemplar:
    """A chat whose last four turns are critique request, critique, revision request, revision."""
    if not isinstance(chat, list):
        raise PrincipleError(
            f"{path}: {place}: expected a list of messages", hint="docs/principles.md shows the format"
        )
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
            hint="docs/principles.md shows the format",
        )
    request, critique, revision_request, revision = (message.content for message in messages[-4:])
    return _exemplar(path, place, messages[:-4], (request, critique, revision_request, revision))


def _exemplar(path: Path, place: str, said: Sequence[Message], round_: tuple[str, str, str, str]) -> Exemplar:
    """`said` ends with the response in question; `round_` is critique request, critique, revision request, revision."""
    for message in said:
        _not_empty(path, place, message.content)
    for text in round_:
        _not_empty(path, place, text)
    conversation: Messages = tuple(said[:-1])
    return Exemplar(conversation, said[-1].content, *round_)


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
        raise PrincipleError(f"{path}: {place}: expected an object", hint="docs/principles.md shows the four formats")
    extra = sorted(set(entry) - known)
    if extra:
        raise PrincipleError(
            f"{path}: {place}: {', '.join(extra)} has no place in our format and would be lost",
            hint="remove it from the file, or write it into the principle's texts",
        )


def _not_empty(path: Path, place: str, text: str) -> None:
    if not text.strip():
        raise PrincipleError(f"{path}: {place}: an empty text", hint="complete or remove it, then import")


def _slug(key: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", key.casefold()).strip("-")[:56].rstrip("-")
    return slug or "principle"
