"""Values of Arrow's columns, as Parquet and DuckDB give them: those that could be text or messages, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from constitution.errors import PromptError
from constitution.reading import parse_json

Convert = Callable[[Any, str], Any]
"""Takes a value and its place."""

_types = pa.types


def is_text(type: pa.DataType) -> bool:
    return any(test(type) for test in (_types.is_string, _types.is_large_string, _types.is_string_view))


def holds_text(type: pa.DataType) -> bool:
    return is_text(type) or isinstance(type, pa.JsonType) or (_types.is_dictionary(type) and is_text(type.value_type))


def is_list(type: pa.DataType) -> bool:
    return any(
        test(type) for test in (_types.is_list, _types.is_large_list, _types.is_fixed_size_list, _types.is_list_view)
    )


def is_readable(type: pa.DataType) -> bool:
    """Whether a leaf's values are what they look like: text, JSON, numbers, true and false. A date, a decimal, a UUID
    or a blob would have to be written as text in one way of many."""
    plain = (_types.is_null, _types.is_boolean, _types.is_integer, _types.is_float32, _types.is_float64)
    return holds_text(type) or any(test(type) for test in plain)


def inner(type: pa.DataType) -> list[tuple[str, pa.DataType]]:
    """What a nested type is made of, with the names of a struct's fields; empty: it is a leaf."""
    if isinstance(type, pa.JsonType):
        return []
    if isinstance(type, pa.BaseExtensionType):
        return inner(type.storage_type)
    if _types.is_map(type):
        return [("", type.key_type), ("", type.item_type)]
    if is_list(type):
        return [("", type.value_type)]
    if _types.is_struct(type):
        return [(field.name, field.type) for field in type]
    return []


def odd_leaf(name: str, type: pa.DataType) -> tuple[str, pa.DataType] | None:
    """The first leaf whose values cannot be taken, and the name of the column or field that it is in."""
    if _types.is_union(type) or (_types.is_map(type) and not is_text(type.key_type)):
        return name, type
    if isinstance(type, pa.BaseExtensionType) and not isinstance(type, pa.JsonType):
        return name, type
    parts = inner(type)
    if not parts and not _types.is_struct(type):
        return None if is_readable(type) else (name, type)
    return next((odd for part, kind in parts if (odd := odd_leaf(part or name, kind)) is not None), None)


def refuse_all(place: str, names: Sequence[str]) -> PromptError:
    """None of the columns is one that a prompt is read from."""
    has = ", ".join(names[:50])
    return PromptError(
        f"{place}, row 1: there is no column of those that are named (it has: {has})",
        hint="name the column in prompts.field or prompts.answers",
    )


def refuse_type(place: str, name: str, type: pa.DataType, hint: str) -> PromptError:
    kind = str(type)
    if isinstance(type, pa.OpaqueType):
        kind = type.type_name
    elif isinstance(type, pa.BaseExtensionType):
        kind = type.extension_name.removeprefix("arrow.")
    return PromptError(f"{place}: {name} is of the type {kind}, which is no text", hint=hint)


def converter(type: pa.DataType) -> Convert | None:
    """What makes the value of what `to_pylist` gives: JSON is parsed, and a map becomes an object; None: nothing."""
    if isinstance(type, pa.JsonType):
        return _parsed
    if _types.is_map(type):
        convert = converter(type.item_type)
        return lambda value, place: None if value is None else _object(value, convert, place)
    if is_list(type):
        if (each := converter(type.value_type)) is None:
            return None
        return lambda value, place: None if value is None else [each(item, place) for item in value]
    if _types.is_struct(type):
        fields = {field.name: convert for field in type if (convert := converter(field.type)) is not None}
        if not fields:
            return None
        return lambda value, place: None if value is None else _struct(value, fields, place)
    return None


def _parsed(value: Any, place: str) -> Any:
    return None if value is None else parse_json(value, place, PromptError)


def _object(pairs: list[tuple[str, Any]], convert: Convert | None, place: str) -> dict[str, Any]:
    value = {key: convert(item, place) if convert else item for key, item in pairs}
    if len(value) < len(pairs):
        raise PromptError(f"{place}: a map has a key twice")
    return value


def _struct(value: dict[str, Any], fields: dict[str, Convert], place: str) -> dict[str, Any]:
    return {key: fields[key](item, place) if key in fields else item for key, item in value.items()}


def values(batch: pa.RecordBatch, converters: dict[str, Convert], place: str, first: int) -> Iterator[dict[str, Any]]:
    """The batch's rows. first: number of its first one, for messages."""
    rows: list[dict[str, Any]] = batch.to_pylist()
    if not converters:
        yield from rows
        return
    for number, row in enumerate(rows, first):
        for name, convert in converters.items():
            row[name] = convert(row[name], f"{place}, row {number}: {name}")
        yield row


def twice(names: list[str], key: str) -> list[str]:
    """The columns that are called `key`, in capitals or not, where they are several and `key` is one of them."""
    alike = [name for name in names if name.casefold() == key.casefold()]
    return alike if len(alike) > 1 and key in alike else []
