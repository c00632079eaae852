"""What `constitution sql` answers, and everything that it must refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from warehouse_rows import RUN, fill

from constitution.errors import QueryError
from constitution.warehouse import Warehouse, ask, connect


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Only read from, below."""
    return fill(tmp_path_factory.mktemp("sql") / "warehouse")


@pytest.fixture
def connection(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(warehouse.root) as connection:
        yield connection


# What is answered


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM prompts",
        "FROM responses",
        "TABLE judgements;",
        "VALUES (1), (2)",
        "WITH x AS (SELECT 1 AS a) FROM x",
        "WITH RECURSIVE t(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM t WHERE a < 3) FROM t",
        "SELECT 1 UNION ALL SELECT 2",
        "(SELECT 1)",
        "SHOW TABLES",
        "DESCRIBE responses",
        "SUMMARIZE preferences",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE FROM prompts",
        "EXPLAIN (FORMAT json) SELECT 1",
        "EXPLAIN (SELECT 1)",
        "EXPLAIN /* é ( */ ANALYZE SELECT 'é'",
        "PIVOT responses ON kind USING count(*) GROUP BY model",
        "PIVOT responses ON kind IN ('initial', 'revision') USING count(*)",
        "UNPIVOT (SELECT 1 AS a, 2 AS b) ON a, b",
        "FROM (PIVOT responses ON kind USING count(*))",
        "SELECT * FROM range(3), unnest([1, 2])",
        "FROM runs", "FROM templates", "FROM votes", "FROM pairs", "FROM chains", "FROM failures", "FROM principles",
        f"FROM compare_versions('{RUN}', '{RUN}')",
        "SELECT 'COPY x TO y' AS \"insert\" -- ATTACH",
    ],
)  # fmt: skip
def test_queries_are_answered(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    answer = ask(connection, query)
    assert list(answer.rows)
    assert len(answer.columns) == len(answer.types) >= 1


# What is refused

WAREHOUSE = "{root}"


def test_a_link_to_a_part_outside_is_not_followed(tmp_path: Path) -> None:
    warehouse = fill(tmp_path / "warehouse")
    folder = warehouse.folder("prompts", "planted")
    folder.mkdir()
    (folder / "part-0.parquet").symlink_to(warehouse.parts("prompts", RUN)[0].rename(tmp_path / "outside.parquet"))
    with connect(warehouse.root) as connection, pytest.raises(QueryError, match="Cannot access file"):
        ask(connection, "FROM prompts")
