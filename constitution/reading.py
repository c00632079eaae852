"""Files that people name, opened and read with care: what is no file, no text or too large ends in one sentence.

    data = toml_of(path, str(path), RecipeError)
    data = json_of(path, str(path), PrincipleError)
    with opened(path, str(path), PromptError) as file:
        ...

A pipe or a device would be waited for, or never end; a byte-order mark, which some editors put before a text, is none
of it.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import stat
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from constitution.errors import InputError

MOST_BYTES = 16 * 2**20
"""Bytes of a recipe, a constitution or a list of swaps."""

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_KINDS |= {stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_FOREIGN = (
    # UTF-32 before UTF-16, whose mark its own begins with.
    *((b"\xff\xfe\x00\x00", "UTF-32"), (b"\x00\x00\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16")),
    *((b"\xfe\xff", "UTF-16"), (b"{\x00", "UTF-16"), (b"\x00{", "UTF-16"), (b"PAR1", "Parquet")),
    *((b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b", "packed by gzip"), (b"BZh", "packed by bzip2")),
    *((b"\x28\xb5\x2f\xfd", "packed by zstd"), (b"\xfd7zXZ\x00", "packed by xz")),
)


def opened(path: Path, label: str, error: type[InputError]) -> io.BufferedReader:
    """`path`, a regular file, open for reading. Raises `error`, whose message begins with `label`."""
    try:
        _check_kind(os.stat(path).st_mode, label, error)
        # Without waiting, and looked at again: what is there may have changed since.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_kind(os.fstat(descriptor).st_mode, label, error)
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise
    except FileNotFoundError:
        raise error(f"{label}: there is no such file", hint="correct the path") from None
    except (OSError, ValueError) as fault:  # ValueError: a NUL in the name
        if isinstance(fault, OSError) and fault.errno == errno.ELOOP:
            raise error(f"{label}: there is no such file (it is a link to itself)", hint="correct the path") from None
        raise error(f"{label}: cannot be read: {_reason(fault)}") from None


def _check_kind(mode: int, label: str, error: type[InputError]) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise error(f"{label}: there is no such file (it is {kind}, not a regular file)", hint="name a file")


def check_file(path: Path, label: str, error: type[InputError]) -> None:
    """Raises `error` unless `path` is a regular file that can be read."""
    opened(path, label, error).close()


def _reason(fault: Exception) -> str:
    return (fault.strerror if isinstance(fault, OSError) else None) or str(fault)


def text_of(path: Path, label: str, error: type[InputError], most: int = MOST_BYTES) -> str:
    """The text in `path`, line ends as they are. Raises `error`, whose message begins with `label`."""
    with opened(path, label, error) as file:
        try:
            data = file.read(most + 1)
        except OSError as fault:
            raise error(f"{label}: cannot be read: {_reason(fault)}") from None
        size = max(len(data), os.fstat(file.fileno()).st_size)
    if len(data) > most:
        raise error(f"{label}: has {size / 2**20:,.0f} MiB, and at most {most / 2**20:g} MiB are taken")
    if kind := foreign(data):
        raise error(f"{label}: is not UTF-8 text but {kind}", hint="save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise error(f"{label}: is not UTF-8 text (byte {fault.start})", hint="save it as UTF-8") from None


def foreign(data: bytes) -> str | None:
    """What a file that begins with `data` is, where its first bytes say that it is no UTF-8 text."""
    return next((kind for magic, kind in _FOREIGN if data.startswith(magic)), None)


def toml_of(path: Path, label: str, error: type[InputError]) -> dict[str, Any]:
    """The TOML in `path`."""
    text = text_of(path, label, error)
    try:
        return tomllib.loads(text)
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as fault:  # TOMLDecodeError is one, and so is what Python says of a number of 5,000 digits
        reason = str(fault)
    raise error(f"{label}: not valid TOML: {reason}")


def json_of(path: Path, label: str, error: type[InputError]) -> Any:
    """The JSON in `path`."""
    return parse_json(text_of(path, label, error), label, error)


def parse_json(text: str, label: str, error: type[InputError]) -> Any:
    """The value that `text` is. As strict as the standard: a key that stands twice in an object, NaN and Infinity are
    refused, where Python would take the last and make numbers of them; so is a number too large for a float."""
    try:
        return _decode(text)
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as fault:
        reason = str(fault)
    raise error(f"{label}: not valid JSON: {reason}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(number: str) -> float:
    if not math.isfinite(found := float(number)):
        raise ValueError(f"{number[:40]} is too large a number")
    return found


# Made once: `json.loads` with settings makes a decoder a call.
_decode = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite).decode
