"""What the parts of a folder must be: checksums/<table>/<run_id>/SHA256SUMS, which `sha256sum -c` reads in the folder.

    # 48213 part-0.parquet
    7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730  part-0.parquet

The comment is the size in bytes, so that a look without reading the parts tells a truncated one. A part is named here
before it is renamed into place: a kill in between leaves a name without a part, and its temporary file, but never a
part without a name. A part that takes the place of another has two lines for that moment, and either may hold. A folder
that takes the place of another has its sums in SHA256SUMS.next until it has done so: the parts tell which ones hold.

Sums, files that are being written and locks are in this other folder because pandas, polars and others take every file
of a table's folder for Parquet, and of folders in it, polars takes hidden ones too.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from constitution.writing import beside

FOLDER = "checksums"
SUMS = "SHA256SUMS"
NEXT = "SHA256SUMS.next"

MISSING = "is missing"
ALTERED = "is not what was written"
UNKNOWN = "was not written by a run"
NO_FILE = "is no regular file"

_BROKEN = {errno.EIO, errno.EBADMSG, *(getattr(errno, name) for name in ("EUCLEAN", "ENODATA") if hasattr(errno, name))}
"""What a disk says of content that is lost. Another error is the reader's: it may not read, a share does not answer."""

_LINES = re.compile(r"^# ([0-9]{1,18}) (\S+)\n([0-9a-f]{64})  (\S+)$", re.MULTILINE)
_TEMPORARY = re.compile(r"\.(.+?\.parquet)\.(?:[0-9a-f]+\.)?tmp")
_TRIES = 5


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """`folder`, flushed in its parent, which must exist: what is stored never makes a warehouse that is gone again."""
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


class Sum(NamedTuple):
    digest: str
    """SHA-256, hex."""
    size: int
    """Bytes."""


class HashedFile(io.BufferedWriter):
    """A new file that knows the sum of what was written to it, one byte after the other."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "xb"))
        self._digest, self._size = hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        self._digest.update(data)
        written = super().write(data)
        self._size += written
        return written

    def sync(self) -> None:
        self.flush()
        os.fsync(self.fileno())

    @property
    def sum(self) -> Sum:
        return Sum(self._digest.hexdigest(), self._size)


def aside(folder: Path) -> Path:
    """Where what belongs to a run's folder of a table and is no part of it lies; it need not exist."""
    table = folder.parent
    return table.parent / FOLDER / table.name / folder.name


def make_aside(folder: Path) -> Path:
    """The same, made if need be, as far as there is the warehouse: WAREHOUSE/checksums/<table>/<run_id>."""
    found = aside(folder)
    if not folder.parent.is_dir():  # in an empty folder that took the warehouse's place nothing is made
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder.parent))
    for each in (found.parent.parent, found.parent, found):
        make_folder(each)
    return found


def sum_of(path: Path) -> Sum:
    with path.open("rb") as file:
        return Sum(hashlib.file_digest(file, "sha256").hexdigest(), file.tell())


def read(folder: Path) -> dict[str, list[Sum]]:
    """What each part may be; empty where nothing was ever named (the file was lost, or there is no folder)."""
    now, then = (_read(aside(folder) / name) for name in (SUMS, NEXT))
    if not then:
        return now
    names = then if _taken(_parts(folder), now, then) else now
    return {name: now.get(name, []) + then.get(name, []) for name in names}


def read_sums(path: Path) -> dict[str, list[Sum]]:
    """What the file says that parts may be; empty: there is none, or it is no text."""
    return _read(path)


