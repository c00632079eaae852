"""SQL that others wrote, shut in: it reads some folders, writes nothing, and reaches no network.

    connection = duckdb.connect(config=limits())
    shut_in(connection, [folder])
    check(connection, sql)

Two walls. `shut_in`: DuckDB's settings keep it from files outside the folders (symbolic links followed), from attaching
and from extensions, and are locked. `check`: only queries pass, because those settings do not keep DuckDB from writing
into a folder that it may read. The judge is DuckDB's own parser, never a regular expression; its statement type alone
does not say what a statement does: `WITH x AS (COPY … TO …) FROM x` is a SELECT to it, and so is `FROM query('…')`. So
a SELECT is taken apart: every node of its syntax tree must be one that reads, and every table function one of a list.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from secrets import token_hex
from typing import Any

import duckdb

from constitution.errors import QueryError

READING_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}

READING_FUNCTIONS = {
    *("range", "generate_series", "unnest", "repeat", "histogram", "histogram_values", "summary"),
    *("read_parquet", "parquet_scan", "parquet_schema", "parquet_metadata", "parquet_file_metadata"),
    *("parquet_kv_metadata", "read_json", "read_json_auto", "read_json_objects", "read_ndjson", "read_text", "glob"),
    *("json_each", "json_tree"),
    *("duckdb_columns", "duckdb_functions", "duckdb_settings", "duckdb_tables", "duckdb_types", "duckdb_views"),
    *("pragma_table_info", "pragma_version"),
}
"""Table functions that only read."""

FILE_FUNCTIONS = {
    *("read_parquet", "parquet_scan", "read_json", "read_json_auto", "read_json_objects", "read_json_objects_auto"),
    *("read_ndjson", "read_ndjson_auto", "read_ndjson_objects", "read_csv", "read_csv_auto", "read_text", "read_blob"),
    "glob",
}
"""Those that take a file's name first, or a list of them."""

_READERS = {
    ".parquet": "read_parquet",
    **dict.fromkeys((".csv", ".tsv"), "read_csv"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "read_json"),
}
"""What DuckDB reads a file with that is named in place of a table."""

_ABOUT = {"SUMMARIZE", "DESCRIBE", "DESC", "SHOW"}
_WHOLE = {"read_text", "read_blob"}
"""Those that give a file as one value; they know no setting `hive_partitioning`, and add its columns all the same."""
_WHOLE_COLUMNS = ("filename", "content", "size", "last_modified")

MOST_NESTED = 100
"""Brackets inside one another in a query. DuckDB bounds expressions and not queries in queries: 100,000 of these end
the process, in its parser, before anything can be checked."""

