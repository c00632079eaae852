"""Where constitutions lie, which versions there are, and what the lock holds.

principles/<name>/<version>.toml            one constitution
principles/principles.lock                  name → version → digest of the content
principles/.locked/<name>/<version>.toml    the text as it was locked, so that `bump` can put it back
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from constitution.errors import PrincipleError
from constitution.principles.lint import placeholder_faults
from constitution.principles.schema import NAME_PATTERN, SEMVER_PATTERN, Fault, Parsed, parse
from constitution.principles.texts import TODO, own_texts
from constitution.reading import toml_of
from constitution.records import Constitution, Exemplar, Principle
from constitution.writing import beside

LOCK_NAME = "principles.lock"
KEPT_NAME = ".locked"
_LOCK_HEAD = (
    "# Digests of locked constitutions, written by `constitution principles lock`. A locked file no longer changes.\n"
)

_LIST_HINT = "`constitution principles list` shows what there is"

Status = Literal["draft", "locked", "changed"]


def find_root(start: Path) -> Path:
    """The principles folder of the nearest project: `principles/` in `start` or in a folder above it.

    A Python package of that name does not count. Raises PrincipleError where there is none.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        root = folder / "principles"
        if root.is_dir() and not (root / "__init__.py").exists():
            return root
    raise PrincipleError(
        f"{start}: there is no principles/ folder here or above",
        hint="`constitution init DIR` makes a project, or name the folder with --root",
    )


def version_key(version: str) -> tuple[Any, ...]:
    """Sorts versions as semver does: 1.0.0-rc.1 < 1.0.0 < 1.10.0. Raises ValueError for what is not semver."""
    match = re.fullmatch(SEMVER_PATTERN, version)
    if not match:
        raise ValueError(f"{version!r} is not a semantic version")
    numbers = tuple(int(part) for part in match.group(1, 2, 3))
    parts = match.group(4).split(".") if match.group(4) else []
    labels = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
    return (*numbers, not parts, labels, match.group(5) or "")


def is_semver(version: str) -> bool:
    return re.fullmatch(SEMVER_PATTERN, version) is not None


def names(root: Path) -> list[str]:
    """Names of the constitutions under `root`, in alphabetical order."""
    if not root.is_dir():
        raise PrincipleError(f"{root}: there is no such folder", hint="name the principles folder with --root")
    folders = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(path.name for path in folders if any(path.glob("*.toml")))


def versions(root: Path, name: str) -> list[str]:
    """Versions of `name`, lowest first; files whose name is no version are left out (`check` reports them)."""
    stems = (path.name.removesuffix(".toml") for path in (root / name).glob("*.toml"))
    return sorted(filter(is_semver, stems), key=version_key)


def path_of(root: Path, name: str, version: str) -> Path:
    return root / name / f"{version}.toml"


def kept_path(root: Path, name: str, version: str) -> Path:
    return path_of(root / KEPT_NAME, name, version)


def shown(root: Path, path: Path) -> str:
    """`path` as messages name it: from the principles folder on."""
    return (Path(root.name) / path.relative_to(root)).as_posix()


def read_raw(path: Path, label: str) -> dict[str, Any]:
    """The TOML in `path`. Raises PrincipleError, with line and column where the TOML is wrong."""
    return toml_of(path, label, PrincipleError)


def read_constitution(path: Path, label: str | None = None) -> Constitution:
    """The constitution in `path`, whatever the lock says of it.

    Raises PrincipleError for the first structural fault or unknown placeholder; `check` lists all, and the finer ones.
    """
    label = label or str(path)
    parsed = parse(read_raw(path, label))
    faults = parsed.faults or _placeholder_faults(parsed)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        where = f"principle {faults[0].principle}: " if faults[0].principle else ""
        raise PrincipleError(f"{label}: {where}{faults[0].message}{more}")
    return parsed.constitution()


def _placeholder_faults(parsed: Parsed) -> list[Fault]:
    """A placeholder that does not exist could not be filled in, so a file that has one is not loaded."""
    asked: list[tuple[str | None, str, Principle | Exemplar]] = []
    for label, principle in parsed.principles:
        asked.append((label, "", principle))
        asked += [(label, f"exemplars #{n}, ", exemplar) for n, exemplar in enumerate(principle.exemplars, start=1)]
    asked += [(None, f"exemplars #{number}, ", exemplar) for number, exemplar in parsed.exemplars]
    return [
        Fault(label, f"{place}{name}: {fault}")
        for label, place, record in asked
        for name in ("critique_request", "revision_request")
        for fault in placeholder_faults(getattr(record, name))
    ]


