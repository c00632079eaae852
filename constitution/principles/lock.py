"""Locking and bumping. A locked file is never changed by us but to put its locked text back."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from constitution.errors import PrincipleError
from constitution.principles.check import Finding, check, check_file
from constitution.principles.files import (
    Lock,
    create_file,
    kept_path,
    names,
    path_of,
    read_constitution,
    read_raw,
    replace_file,
    resolve,
    shown,
    status,
    version_key,
    versions,
)

Level = Literal["major", "minor", "patch"]


def lock(root: Path, only: tuple[str, ...] = ()) -> tuple[list[str], list[Finding]]:
    """Locks every draft under `root`, or those that `only` names (name or name@version).

    Returns the labels that were locked now, and the findings that kept anything from being locked: with findings,
    nothing is. An existing digest is never changed. Kept copies that are missing are written again.
    """
    held = Lock.read(root)
    _repair_kept(root, held)
    wanted = [resolve(root, name) for name in only]
    if not wanted:
        findings = check(root)
        wanted = [(name, version) for name in names(root) for version in versions(root, name)]
    else:
        findings = [finding for found in wanted for finding in check_file(root, path_of(root, *found), held)]
    if findings:
        return [], findings
    added = []
    for name, version in wanted:
        if held.get(name, version) is None:
            path = path_of(root, name, version)
            replace_file(kept_path(root, name, version), path.read_bytes())
            held.digests.setdefault(name, {})[version] = read_constitution(path, shown(root, path)).digest
            added.append(f"{name}@{version}")
    if added:
        held.write(root)
    return added, []


def _repair_kept(root: Path, held: Lock) -> None:
    for name, version, _ in held.entries():
        kept = kept_path(root, name, version)
        if not kept.exists() and status(root, name, version, held) == "locked":
            replace_file(kept, path_of(root, name, version).read_bytes())


@dataclass(frozen=True, slots=True)
class Bump:
    """What `bump` did."""

    base: str
    """Version whose file the new one was written from."""
    version: str
    """The new version, a draft until it is locked."""
    path: Path
    restored: bool
    """True: the base was a locked file with an edit in it; the edit moved on and the file has its locked text again."""


def bump(root: Path, name_at_version: str, level: Level = "minor") -> Bump:
    """Writes the next version of a constitution.

    Of "name", the base is the locked version that was edited, if there is one, or else the highest version; of
    "name@1.0.0" it is that version. The new file is the base's text with only the version line changed, numbered after
    the highest version. Raises PrincipleError, having written nothing, where the locked text cannot be restored.
    """
    held = Lock.read(root)
    name, highest = resolve(root, name_at_version.partition("@")[0])
    base = resolve(root, name_at_version)[1] if "@" in name_at_version else _base(root, name, highest, held)
    path = path_of(root, name, base)
    label = shown(root, path)
    edited = status(root, name, base, held) == "changed"
    locked_text = _locked_text(root, name, base, held) if edited else b""
    version = next_version(highest, level)
    text = with_version(path, label, version)
    target = path_of(root, name, version)
    create_file(target, text, shown(root, target))
    if edited:  # after the new file is safe: a crash in between loses nothing
        replace_file(path, locked_text)
    return Bump(base, version, target, edited)


def _base(root: Path, name: str, highest: str, held: Lock) -> str:
    there = versions(root, name)
    changed = [version for version in there if status(root, name, version, held) == "changed"]
    if len(changed) > 1:
        raise PrincipleError(
            f"{root.name}/{name}: {len(changed)} locked versions have changed ({', '.join(changed)})",
            hint=f"bump them one by one: `constitution principles bump {name}@{changed[0]}`",
        )
    return changed[0] if changed else highest


def _locked_text(root: Path, name: str, version: str, held: Lock) -> bytes:
    kept = kept_path(root, name, version)
    if read_constitution(kept, shown(root, kept)).digest != held.get(name, version):
        raise PrincipleError(
            f"{shown(root, kept)}: is not the text that was locked, so {name}@{version} cannot be restored from it",
            hint="restore that file from version control",
        )
    return kept.read_bytes()


def next_version(version: str, level: Level) -> str:
    """The release after `version`; of a pre-release such as 2.0.0-rc.1, 2.0.0 counts as the release before."""
    major, minor, patch = version_key(version)[:3]
    if level == "major":
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if level == "minor" else f"{major}.{minor}.{patch + 1}"


_VERSION_LINE = re.compile(r"^([ \t]*(?:version|\"version\"|'version')[ \t]*=[ \t]*)(\"[^\"\n]*\"|'[^'\n]*')", re.M)


def with_version(path: Path, label: str, version: str) -> bytes:
    """The file's text with its top-level version changed, comments, layout and line ends kept."""
    raw = read_raw(path, label)
    text = path.read_bytes().decode("utf-8")
    for match in _VERSION_LINE.finditer(text):
        edited = text[: match.start()] + f'{match.group(1)}"{version}"' + text[match.end() :]
        try:  # a line inside a text may look like it; the right one changes exactly the top-level version
            if tomllib.loads(edited) == {**raw, "version": version}:
                return edited.encode("utf-8")
        except tomllib.TOMLDecodeError:
            continue
    raise PrincipleError(f'{label}: has no line `version = "…"` at its top, which a new version needs')