def _read(path: Path) -> dict[str, list[Sum]]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            return {}
        return _parsed(path.read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _taken(parts: Iterable[str], now: Mapping[str, Any], then: Mapping[str, Any]) -> bool:
    """Whether the folder that was to take another's place has done so, by the names of the parts that are there."""
    there = set(parts)
    new, old = (there & (one.keys() - other.keys()) for one, other in ((then, now), (now, then)))
    return len(new) > len(old) or (len(new) == len(old) and there == then.keys() != now.keys())


def announce(folder: Path, sums: Mapping[str, Sum]) -> None:
    """What the parts of the folder are that is about to take the place of this one; `settle` says how it ended."""
    _replace(make_aside(folder) / NEXT, {name: [sum] for name, sum in sums.items()})


def settle(folder: Path) -> None:
    """What was announced holds from now on, or is forgotten, as the parts that are there have it."""
    path = aside(folder) / NEXT
    if not path.is_file():
        return
    with _alone(folder) as file:
        now, then, there = _parsed(_content(file)), _read(path), _parts(folder)
        taken = _taken(there, now, then)
        if set(there) == then.keys() == now.keys():
            taken = all(sum_of(folder / name) in sums for name, sums in then.items())
        if taken:
            path.rename(aside(folder) / SUMS)
        else:
            path.unlink()
        sync_folder(path.parent)


@contextmanager
def naming(path: Path, sum: Sum) -> Iterator[None]:
    """Names the part `path` before the block puts it in its place; where that fails, nothing was named.

    Where the sums were lost, the parts that are there already are named as well, as they are.
    """
    with _alone(path.parent) as file:
        content = _content(file)
        before = file.tell()
        lines = b"" if content.endswith("\n") or not before else b"\n"  # a kill may have cut the last line short
        # Of tens of thousands of names none is looked at but this one: all shards of a run wait here for each other.
        again = f"  {path.name}\n" in content
        if not _LINES.search(content):
            known = {name: [sum_of(path.parent / name)] for name in _parts(path.parent)}
            again = path.name in known
            lines += _text(known)
        try:
            _append(file, lines + _text({path.name: [sum]}))
            yield
        except OSError:
            file.truncate(before)
            raise
        if again:
            _rewrite(path.parent, {**_parsed(_content(file)), path.name: [sum]})


def forget(folder: Path, names: Iterable[str]) -> None:
    """These parts of the folder are no more."""
    gone = set(names)
    if not gone.isdisjoint(_read(aside(folder) / SUMS)):
        with _alone(folder) as file:
            _rewrite(folder, {name: sums for name, sums in _parsed(_content(file)).items() if name not in gone})


def forget_interrupted(folder: Path, begins: str = "") -> None:
    """Parts that were named and, by a kill, never put in their place: their temporary files tell. begins: of those
    whose names begin so, while others may be written."""
    forget(folder, (name for name in _interrupted(folder) if name.startswith(begins)))


def check(folder: Path, *, read_parts: bool = True) -> dict[str, str]:
    """What is wrong with the folder's parts, by name. read_parts: False looks at names and sizes alone.

    Others may be writing: what is found is looked at again until it stays the same.
    """
    found: dict[str, str] = {}
    for _ in range(_TRIES):
        before, found = found, _look(folder, read_parts)
        if found == before:
            break
    return found


def unchecked(folder: Path) -> list[str]:
    """Parts of which nothing can be said: their sums were lost."""
    return [] if read(folder) else _parts(folder)


def _look(folder: Path, read_parts: bool) -> dict[str, str]:
    expected = read(folder)
    if not expected:
        path = aside(folder) / SUMS
        return {SUMS: NO_FILE} if os.path.lexists(path) and not path.is_file() else {}
    there = _parts(folder)
    found = {name: UNKNOWN for name in there if name not in expected}
    interrupted = _interrupted(folder)
    for name, sums in expected.items():
        if name not in there:
            if name not in interrupted:
                found[name] = MISSING
        elif fault := _fault(folder / name, sums, read_parts):
            found[name] = fault
    return found


def _fault(path: Path, sums: list[Sum], read_part: bool) -> str:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return NO_FILE
        if found.st_size not in {sum.size for sum in sums}:
            return ALTERED
        return ALTERED if read_part and sum_of(path) not in sums else ""
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        if not broken(error):
            raise
        return f"cannot be read: {error.strerror or error}"


def broken(error: OSError) -> bool:
    """Whether a file that cannot be read for this reason is damaged, so that quarantining it loses nothing."""
    return error.errno is None or error.errno in _BROKEN  # None: Arrow's word for content


def _parts(folder: Path) -> list[str]:
    """What a reader's glob finds in the folder."""
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".parquet") and not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _interrupted(folder: Path) -> set[str]:
    """Names that have a temporary file and no part."""
    try:
        names = os.listdir(aside(folder))
    except FileNotFoundError:
        return set()
    there = _parts(folder)
    return {match[1] for name in names if (match := _TEMPORARY.fullmatch(name)) and match[1] not in there}


@contextmanager
def _alone(folder: Path) -> Iterator[io.FileIO]:
    """The folder's sums, made if need be; no other process changes them or puts a part in its place meanwhile."""
    path = make_aside(folder) / SUMS
    while True:
        with io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644), "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if is_there(file.fileno(), path):  # else another took its place while we waited
                yield file
                return


def is_there(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that is at `path` now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _rewrite(folder: Path, sums: Mapping[str, list[Sum]]) -> None:
    """In place of the folder's sums, which `_alone` holds."""
    _replace(aside(folder) / SUMS, sums)


def _replace(path: Path, sums: Mapping[str, list[Sum]]) -> None:
    temporary = beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(_text(sums))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _append(file: io.FileIO, data: bytes) -> None:
    while data:
        data = data[file.write(data) :]
    os.fsync(file.fileno())


def _content(file: io.FileIO) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _parsed(text: str) -> dict[str, list[Sum]]:
    found: dict[str, list[Sum]] = {}
    for match in _LINES.finditer(text):
        if match[2] == match[4]:
            found.setdefault(match[4], []).append(Sum(match[3], int(match[1])))
    return found


def _text(sums: Mapping[str, list[Sum]]) -> bytes:
    lines = (f"# {sum.size} {name}\n{sum.digest}  {name}\n" for name, each in sums.items() for sum in each)
    return "".join(lines).encode("utf-8")
