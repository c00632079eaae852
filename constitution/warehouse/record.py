"""A run's record as the text of runs/<run_id>.json, and back."""

from __future__ import annotations

import json
import math
import stat
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.errors import DamagedPart, WarehouseError
from constitution.records import Run, Usage
from constitution.warehouse import checksums

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA = 1
"""Version of the layout."""


def render(run: Run) -> bytes:
    """Raises WarehouseError for what JSON cannot hold."""
    try:
        return json.dumps({"schema": SCHEMA, **asdict(run)}, ensure_ascii=False, indent=1, allow_nan=False).encode(
            "utf-8"
        )
    except (ValueError, TypeError) as error:
        raise WarehouseError(f"the record of run {run.run_id} cannot be written: {error}") from None


def read(path: Path) -> Run | None:
    """None: there is no such file. Raises as `parse` does, and WarehouseError where it may not be read: a record that
    another user's umask hides is not damaged."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise DamagedPart(f"{path}: cannot be read as a run: {checksums.NO_FILE}")
        return parse(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f"{path}: cannot be read as a run: {error.strerror or error}"
        if checksums.broken(error):
            raise DamagedPart(reason) from None
        raise WarehouseError(reason, hint="check its permissions, and that the disk answers") from None


def parse(data: bytes, label: str) -> Run:
    """The run whose record `data` is. Raises DamagedPart for what is none, WarehouseError for another version's."""
    from pydantic import ValidationError  # which `constitution sql` need not load

    try:
        found: dict[str, Any] = json.loads(data, parse_constant=_finite, parse_float=_finite)
        schema = found.pop("schema")
        if schema != SCHEMA:
            raise WarehouseError(
                f"{label}: has layout {schema}, this version reads {SCHEMA}",
                hint="use the version of constitution that wrote it",
            )
        # A field of another type would stop who reads it later, and not with one sentence.
        _types().validate_json(data, strict=True)
        found["usage"] = tuple(Usage(**row) for row in found.get("usage", ()))
        found["repairs"] = tuple(found.get("repairs", ()))
        return Run(**found)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        reason = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    except RecursionError:
        reason = "nested too deeply"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error)
    raise DamagedPart(f"{label}: cannot be read as a run: {reason}")


@cache
def _types() -> TypeAdapter[Run]:
    from pydantic import TypeAdapter

    return TypeAdapter(Run)


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{number} is no number of JSON")
    return value
