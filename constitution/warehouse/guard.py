"""Which statements are queries. The judge is DuckDB's own parser, never a regular expression.

DuckDB can be kept from reading outside a folder by its settings, but not from writing inside it, and its statement type
alone does not say what a statement does: `WITH x AS (COPY … TO …) FROM x` is a SELECT to it, and so is
`FROM query('…')`. So a SELECT is taken apart: every node of its syntax tree must be one that reads, and every table
function one of those below.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
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
    *("provenance", "run_figures", "compare_versions", "compare_principles"),
}

_ONLY_QUERIES = "only queries are answered here: SELECT, FROM, WITH, VALUES, PIVOT, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN"


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises QueryError unless `sql` is one statement that reads and nothing else. Runs nothing of it."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(str(error).rstrip()) from None
    if not statements:
        raise QueryError("there is no query", hint='for example: constitution sql "SELECT count(*) FROM prompts"')
    if len(statements) > 1:
        raise QueryError("more than one statement", hint="ask one query at a time")
    kind = statements[0].type
    if kind == duckdb.StatementType.SELECT:
        _check_tree(connection, sql)
    elif kind == duckdb.StatementType.EXPLAIN:
        check(connection, _explained(sql))
    elif kind == duckdb.StatementType.MULTI:
        _check_pivot(connection, sql)
    else:
        raise QueryError(f"{kind.name.replace('_', ' ')} is not allowed", hint=_ONLY_QUERIES)


def _check_tree(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    ((text,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    tree = json.loads(text)
    if tree.get("error", True):
        raise QueryError(f"this cannot be checked: {tree.get('error_message', 'no syntax tree')}", hint=_ONLY_QUERIES)
    for node in _nodes(tree):
        kind = node.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in READING_NODES:
            raise QueryError(f"{kind.split('_')[0]} inside a query is not allowed", hint=_ONLY_QUERIES)
        if kind == "TABLE_FUNCTION":
            _check_function(str(node["function"].get("function_name", "")))


def _check_function(name: str) -> None:
    if name.lower() not in READING_FUNCTIONS:
        raise QueryError(f"the table function {name} is not allowed", hint="docs/warehouse.md lists those that are")


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


def _check_pivot(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
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
    functions = {str(name).lower() for (name,) in rows.fetchall()} - READING_FUNCTIONS
    for word, following in pairwise(words):
        if following.startswith("(") and (word.lower() in functions or word.endswith('"')):
            raise QueryError(f"calling {word} inside PIVOT is not allowed", hint="docs/warehouse.md lists functions")
