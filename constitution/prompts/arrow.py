"""Rows of Arrow's batches, as Parquet and DuckDB give them: text, JSON, numbers, lists and objects, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from constitution.errors import PromptError
from constitution.prompts.keys import AnyKeys
from constitution.reading import parse_json

Convert = Callable[[Any, str], Any]
"""Takes a value and its place."""

_types = pa.types
_PLAIN = (
    *(_types.is_string, _types.is_large_string, _types.is_string_view, _types.is_null, _types.is_boolean),
    *(_types.is_integer, _types.is_float32, _types.is_float64),
)
"""Types whose values are what they look like. A date, a decimal, a UUID or a blob would have to be written as text in
one way of many."""


def is_list(type: pa.DataType) -> bool:
    return any(
        test(type) for test in (_types.is_list, _types.is_large_list, _types.is_fixed_size_list, _types.is_list_view)
    )


def converters(schema: pa.Schema, keys: AnyKeys, hint: str) -> dict[str, Convert]:
    """By column, what makes its values of those that `to_pylist` gives: JSON is parsed, a map becomes an object, and a
    value of another type than text and numbers is refused, with this hint, in columns that are used."""
    found = {}
    for field in schema:
        strict = keys.uses(field.name) and not keys.lenient
        if convert := _converter(field.type, keys.ignored, hint if strict else None):
            found[field.name] = convert
    return found


def check(place: str, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises PromptError where none of the columns is wanted."""
    if not wanted:
        raise PromptError(
            f"{place}, row 1: there is no column of those that are named (it has: {', '.join(names[:50])})",
            hint="name the column in prompts.field or prompts.answers",
        )


def values(batch: pa.RecordBatch, convert: dict[str, Convert], place: str, first: int) -> Iterator[dict[str, Any]]:
    """The batch's rows. first: number of its first one, for messages."""
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError) as error:  # a time that Python has not
        raise PromptError(f"{place}, row {first} or one of those after it: a value cannot be read: {error}") from None
    for number, row in enumerate(rows, first):
        for name, make in convert.items():
            row[name] = make(row[name], f"{place}, row {number}: {name}")
        yield row


def _converter(type: pa.DataType, ignored: frozenset[str], hint: str | None) -> Convert | None:
    """None: a value is as it comes. hint: of refusing values that are no text; None: they are passed over."""
    if isinstance(type, pa.JsonType):
        return lambda value, place: None if value is None else parse_json(value, place, PromptError)
    if isinstance(type, pa.Bool8Type):  # what DuckDB makes of a truth value
        return None
    if isinstance(type, pa.BaseExtensionType):
        return _refuse(type, hint)
    if _types.is_dictionary(type):
        return _converter(type.value_type, ignored, hint)
    if _types.is_map(type):
        item = _converter(type.item_type, ignored, hint)
        return (
            (lambda value, place: value and _object(value, item, place))
            if _plain(type.key_type)
            else _refuse(type, hint)
        )
    if is_list(type):
        if (each := _converter(type.value_type, ignored, hint)) is None:
            return None
        return lambda value, place: value and [each(item, place) for item in value]
    if _types.is_struct(type):
        fields = {field.name: _converter(field.type, ignored, hint) for field in type if field.name not in ignored}
        made = {name: convert for name, convert in fields.items() if convert is not None}
        return (lambda value, place: value and _struct(value, made, place)) if made else None
    return None if _plain(type) else _refuse(type, hint)


def _plain(type: pa.DataType) -> bool:
    return any(test(type) for test in _PLAIN)


def _refuse(type: pa.DataType, hint: str | None) -> Convert | None:
    if hint is None:
        return None
    kind = str(type)
    if isinstance(type, pa.OpaqueType):
        kind = type.type_name
    elif isinstance(type, pa.BaseExtensionType):
        kind = type.extension_name.removeprefix("arrow.")

    def refuse(value: Any, place: str) -> None:
        if value is not None:
            raise PromptError(f"{place} is of the type {kind}, which is no text", hint=hint)

    return refuse


def _object(pairs: list[tuple[str, Any]], convert: Convert | None, place: str) -> dict[str, Any]:
    value = {key: convert(item, place) if convert else item for key, item in pairs}
    if len(value) < len(pairs):
        raise PromptError(f"{place}: a map has a key twice")
    return value


def _struct(value: dict[str, Any], fields: dict[str, Convert], place: str) -> dict[str, Any]:
    return {key: fields[key](item, f"{place}, {key}") if key in fields else item for key, item in value.items()}
