"""JSON that is not one object to a line: an array of rows, objects one after the other, or one object of columns.

DuckDB parts the file into its values, each as the text that it is in the file; what they are is parsed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb

from constitution.errors import PromptError
from constitution.prompts.keys import AnyKeys, is_empty, is_seen
from constitution.prompts.packed import filled, packed_by
from constitution.prompts.row import FREE, MOST_ROW, Row, Unpacked, made, numbered
from constitution.reading import parse_json
from constitution.sandbox import as_pattern, quiet, quoted

BATCH = 128
"""Values in memory at once."""
_ROWS = "write an array of objects, one object to a line, or an object of columns that are equally long"


def read(path: Path, name: str, keys: AnyKeys) -> Iterator[Row]:
    opening, closing = _ends(path)
    is_array = opening == b"["
    if is_array and closing != b"]":  # DuckDB takes one that is cut after a comma for whole
        raise PromptError(f"{path}: not valid JSON: the array does not end, as if the file had been cut", hint=_ROWS)
    texts = _texts(path, is_array)
    first, second = next(texts, None), next(texts, None)
    if first is None:
        return
    if second is None and not is_array:
        data = _object(parse_json(first, str(path), PromptError), str(path))
        yield from numbered(name, str(path), _rows_of(path, data, keys))
        return
    for number, text in enumerate(chain((first,), () if second is None else (second,), texts), 1):
        yield made(f"{name}#{number}", f"{path}, row {number}", partial(_parsed, text))


def _ends(path: Path) -> tuple[bytes, bytes]:
    """The first and the last byte that are no blanks."""
    first = last = b""
    for _, piece in filled(path, _ROWS, whole=False):
        text = piece.strip()
        first, last = first or text[:1], text[-1:]
    return first, last


def _texts(path: Path, is_array: bool) -> Iterator[str]:
    """The JSON of each value of an array, or of each of several values."""
    packed, size = packed_by(path), path.stat().st_size
    count = Unpacked(path, size)
    # One object of columns is as long as its file; DuckDB takes room for the longest value that there may be.
    longest = MOST_ROW if is_array else min(FREE, FREE if packed else max(size + 1, 2**21))
    source = (
        f"read_json_objects({quoted(as_pattern(path))}, format = '{'array' if is_array else 'unstructured'}', "
        f"maximum_object_size = {longest}, compression = '{packed or 'none'}', hive_partitioning = false)"
    )
    with quiet(duckdb.connect(config={"autoinstall_known_extensions": False, "threads": 1})) as connection:
        try:
            for batch in connection.sql(f"SELECT json::VARCHAR AS json FROM {source}").to_arrow_reader(BATCH):
                for text in batch.column(0).to_pylist():
                    count.add(len(text))
                    yield text
        except (duckdb.Error, OSError) as error:  # OSError: Arrow's, of batches after the first
            said = str(error).splitlines()[0]
            too_long = "maximum_object_size" in said
            reason = f"a value is longer than {longest / 2**20:g} MiB" if too_long else f"not valid JSON: {said}"
            raise PromptError(f"{path}: {reason}", hint=_ROWS if too_long else None) from None


def _parsed(text: str, place: str) -> dict[str, Any]:
    return _object(parse_json(text, place, PromptError), place)


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PromptError(f"{place}: expected an object with keys, not {type(value).__name__}", hint=_ROWS)
    return value


def _rows_of(path: Path, data: dict[str, Any], keys: AnyKeys) -> Iterable[dict[str, Any]]:
    """One object as rows: those under the key that the recipe names, its columns, or itself."""
    if keys.rows is not None:
        held = data.pop(keys.rows, None)
        if not isinstance(held, list):
            raise PromptError(f"{path}: {keys.rows!r} is not a list of rows", hint=f"its keys are {', '.join(data)}")
        if shown := [key for key, value in data.items() if is_seen(key) and not is_empty(value)]:
            raise PromptError(f"{path}: beside {keys.rows} has {', '.join(shown)}, which a model would have been shown")
        return [_object(row, f"{path}, row {number}") for number, row in enumerate(held, 1)]
    columns = list(data.values())
    if len(columns) == 1:
        _check_rows(path, data, keys)
    if columns and all(isinstance(column, list) and not _is_turns(column) for column in columns):
        lengths = {name: len(column) for name, column in data.items()}
        if len(set(lengths.values())) == 1:
            return [dict(zip(data, values, strict=True)) for values in zip(*columns, strict=True)]
        raise PromptError(f"{path}: its columns are of different lengths: {_named(lengths)}", hint=_ROWS)
    if (
        columns
        and not _is_turns(columns)
        and all(isinstance(column, dict) for column in columns)
        and len({tuple(c) for c in columns}) == 1
    ):
        return [{name: column[index] for name, column in data.items()} for index in columns[0]]
    _check_rows(path, data, keys)
    return [data]


def _check_rows(path: Path, data: Mapping[str, Any], keys: AnyKeys) -> None:
    """Refuses an object whose rows are in a list below a key that the recipe does not name."""
    lists = [name for name, value in data.items() if isinstance(value, list) and not _is_turns(value) and value]
    if (own := [name for name in lists if isinstance(data[name][0], dict)]) and not keys.named & data.keys():
        raise PromptError(
            f"{path}: is one object, with the keys {', '.join(data)}", hint=f'set prompts.rows = "{own[0]}"'
        )


def _is_turns(values: Iterable[Any]) -> bool:
    """Whether a list may be one conversation."""
    return any(isinstance(value, Mapping) and {"role", "from"} & value.keys() for value in values)


def _named(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {length}" for name, length in lengths.items())
