"""What `constitution sql` answers, and everything that it must refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from warehouse_rows import PROMPTS, RUN, fill

from constitution.errors import QueryError
from constitution.warehouse import Warehouse, ask, connect
from constitution.warehouse.query import ask_arrow


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
ATTACKS = [
    # writing into the warehouse, which DuckDB's settings allow
    "COPY (SELECT 1) TO '{root}/x.csv'",
    "COPY prompts TO '{root}/x.parquet'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/x.csv'",
    "EXPLAIN /* */ ANALYZE COPY (SELECT 1) TO '{root}/x.csv'",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{root}/x.csv'",
    "WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') FROM x",
    "WITH x AS MATERIALIZED (COPY (SELECT 1) TO '{root}/x.csv') SELECT 1",
    "SELECT * FROM (WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') FROM x)",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') SELECT count(*) FROM x)",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') FROM x",
    "DESCRIBE (WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') FROM x)",
    "COPY (PIVOT responses ON kind USING count(*)) TO '{root}/x.csv'",
    "WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') PIVOT responses ON kind USING count(*)",
    "PIVOT (WITH x AS (COPY (SELECT 1) TO '{root}/x.csv') FROM x) ON column0 USING count(*)",
    "FROM query('WITH x AS (COPY (SELECT 1) TO ''{root}/x.csv'') FROM x')",
    "PIVOT (FROM \"query\"('WITH x AS (COPY (SELECT 1) TO ''{root}/x.csv'') FROM x')) ON column0 USING count(*)",
    "PIVOT (FROM query ('WITH x AS (COPY (SELECT 1) TO ''{root}/x.csv'') FROM x')) ON column0 USING count(*)",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "EXPORT DATABASE '{root}/x'",
    "ATTACH '{root}/x.duckdb' AS x",
    "ATTACH '{root}/warehouse.duckdb' AS x",
    "FROM enable_profiling(save_location = '{root}/x.json')",
    "FROM enable_logging(storage = 'file', storage_path = '{root}/x')",
    "FROM read_duckdb('{root}/warehouse.duckdb', table_name = 'x')",
    # reading what lies outside
    "FROM read_csv('/etc/passwd')",
    "FROM '/etc/passwd'",
    "FROM read_text('/etc/passwd')",
    "FROM read_blob('/proc/self/environ')",
    "FROM read_json('/etc/passwd')",
    "FROM read_text('{root}/../secret.txt')",
    "FROM read_parquet('{root}/../secret.parquet')",
    "FROM '{root}/../secret.parquet'",
    "FROM read_text('{root}-beside/secret.txt')",
    "FROM read_text('../secret.txt')",
    "FROM glob('/etc/*')",
    "FROM glob('{root}/../*')",
    "FROM read_text('{root}/link/secret.txt')",
    "FROM read_text('{root}/link.txt')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM parquet_metadata('/etc/passwd')",
    "SELECT getenv('HOME')",
    "PIVOT (FROM read_text('/etc/passwd')) ON filename USING count(*)",
    # the network and extensions
    "FROM 'http://127.0.0.1:9/x.parquet'",
    "FROM read_csv('https://127.0.0.1:9/x.csv')",
    "FROM 's3://bucket/x.parquet'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL httpfs FROM 'http://127.0.0.1:9'",
    # unlocking, redirecting, changing
    "SET enable_external_access = true",
    "SET GLOBAL lock_configuration = false",
    "RESET allowed_directories",
    "SET VARIABLE root = '/'",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA database_list",
    "CALL enable_logging()",
    "CREATE MACRO provenance(x) AS TABLE SELECT 1",
    "CREATE TEMP TABLE x AS FROM read_text('/etc/passwd')",
    "CREATE SECRET s (TYPE s3)",
    "DROP VIEW prompts",
    "INSERT INTO prompts VALUES (1)",
    "WITH x AS (SELECT 1) INSERT INTO prompts FROM x",
    "WITH x AS (INSERT INTO prompts VALUES (1) RETURNING *) FROM x",
    "DELETE FROM prompts",
    "UPDATE prompts SET id = ''",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "BEGIN",
    "USE system",
    "CHECKPOINT",
    "VACUUM",
    "IMPORT DATABASE '{root}'",
    "COMMENT ON VIEW prompts IS 'mine'",
    "FROM force_checkpoint()",
    "FROM arrow_scan(0::POINTER, 0::POINTER, 0::POINTER)",
    "FROM pandas_scan(1)",
    # two at once, none at all, not SQL
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{root}/x.csv'",
    "SELECT 1; SET VARIABLE root = '/'",
    "",
    " -- nothing",
    ";",
    "EXPLAIN",
    "SELEC 1",
]


def listing(root: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in [root, *root.rglob("*")] if not path.is_symlink()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A warehouse with secrets beside it and links to them in it."""
    place = tmp_path_factory.mktemp("siege")
    warehouse = fill(place / "warehouse")
    (place / "secret.txt").write_text("TOP SECRET")
    pq.write_table(pa.table({"secret": ["TOP SECRET"]}), place / "secret.parquet")
    (place / "warehouse-beside").mkdir()
    (place / "warehouse-beside" / "secret.txt").write_text("TOP SECRET")
    (place / "warehouse" / "link").symlink_to(place)
    (place / "warehouse" / "link.txt").symlink_to(place / "secret.txt")
    return warehouse


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_and_change_nothing(besieged: Warehouse, attack: str) -> None:
    before = listing(besieged.root.parent)
    with connect(besieged.root) as connection:
        query = attack.replace(WAREHOUSE, str(besieged.root))
        with pytest.raises(QueryError) as caught:
            list(ask(connection, query).rows)
        with pytest.raises(QueryError):
            ask_arrow(connection, query).read_all()
        assert "TOP SECRET" not in str(caught.value)
        assert "root:" not in str(caught.value)
        assert list(ask(connection, "SELECT count(*) FROM prompts").rows) == [(PROMPTS,)], "and the views still stand"
    assert listing(besieged.root.parent) == before


def test_each_attack_that_writes_would_write_without_the_guard(tmp_path: Path) -> None:
    """The reason for the guard: DuckDB's own settings let this pass. If this fails, DuckDB has become stricter."""
    warehouse = fill(tmp_path / "warehouse")
    for number, attack in enumerate([ATTACKS[0], ATTACKS[2], ATTACKS[5]]):
        with connect(warehouse.root) as connection:
            target = f"{warehouse.root}/{number}"
            connection.execute(attack.replace("{root}/x", target)).fetchall()
            assert Path(f"{target}.csv").exists()


def test_a_link_to_a_part_outside_is_not_followed(tmp_path: Path) -> None:
    warehouse = fill(tmp_path / "warehouse")
    folder = warehouse.folder("prompts", "planted")
    folder.mkdir()
    (folder / "part-0.parquet").symlink_to(warehouse.parts("prompts", RUN)[0].rename(tmp_path / "outside.parquet"))
    with connect(warehouse.root) as connection, pytest.raises(QueryError, match="Cannot access file"):
        ask(connection, "FROM prompts")