_LITERAL = re.compile(rb"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_FILE_NAME = re.compile(r"(['\"]).*\..*\1", re.DOTALL)
_ONLY_QUERIES = "only queries are answered here: SELECT, FROM, WITH, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN"


def as_pattern(folder: Path) -> str:
    """The folder's full path as a glob that finds just it."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(folder.resolve()))


def quoted(text: str) -> str:
    """`text` as a literal of SQL, for where a parameter cannot stand."""
    return "'" + text.replace("'", "''") + "'"


def limits(memory_mib: int | None = None) -> dict[str, Any]:
    """Settings for `duckdb.connect`: no extension is fetched or loaded, and what a query may take is bounded.

    memory_mib: what DuckDB may hold in memory, MiB; None, and at most: half of the machine's. Sorts and joins that
    need more use their own folder among the temporary ones, up to half of what is free there.
    """
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21
    temporary = Path(tempfile.gettempdir())
    return {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "memory_limit": f"{min(memory_mib or half, half)}MiB",
        "temp_directory": str(temporary / f"constitution-sql-{token_hex(8)}"),
        "max_temp_directory_size": f"{shutil.disk_usage(temporary).free // 2**21}MiB",
    }


def quiet(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The same, which draws no progress bar: after two seconds it would be in the midst of what is printed."""
    connection.execute("SET enable_progress_bar = false")
    return connection


def shut_in(connection: duckdb.DuckDBPyConnection, folders: Sequence[Path]) -> None:
    """From now on the connection reads files in `folders` alone, and nothing can change that."""
    # Both spellings: DuckDB checks a pattern as it is written, and then each file that it finds.
    spellings = {f"{way.rstrip('/')}/" for folder in folders for way in (str(folder.resolve()), as_pattern(folder))}
    connection.execute("SET allowed_directories = ?", [sorted(spellings)])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def check(connection: duckdb.DuckDBPyConnection, sql: str, functions: Collection[str] = READING_FUNCTIONS) -> None:
    """Raises QueryError unless `sql` is one statement that reads and nothing else. Runs nothing of it.

    functions: the table functions that it may call, in lower case.
    """
    try:
        _check_nesting(sql.encode().decode())
        statements = connection.extract_statements(sql)
    except UnicodeEncodeError as error:
        raise QueryError(f"character {error.start} of the query is half of a surrogate pair") from None
    except duckdb.Error as error:
        raise QueryError(str(error).rstrip()) from None
    if not statements:
        raise QueryError("there is no query", hint='for example: constitution sql "SELECT count(*) FROM prompts"')
    if len(statements) > 1:
        raise QueryError("more than one statement", hint="ask one query at a time")
    try:
        kind = statements[0].type
    except ValueError:  # DuckDB's parser knows kinds that its Python package does not
        raise QueryError("this kind of statement is not allowed", hint=_ONLY_QUERIES) from None
    if kind == duckdb.StatementType.SELECT:
        _check_tree(connection, sql, functions)
    elif kind == duckdb.StatementType.EXPLAIN:
        check(connection, _explained(sql), functions)
    elif kind == duckdb.StatementType.MULTI:
        _check_pivot(connection, sql, functions)
    else:
        raise QueryError(f"{kind.name.replace('_', ' ')} is not allowed", hint=_ONLY_QUERIES)


def _check_nesting(sql: str) -> None:
    source, depth = sql.encode(), 0
    for place, kind in duckdb.tokenize(sql):
        if kind == duckdb.token_type.operator:
            depth += (source[place] in b"([{") - (source[place] in b")]}")
        if depth > MOST_NESTED:
            raise QueryError(
                f"byte {place} of the query is inside more than {MOST_NESTED} brackets",
                hint="name inner queries in WITH",
            )


def files_in(connection: duckdb.DuckDBPyConnection, sql: str, base: Path | None = None) -> str:
    """`sql`, which `check` has let pass, reading each file by what is in it and not by its path: DuckDB takes every
    `key=value` of a path for a column, which wins over the file's own. Who wants that says `hive_partitioning = true`.

    base: where relative names of files are looked for; None: in the working directory, as DuckDB does. Its search path
    is of no use to a connection that is shut in. A name that is made by an expression stays as it is.
    Raises QueryError for hive_partitioning below a folder that has such a name itself.
    """
    if connection.extract_statements(sql)[0].type == duckdb.StatementType.EXPLAIN:
        explained = _explained(sql)
        return sql.removesuffix(explained) + files_in(connection, explained, base)
    if connection.extract_statements(sql)[0].type != duckdb.StatementType.SELECT:
        return sql  # a PIVOT, which reads no files (_check_pivot)
    text, words = sql.encode(), _words(sql)
    tree = _tree(connection, sql)
    ctes = {str(entry["key"]) for node in _nodes(tree) for entry in (node.get("cte_map") or {}).get("map", ())}
    edits: list[tuple[int, int, str]] = []
    for node in _nodes(tree):
        if node.get("type") == "BASE_TABLE" and not node.get("schema_name") and node["table_name"] not in ctes:
            edits += _named_file(node, words, base)
        elif node.get("type") == "TABLE_FUNCTION":
            edits += _file_call(node, text, words, base)
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new.encode() + text[end:]
    return text.decode()


def files_named(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    """Names of files, which may be patterns, that stand in `sql`, which `check` has let pass."""
    names: set[str] = set()
    if connection.extract_statements(sql)[0].type != duckdb.StatementType.SELECT:
        return []  # a PIVOT, which reads no files
    for node in _nodes(_tree(connection, sql)):
        if node.get("type") == "BASE_TABLE" and "." in str(node.get("table_name")):
            names.add(str(node["table_name"]))
        elif node.get("type") == "TABLE_FUNCTION" and node["function"]["function_name"].lower() in FILE_FUNCTIONS:
            for each in _listed(node["function"]["arguments"][:1]):
                if each.get("type") == "VALUE_CONSTANT" and each["literal"]["kind"] == "STRING":
                    names.add(str(each["literal"]["text"]))
    return sorted(names)


_Words = Sequence[tuple[int, str]]


def _named_file(node: Any, words: _Words, base: Path | None) -> Iterator[tuple[int, int, str]]:
    """`FROM 'x.csv'` as a call of what reads it: from where to where in the text, and what is to be there."""
    name, place = str(node["table_name"]), node["query_location"]
    kinds = Path(re.sub(r"\.(gz|zst)$", "", name.lower())).suffix
    reader = _READERS.get(kinds)
    if place > words[-1][0]:  # SUMMARIZE has no place for it
        place = next((start for start, word in words if _LITERAL.fullmatch(word.encode()) and word[1:-1] == name), -1)
    literal = next((word for start, word in words if start == place), "")
    if reader and literal[:1] in ("'", '"'):
        alias = "" if node.get("alias") or "*" in name else f' AS "{Path(name).name.partition(".")[0]}"'
        call = f"{reader}({quoted(_absolute(name, base))}, hive_partitioning = false){alias}"
        at, word = max(((at, word.upper()) for at, word in words if at < place), default=(0, ""))
        if word == "TABLE" or word in _ABOUT:  # these take a name without FROM, but no call
            call = f"FROM {call}"
        yield at if word == "TABLE" else place, place + len(literal.encode()), call


def _file_call(node: Any, text: bytes, words: _Words, base: Path | None) -> Iterator[tuple[int, int, str]]:
    """The same for a call of a table function that takes files."""
    function = node["function"]
    name = str(function.get("function_name", "")).lower()
    if name not in FILE_FUNCTIONS:
        return
    for each in _listed(function["arguments"][:1]):
        place = each.get("query_location", len(text))
        is_text = each.get("type") == "VALUE_CONSTANT" and each["literal"]["kind"] == "STRING"
        if is_text and place < len(text) and (literal := _LITERAL.match(text, place)):
            yield place, literal.end(), quoted(_absolute(each["literal"]["text"], base))
    start, closing = node["query_location"], _closing(words, node["query_location"])
    above = [part for part in base.resolve().parts if "=" in part] if base else []
    if name in _WHOLE:
        if any(part.split("=")[0] in _WHOLE_COLUMNS for part in above):
            raise QueryError(f"{name} takes the folder {above[0]!r} for a column", hint="give the folder another name")
        yield start, start, f"(SELECT {', '.join(_WHOLE_COLUMNS)} FROM "
        yield closing + 1, closing + 1, ")" if node.get("alias") else f") AS {name}"
    elif (setting := _hive(function["arguments"])) is None:
        if name != "glob":
            yield closing, closing, ", hive_partitioning = false"
    elif above and setting != "false":
        raise QueryError(
            f"hive_partitioning would take the folder {above[0]!r}, which is above the data, for a column",
            hint="give that folder another name, or take the value out of the column `filename` (filename = true)",
        )


def _absolute(name: str, base: Path | None) -> str:
    return name if base is None or name.startswith("/") or "://" in name else f"{as_pattern(base)}/{name}"


def _hive(arguments: Sequence[Any]) -> str | None:
    """What the call says of hive_partitioning; None: nothing."""
    for argument in arguments:
        name, value = str(argument.get("name", "")), argument["expression"]
        if value.get("type") == "COMPARE_EQUAL":  # `name = value` is a comparison until the call is bound
            name, value = str((value["left"].get("column_names") or [""])[0]), value["right"]
        if name.lower() in ("hive_partitioning", "hive_types"):
            return str(value.get("literal", {}).get("text")).lower()
    return None


def _closing(words: _Words, start: int) -> int:
    """Where the bracket is that ends the call which begins at `start`, in bytes."""
    depth = 0
    for place, word in words:
        if place >= start and word[:1] in ("(", ")"):
            depth += 1 if word[0] == "(" else -1
            if not depth:
                return place
    raise QueryError("a call in this query has no closing bracket")


def _listed(arguments: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The expressions, those of a list one by one."""
    for argument in arguments:
        expression = argument["expression"]
        if expression.get("function_name") == "list_value":
            yield from _listed(expression["arguments"])
        else:
            yield expression


def _tree(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """DuckDB's syntax tree of a SELECT. QueryError where it has none."""
    ((text,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    try:
        tree = json.loads(text)
    except RecursionError:
        raise QueryError(
            "the query is too deep: one expression or one FROM has several hundred operators or joins in a row",
            hint="lists do it in one: list_sum([…]), concat(…), x IN (…); or name parts in WITH",
        ) from None
    if tree.get("error", True):
        raise QueryError(f"this cannot be checked: {tree.get('error_message', 'no syntax tree')}", hint=_ONLY_QUERIES)
    return tree


def _check_tree(connection: duckdb.DuckDBPyConnection, sql: str, functions: Collection[str]) -> None:
    for node in _nodes(_tree(connection, sql)):
        kind = node.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in READING_NODES:
            raise QueryError(f"{kind.split('_')[0]} inside a query is not allowed", hint=_ONLY_QUERIES)
        if kind == "TABLE_FUNCTION":
            name = str(node["function"].get("function_name", ""))
            if name.lower() not in functions:
                raise QueryError(
                    f"the table function {name} is not allowed", hint="docs/warehouse.md lists those that are"
                )


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _words(sql: str) -> list[tuple[int, str]]:
    """The tokens of `sql` but comments: where each begins, in bytes, and its text."""
    source = sql.encode()
    tokens = duckdb.tokenize(sql)
    ends = [start for start, _ in tokens[1:]] + [len(source)]
    return [
        (start, source[start:end].decode("utf-8", "replace").strip())
        for (start, kind), end in zip(tokens, ends, strict=True)
        if kind != duckdb.token_type.comment
    ]


def statement(sql: str) -> str:
    """The one statement in `sql`, without its semicolon and what follows it."""
    place = next((start for start, word in _words(sql) if word == ";"), None)
    return sql.encode()[:place].decode()


def _explained(sql: str) -> str:
    """The statement that an EXPLAIN explains: ANALYZE would run it."""
    words = _words(sql)
    place = 1
    if place < len(words) and words[place][1].upper() in ("ANALYZE", "VERBOSE"):
        place += 1
    elif place < len(words) and words[place][1].startswith("("):
        # Options, as in EXPLAIN (FORMAT json) SELECT …; or the query itself, and then nothing follows the bracket.
        closing = next((i for i in range(place, len(words)) if words[i][1].endswith(")")), len(words))
        if closing + 1 < len(words) and words[closing + 1][1] != ";":
            place = closing + 1
    if place >= len(words):
        raise QueryError("EXPLAIN of nothing", hint=_ONLY_QUERIES)
    return sql.encode()[words[place][0] :].decode()


def _check_pivot(connection: duckdb.DuckDBPyConnection, sql: str, functions: Collection[str]) -> None:
    """A PIVOT that has yet to find its columns: several statements to the parser, which shows no tree of them.

    So word by word, refusing more than need be: it must begin as a query, hold no word that begins another kind of
    statement, and call no table function outside the list.
    """
    words = [word for _, word in _words(sql)]
    if words[0].upper() not in ("PIVOT", "PIVOT_WIDER", "FROM", "SELECT", "WITH", "("):
        raise QueryError(f"{words[0].upper()} is not allowed", hint=_ONLY_QUERIES)
    writing = {"COPY", "INSERT", "UPDATE", "DELETE", "MERGE", "CREATE", "DROP", "ALTER", "ATTACH", "EXPORT", "INSTALL"}
    if found := writing.intersection(word.upper() for word in words):
        raise QueryError(f"{min(found)} inside a query is not allowed", hint='a column of that name: "in quotes"')
    rows = connection.execute("SELECT function_name FROM duckdb_functions() WHERE function_type LIKE 'table%'")
    refused = {str(name).lower() for (name,) in rows.fetchall()}.difference(functions)
    for word, following in pairwise(words):
        if following.startswith("(") and (word.lower() in refused or word.endswith('"')):
            raise QueryError(f"calling {word} inside PIVOT is not allowed", hint="docs/warehouse.md lists functions")
        # No tree, so `files_in` cannot say that their paths are no columns.
        if (following.startswith("(") and word.lower() in FILE_FUNCTIONS) or (
            word.upper() in ("FROM", "JOIN", "PIVOT", "PIVOT_WIDER") and _FILE_NAME.fullmatch(following)
        ):
            raise QueryError("PIVOT over a file is not allowed", hint="list its columns: PIVOT … ON kind IN ('a', 'b')")
