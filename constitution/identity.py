"""Ids, digests and seeds: the one place that they come from.

Everything is SHA-256 over canonical JSON (sorted keys, no spaces, UTF-8), so equal content has an equal id on every
machine, and a seed depends on what it is for, never on the order in which work completes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import orjson

ROWS_VERSION = 1
"""Version of what decides a run's rows beside its recipe: our own code. It is in the run's id, in place of our version,
so that an open run resumes under a later release. To be raised with a change by which the same recipe makes other rows:
another order of drawing, another reading of replies, another default of a field (fields at their defaults are not in
the id, so that a new one leaves all ids alone)."""

# Made once: `json.dumps` with settings makes an encoder a call, which doubles the time of a row's id.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical_json(value: Any) -> bytes:
    """`value` (dicts with strings as keys, lists, strings, numbers, booleans, None) as the one byte string for it.

    Raises ValueError for NaN and infinities, and for text that UTF-8 cannot hold (lone surrogates).
    """
    return _encode(value).encode("utf-8")


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hex digits. For content: constitutions, principles, templates, models."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def without_defaults(record: Any, *names: str) -> Any:
    """A record (a dataclass) as JSON has it, and the records in it, without fields at their defaults, so that a digest
    stays when a later version knows another field. names: further fields to leave out."""
    if isinstance(record, list | tuple):
        return [without_defaults(value) for value in record]
    if not is_dataclass(record) or isinstance(record, type):
        return record
    found = {}
    for field in fields(record):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        value = getattr(record, field.name)
        if field.name not in names and value != default:
            found[field.name] = without_defaults(value)
    return found


def row_id(*parts: Any) -> str:
    """128 bits of the digest of `parts`, 32 hex digits: no collision is to be expected below 10^18 rows."""
    return _digest_of_names(parts)[:32]


def seed(run_seed: int, *parts: Any) -> int:
    """A seed in [0, 2^31) for the use that `parts` name; 31 bits are what every engine takes."""
    return int(_digest_of_names((run_seed, *parts))[:8], 16) & 0x7FFFFFFF


def _digest_of_names(parts: tuple[Any, ...]) -> str:
    """`digest` of texts and whole numbers (no fractions), of which orjson writes the same bytes in half the time."""
    try:
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()
    except TypeError:  # a number of more than 64 bits, or text that UTF-8 cannot hold, for which `digest` raises
        return digest(parts)