def resolve(root: Path, name_at_version: str) -> tuple[str, str]:
    """`name@1.0.0`, or `name` for its highest version, as (name, version) of a file that exists."""
    name, at, version = name_at_version.partition("@")
    known = names(root)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
        raise PrincipleError(f"{root.name}/: there is no constitution {name!r}; {remedy}", hint=_LIST_HINT)
    there = versions(root, name)
    if not there:
        raise PrincipleError(f"{root.name}/{name}: no file there is named after a version, such as 1.0.0.toml")
    if not at:
        return name, there[-1]
    if version not in there:
        message = f"{root.name}/{name}: there is no version {version!r}; there are: {', '.join(there)}"
        raise PrincipleError(message, hint=_LIST_HINT)
    return name, version


def load_constitution(root: Path, name_at_version: str) -> Constitution:
    """The constitution "name@1.0.0", or the highest version of "name", ready for a run.

    Raises PrincipleError for an unknown one, for the first fault of its file, for a text that is still to be written
    (TODO), and for a locked file whose content has changed: a locked name and version mean one text for ever. A draft,
    which is not locked yet, is fine.
    """
    name, version = resolve(root, name_at_version)
    path = path_of(root, name, version)
    label = shown(root, path)
    constitution = read_constitution(path, label)
    if (constitution.name, constitution.version) != (name, version):
        raise PrincipleError(f"{label}: says that it is {constitution.label}; name and version are those of its path")
    for (principle, place), text in own_texts(constitution).items():
        if text.startswith(TODO):
            where = f"principle {principle}: {place}" if principle else place
            raise PrincipleError(f"{label}: {where} is still to be written", hint=f"it says {text[:60]!r}")
    locked = Lock.read(root).get(name, version)
    if locked is not None and locked != constitution.digest:
        raise PrincipleError(
            f"{label}: is locked and its content has changed",
            hint=f"`constitution principles bump {name}` makes your edit the next version and restores this one",
        )
    return constitution


@dataclass(slots=True)
class Lock:
    """principles.lock: name → version → digest of the content (`records.Constitution.digest`)."""

    digests: dict[str, dict[str, str]]

    @classmethod
    def read(cls, root: Path) -> Lock:
        """Empty where there is no lock yet. Raises PrincipleError for one that is not a lock."""
        path = root / LOCK_NAME
        if not path.exists():
            return cls({})
        raw = read_raw(path, shown(root, path))
        for name, table in raw.items():
            entries = table.items() if isinstance(table, dict) else [("", None)]
            for version, value in entries:
                good = isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value)
                if not (good and is_semver(version) and re.fullmatch(NAME_PATTERN, name)):
                    raise PrincipleError(
                        f"{shown(root, path)}: the entry {name} {version} is no version with a digest of 64 hex digits",
                        hint="restore the lock from version control; it is not edited by hand",
                    )
        return cls(raw)

    def get(self, name: str, version: str) -> str | None:
        return self.digests.get(name, {}).get(version)

    def entries(self) -> list[tuple[str, str, str]]:
        """(name, version, digest), sorted by name and then by version."""
        return [
            (name, version, self.digests[name][version])
            for name in sorted(self.digests)
            for version in sorted(self.digests[name], key=version_key)
        ]

    def write(self, root: Path) -> None:
        lines = [_LOCK_HEAD]
        previous = None
        for name, version, digest in self.entries():
            if name != previous:
                lines.append(f"\n[{name}]\n")
            lines.append(f'"{version}" = "{digest}"\n')
            previous = name
        replace_file(root / LOCK_NAME, "".join(lines).encode())


def status(root: Path, name: str, version: str, lock: Lock) -> Status:
    """draft (not locked) · locked · changed (locked, and the file says something else now or cannot be read)."""
    locked = lock.get(name, version)
    if locked is None:
        return "draft"
    try:
        return "locked" if read_constitution(path_of(root, name, version)).digest == locked else "changed"
    except PrincipleError:
        return "changed"


def replace_file(path: Path, data: bytes) -> None:
    """Writes beside `path` and renames into it: readers see the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def create_file(path: Path, data: bytes, label: str) -> None:
    """Writes a file that must not exist yet. Raises PrincipleError where it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise PrincipleError(
            f"{label}: is there already, and nothing is overwritten", hint="choose another version"
        ) from None
