"""`constitution principles check`: all faults of all files, each with file, principle and remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from constitution.errors import PrincipleError
from constitution.principles.files import (
    KEPT_NAME,
    LOCK_NAME,
    Lock,
    is_semver,
    kept_path,
    names,
    path_of,
    read_constitution,
    read_raw,
    resolve,
    shown,
)
from constitution.principles.languages import known, looks_like, named
from constitution.principles.lint import exemplar_faults, principle_faults, same_texts
from constitution.principles.schema import Parsed, parse
from constitution.principles.texts import own_texts
from constitution.records import Constitution


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. As text: `principles/helpful/1.0.0.toml: principle no-preaching: weight: …`"""

    file: str
    """From the principles folder on, with slashes."""
    principle: str | None
    """Its id; `#3` for the third one where it has none; None: the file as a whole."""
    message: str

    def __str__(self) -> str:
        principle = f"principle {self.principle}: " if self.principle else ""
        return f"{self.file}: {principle}{self.message}"


def check(root: Path, only: Sequence[str] = ()) -> list[Finding]:
    """Every fault of every constitution under `root` and of the lock, sorted by file; empty: all is well.

    only: those of these constitutions alone, as name (all its versions) or name@version. Raises PrincipleError where
    `root` is no folder and where it has none of that name.
    """
    if only:
        lock = Lock.read(root)
        return [finding for path in files_of(root, only) for finding in check_file(root, path, lock)]
    paths = files_of(root)
    findings = [
        Finding(
            shown(root, path),
            None,
            f"lies outside a constitution's folder; move it to {root.name}/<name>/<version>.toml",
        )
        for path in sorted(root.glob("*.toml"))
    ]
    if not paths and not findings:
        findings.append(Finding(f"{root.name}/", None, "there is no constitution here, <name>/<version>.toml"))
    try:
        lock = Lock.read(root)
    except PrincipleError as error:
        lock = Lock({})
        findings.append(_from_error(error, shown(root, root / LOCK_NAME)))
    for path in paths:
        findings += check_file(root, path, lock)
    for name, version, digest in lock.entries():
        findings += _check_locked(root, name, version, digest)
    return [*findings, *_forgotten(root, lock)]


def files_of(root: Path, only: Sequence[str] = ()) -> list[Path]:
    """The files of these constitutions, as name (all its versions) or name@version; of all, where none is named."""
    if not only:
        return [path for name in names(root) for path in sorted((root / name).glob("*.toml"))]
    found: dict[Path, None] = {}
    for label in only:
        name, version = resolve(root, label)
        wanted = [path_of(root, name, version)] if "@" in label else sorted((root / name).glob("*.toml"))
        found |= dict.fromkeys(wanted)
    return list(found)


def notes(root: Path, only: Sequence[str] = ()) -> list[Finding]:
    """What is no fault and should be known of the same files: where the words of a text were not looked through,
    and where they were looked through as another language's. Files that cannot be read are left to `check`."""
    found = []
    for path in files_of(root, only):
        with suppress(PrincipleError):
            constitution = read_constitution(path)
            found += [Finding(shown(root, path), None, message) for message in _language_notes(constitution)]
    return found


def _language_notes(constitution: Constitution) -> Iterator[str]:
    declared, texts = constitution.language, list(own_texts(constitution).values())
    language, like = known(declared), looks_like(texts)
    if language is None:
        yield f"not linted for {declared} (order words, negations, two questions in one); known are {named()}"
    elif like and like is not language and declared:
        yield f"declares {declared}, and its words look {like.name}; they were linted as {language.name}"
    elif like and like is not language:
        yield f'its words look {like.name} and were linted as English; declare it at the top: language = "{like.tag}"'
    elif not declared and any(map(_beyond_latin, texts)):
        yield "its words are not in Latin letters and were linted as English; declare their language at the top"


def _beyond_latin(text: str) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    return sum(letter > "\u024f" for letter in letters) > len(letters) / 2


def check_file(root: Path, path: Path, lock: Lock) -> list[Finding]:
    """Every fault of one constitution file, a broken lock among them."""
    label = shown(root, path)
    name, version = path.parent.name, path.name.removesuffix(".toml")
    locked = lock.get(name, version)
    changed = Finding(
        label,
        None,
        f"is locked and its content has changed; bump it: `constitution principles bump {name}` makes your edit the "
        "next version and restores this one",
    )
    try:
        parsed = parse(read_raw(path, label))
    except PrincipleError as error:
        return [_from_error(error, label)] + ([changed] if locked else [])
    findings = [Finding(label, fault.principle, fault.message) for fault in parsed.faults]
    findings += [Finding(label, None, message) for message in _path_faults(parsed, name, version)]
    findings += [Finding(label, None, message) for message in _translation_faults(root, parsed)]
    findings += _text_findings(parsed, label)
    if locked and (parsed.faults or parsed.constitution().digest != locked):
        findings.append(changed)
    return findings


