"""Files that people write, read whole and with care: what is no text, too large or no file ends in one sentence.

    data = toml_of(path, str(path), RecipeError)
    data = json_of(path, str(path), PrincipleError)

A pipe or a device would be waited for, or never end; a byte-order mark, which some editors put before a text, is none
of it.
"""

from __future__ import annotations

import json
import math
import stat
import tomllib
from pathlib import Path
from typing import Any

from constitution.errors import InputError

MOST_BYTES = 16 * 2**20
"""Of a recipe, a constitution, a list of swaps."""


def text_of(path: Path, label: str, error: type[InputError], most: int = MOST_BYTES) -> str:
    """The text in `path`, line ends as they are. Raises `error`, whose message begins with `label`."""
    try:
        told = path.stat()
        if not stat.S_ISREG(told.st_mode):
            raise error(f"{label}: is {'a folder' if stat.S_ISDIR(told.st_mode) else 'no regular file'}")
        if told.st_size > most:
            raise error(f"{label}: has {told.st_size / 2**20:,.0f} MiB, and {most / 2**20:g} MiB are taken at the most")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise error(f"{label}: there is no such file") from None
    except UnicodeDecodeError as fault:
        raise error(f"{label}: is not UTF-8 text (byte {fault.start})", hint="save it as UTF-8") from None
    except (OSError, ValueError) as fault:  # ValueError: a NUL in the name
        reason = fault.strerror if isinstance(fault, OSError) else None
        raise error(f"{label}: cannot be read: {reason or fault}") from None


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
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as fault:
        reason = str(fault)
    raise error(f"{label}: not valid JSON: {reason}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(number: str) -> float:
    if not math.isfinite(found := float(number)):
        raise ValueError(f"{number[:40]} is too large a number")
    return found
