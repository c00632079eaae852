"""The record of a run, or of a shard, as the text of its JSON file, and back."""

from __future__ import annotations

import json
import math
import stat
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from constitution.errors import DamagedPart, WarehouseError
from constitution.records import Run, ShardRecord, Usage
from constitution.warehouse import checksums

SCHEMA = 1
"""Version of the layout."""

T = TypeVar("T", Run, ShardRecord)
KINDS: dict[type, str] = {Run: "run", ShardRecord: "shard"}
"""What a record is of."""


def render(record: Run | ShardRecord) -> bytes:
    """Raises WarehouseError for what JSON cannot hold."""
    try:
        found = {"schema": SCHEMA, **asdict(record)}
        return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False).encode("utf-8")
    except (ValueError, TypeError) as error:
        raise WarehouseError(f"the record of run {record.run_id} cannot be written: {error}") from None


def read(path: Path, kind: type[T]) -> T | None:
    """None: there is no such file. Raises as `parse` does, and WarehouseError where it may not be read: a record that
    another user's umask hides is not damaged."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise DamagedPart(f"{path}: cannot be read as a {KINDS[kind]}: {checksums.NO_FILE}")
        return parse(path.read_bytes(), str(path), kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = f"{path}: cannot be read as a {KINDS[kind]}: {error.strerror or error}"
        if checksums.broken(error):
            raise DamagedPart(reason) from None
        raise WarehouseError(reason, hint="check its permissions, and that the disk answers") from None


def parse(data: bytes, label: str, kind: type[T]) -> T:
    """The run, or shard, whose record `data` is. Raises DamagedPart for what is none, WarehouseError for another
    version's."""
    try:
        found: dict[str, Any] = json.loads(data, parse_constant=_finite, parse_float=_finite)
        schema = found.pop("schema")
        if schema != SCHEMA:
            raise WarehouseError(
                f"{label}: has layout {schema}, this version reads {SCHEMA}",
                hint="use the version of constitution that wrote it",
            )
        # A field of another type would stop who reads it later, and not with one sentence.
        if misfit := _misfit(found, kind, "record"):
            raise ValueError(f"{misfit} is of another type")
        found["usage"] = tuple(Usage(**row) for row in found.get("usage", ()))
        for name in {"repairs", "authors"} & found.keys():
            found[name] = tuple(found[name])
        return kind(**found)
    except RecursionError:
        reason = "nested too deeply"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error)
    raise DamagedPart(f"{label}: cannot be read as a {KINDS[kind]}: {reason}")


def _misfit(value: Any, kind: Any, name: str) -> str | None:
    """The name of what in `value`, as JSON has it, is not of the type `kind`; None: all is. name: of `value`.

    Pydantic would tell too, but takes a tenth of a second to load.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return None
    if origin is dict and isinstance(value, dict):
        parts = [(each, inner[1], key) for key, each in value.items()]
    elif origin is tuple and isinstance(value, list):
        parts = [(each, inner[0], str(place)) for place, each in enumerate(value)]
    elif is_dataclass(kind) and isinstance(value, dict):
        parts = [(value[field], of, field) for field, of in get_type_hints(kind).items() if field in value]
    else:
        types = inner if origin is UnionType else (kind,)
        return None if type(value) in types or (float in types and type(value) is int) else name
    return next(filter(None, (_misfit(each, of, f"{name}.{part}") for each, of, part in parts)), None)


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{number} is no number of JSON")
    return value