def _path_faults(parsed: Parsed, name: str, version: str) -> list[str]:
    messages = []
    if not is_semver(version):
        messages.append("the file's name is not a semantic version, such as 1.0.0.toml")
    if parsed.head is None:
        return messages
    if not is_semver(parsed.head.version):
        messages.append(f"version: {parsed.head.version!r} is not a semantic version, such as 1.0.0")
    elif parsed.head.version != version:
        messages.append(f"version: {parsed.head.version!r} is not the file's name, {version}")
    if parsed.head.name != name:
        messages.append(f"name: {parsed.head.name!r} is not the folder's name, {name}")
    return messages


def _translation_faults(root: Path, parsed: Parsed) -> Iterator[str]:
    """Where what the file says it translates is not there, or cannot be read, or is itself."""
    if parsed.head is None or not parsed.head.translation_of:
        return
    original = parsed.head.translation_of
    try:
        name, version = resolve(root, original)
        if (name, version) == (parsed.head.name, parsed.head.version):
            yield f"translation_of: {original} is this very file; name the original"
            return
        read_constitution(path_of(root, name, version), shown(root, path_of(root, name, version)))
    except PrincipleError as error:
        yield f"translation_of: {error}"


def _text_findings(parsed: Parsed, label: str) -> list[Finding]:
    language = known(parsed.head.language if parsed.head else "")
    findings = [
        Finding(label, principle, message)
        for principle, record in parsed.principles
        for message in principle_faults(record, language)
    ]
    for (_, one), (_, other) in combinations(parsed.principles, 2):
        if same_texts(one, other):
            message = f"has the same texts as principle {one.id}; merge them, or tell them apart"
            findings.append(Finding(label, other.id, message))
    for number, exemplar in parsed.exemplars:
        own = list(exemplar_faults(exemplar))
        findings += [Finding(label, None, f"exemplars #{number}, {fault}") for fault in own]
        # Without requests it takes each principle's; its critique must not be one of them.
        borrowing = () if exemplar.critique_request else parsed.principles
        findings += [
            Finding(label, principle, f"exemplars #{number}, {fault}")
            for principle, record in borrowing
            for fault in exemplar_faults(exemplar, record)
            if fault not in own
        ]
        first = next(n for n, other in parsed.exemplars if other == exemplar)
        if first != number:
            findings.append(Finding(label, None, f"exemplars #{number} is exemplars #{first} over again; remove one"))
    return findings


def _check_locked(root: Path, name: str, version: str, digest: str) -> Iterator[Finding]:
    """Faults of one entry of the lock: its file gone, or the kept copy that `bump` restores from gone or changed."""
    path, kept = path_of(root, name, version), kept_path(root, name, version)
    if not path.exists():
        yield Finding(
            shown(root, path),
            None,
            f"is in {LOCK_NAME}, but the file is gone; copy it back from {shown(root, kept)} or version control",
        )
    if not kept.exists():
        yield Finding(
            shown(root, kept),
            None,
            f"the copy that {KEPT_NAME}/ keeps is gone; `constitution principles lock` writes it again",
        )
    elif _digest(kept) != digest:
        message = "is the kept copy of a locked file, and has changed; restore it from version control"
        yield Finding(shown(root, kept), None, message)


def _forgotten(root: Path, lock: Lock) -> Iterator[Finding]:
    """Versions with a kept copy, so locked once, that the lock says nothing of and that read otherwise now."""
    for kept in sorted((root / KEPT_NAME).glob("*/*.toml")):
        path = root / kept.relative_to(root / KEPT_NAME)
        if lock.get(path.parent.name, path.name.removesuffix(".toml")) is not None:
            continue
        if (digest := _digest(path)) is None or digest != _digest(kept):
            yield Finding(
                shown(root, path),
                None,
                f"was locked once and has changed or is gone, but {LOCK_NAME} has no entry for it; restore the lock "
                f"from version control, or remove {shown(root, kept)} if it was never locked",
            )


def _digest(path: Path) -> str | None:
    """Digest of the constitution in the file; None where it cannot be read."""
    try:
        return read_constitution(path).digest
    except PrincipleError:
        return None


def _from_error(error: PrincipleError, label: str) -> Finding:
    return Finding(label, None, str(error).removeprefix(f"{label}: "))
