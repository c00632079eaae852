"""SQL that tries to get out of the warehouse, or to change something: each refused, whoever asks it.

`{root}` is the warehouse's folder (or a recipe's); beside it lie secret.txt and secret.parquet, in it links to them.
More are in test_warehouse_guard.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SECRET = "TOP SECRET"

COPY = "COPY (SELECT 1) TO '{root}/x.csv'"
READS = [
    # paths: what leads out of the folder
    "FROM read_text('{root}/../secret.txt')",
    "FROM read_blob('{root}/../secret.txt')",
    "FROM read_csv('{root}/../secret.txt', header = false)",
    "FROM read_csv_auto('{root}/../secret.txt', header = false)",
    "FROM read_text('{root}/./../secret.txt')",
    "FROM read_text('{root}//../secret.txt')",
    "FROM read_text('{root}/runs/../../secret.txt')",
    "FROM read_text('{root}/link.txt')",
    "FROM read_text('{root}/link/secret.txt')",
    "FROM read_text('{root}/l*.txt')",
    "FROM read_text('{root}/../*.txt')",
    "FROM read_text('{root}/link/*.txt')",
    "FROM read_text(['{root}/../secret.txt'])",
    "FROM read_text('{root}' || '/../secret.txt')",
    "FROM read_text(concat('{root}', '/..', '/secret', '.txt'))",
    "FROM read_text(replace('{root}/xx/secret.txt', 'xx', '..'))",
    "FROM read_text('file://{root}/../secret.txt')",
    "FROM 'file://{root}/../secret.parquet'",
    "FROM '{root}/../secret.parquet'",
    'FROM "{root}/../secret.parquet"',
    'TABLE "{root}/../secret.parquet"',
    "FROM read_parquet('{root}/../secret.parquet', hive_partitioning = true)",
    "FROM parquet_scan(['{root}/link/secret.parquet'])",
    "SUMMARIZE '{root}/../secret.parquet'",
    "SUMMARIZE FROM read_text('{root}/../secret.txt')",
    # where a query may stand inside a query
    "SELECT (SELECT content FROM read_text('{root}/../secret.txt'))",
    "SELECT 1 WHERE EXISTS (FROM read_text('{root}/../secret.txt'))",
    "VALUES ((SELECT content FROM read_text('{root}/../secret.txt')))",
    "SELECT * FROM (VALUES (1)) AS v(a), LATERAL (SELECT content, a FROM read_text('{root}/../secret.txt')) AS t",
    "WITH x AS (FROM read_text('{root}/../secret.txt')) FROM x",
    "WITH x AS MATERIALIZED (FROM read_text('{root}/../secret.txt')) FROM x",
    "SELECT 1 AS a UNION ALL BY NAME (FROM read_text('{root}/../secret.txt'))",
    "SELECT [x.content FOR x IN (SELECT list(t) FROM read_text('{root}/../secret.txt') AS t)]",
    "SELECT * FROM range(2) ORDER BY (SELECT content FROM read_text('{root}/../secret.txt'))",
    "SELECT * FROM range(2) LIMIT (SELECT size FROM read_text('{root}/../secret.txt'))",
    "PIVOT (FROM read_text('{root}/../secret.txt')) ON filename USING any_value(content)",
    "UNPIVOT (SELECT content FROM read_text('{root}/../secret.txt')) ON content",
    "EXPLAIN ANALYZE FROM read_text('{root}/../secret.txt')",
    "FROM query('FROM read_text(''{root}/../secret.txt'')')",
    "FROM query_table('{root}/../secret.parquet')",
    "FROM query_table(['{root}/../secret.parquet'])",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{root}/../secret.txt'')'))",
    "PRAGMA json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{root}/../secret.txt'')'))",
    "FROM glob('{root}/../*')",
    "FROM glob('{root}/link/*')",
    "FROM sniff_csv('{root}/../secret.txt')",
    "FROM parquet_schema('{root}/../secret.parquet')",
    "FROM parquet_metadata('{root}/link/secret.parquet')",
    "FROM parquet_kv_metadata('{root}/../secret.parquet')",
    "FROM parquet_file_metadata('{root}/../secret.parquet')",
]
"""Each tells on an open connection what lies outside, or that it is there."""

WRITES = [
    COPY,
    COPY.lower(),
    f"/* SELECT */ {COPY}",
    f"-- SELECT\n{COPY}",
    f";;; {COPY}",
    f"SELECT 1; {COPY}",
    f"SELECT 1 /* ; */ ; {COPY} --",
    f"EXPLAIN ANALYZE {COPY}",
    f"WITH x AS ({COPY}) FROM x",
    f"WITH x AS MATERIALIZED ({COPY}) SELECT 1",
    f"WITH a AS (SELECT 1), b AS ({COPY}) FROM a, b",
    "COPY (SELECT 1) TO '{root}/x.parquet' (FORMAT parquet)",
    "COPY (SELECT 1 AS a, 2 AS b) TO '{root}/x' (FORMAT csv, PARTITION_BY (a))",
    "EXPORT DATABASE '{root}/x'",
    "ATTACH '{root}/x.duckdb' AS x",
    "ATTACH '{root}/../x.duckdb' (READ_WRITE)",
    f"PREPARE p AS {COPY}; EXECUTE p",
]
"""Each writes on an open connection."""

OTHERS = [
    # the network, extensions, secrets
    "FROM 'http://127.0.0.1:9/x.parquet'",
    "FROM read_text('https://127.0.0.1:9/x')",
    "FROM read_parquet('s3://bucket/x.parquet')",
    "FROM read_parquet('hf://datasets/a/b/x.parquet')",
    "INSTALL httpfs",
    "LOAD '{root}/x.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "CREATE SECRET s (TYPE s3, KEY_ID 'k', SECRET 's')",
    "FROM duckdb_secrets()",
    "FROM which_secret('s3://x', 's3')",
    "SELECT getenv('HOME')",
    # the machine
    "FROM '/etc/passwd'",
    "FROM read_text('/etc/passwd')",
    "FROM read_text('/etc/hostname')",
    "FROM read_blob('/proc/self/environ')",
    "FROM read_text('/proc/self/cmdline')",
    "FROM read_text('/dev/stdin')",
    "FROM read_text('~/.bashrc')",
    "FROM read_text(chr(47) || 'etc' || chr(47) || 'passwd')",
    "FROM glob('/etc/**')",
    # settings, the catalogue, transactions
    "SET enable_external_access = true",
    "SET GLOBAL allowed_directories = ['/']",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET memory_limit = '1TB'",
    "SET temp_directory = '/'",
    "PRAGMA memory_limit = '1TB'",
    "PRAGMA import_database('{root}')",
    "SET VARIABLE root = '/'",
    "CALL pragma_version()",
    "CALL enable_logging(storage = 'file', storage_config = {'path': '{root}'})",
    "FROM duckdb_databases()",
    "FROM duckdb_extensions()",
    "FROM duckdb_temporary_files()",
    "FROM duckdb_logs()",
    "FROM checkpoint()",
    "FROM sql_auto_complete('SELECT')",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW prompts AS SELECT 1",
    "CREATE OR REPLACE TEMP MACRO provenance(x) AS TABLE SELECT 1",
    "ALTER VIEW prompts RENAME TO x",
    "DROP VIEW IF EXISTS prompts",
    "TRUNCATE prompts",
    "MERGE INTO prompts USING (SELECT 1) ON false WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "INSERT INTO prompts SELECT 1",
    "BEGIN; DROP VIEW prompts; COMMIT",
    "DETACH memory",
    "USE temp",
    "DEALLOCATE x",
    "COPY FROM DATABASE memory TO temp",
    "COPY prompts FROM '/etc/passwd'",
    # a COPY deeper in, which DuckDB 2.0 refuses too
    f"SELECT * FROM (WITH x AS ({COPY}) FROM x)",
    f"SELECT (WITH x AS ({COPY}) SELECT count(*) FROM x)",
    f"WITH y AS (WITH x AS ({COPY}) FROM x) FROM y",
    f"SELECT 1 UNION ALL (WITH x AS ({COPY}) SELECT 1 FROM x)",
    f"PIVOT (WITH x AS ({COPY}) FROM x) ON Count USING count(*)",
    f"CREATE MACRO m() AS TABLE (WITH x AS ({COPY}) FROM x); FROM m()",
    # what looks like another statement than it is
    "\uff23\uff2f\uff30\uff39 (SELECT 1) TO '{root}/x.csv'",
    "CO\u200bPY (SELECT 1) TO '{root}/x.csv'",
    "SELECT 1\u037e COPY (SELECT 1) TO '{root}/x.csv'",
    "SELECT 1\x00; COPY (SELECT 1) TO '{root}/x.csv'",
    "\\copy (SELECT 1) TO '{root}/x.csv'",
    ".shell touch {root}/x.csv",
    "SELECT $$; $$ ; COPY (SELECT 1) TO '{root}/x.csv'",
    "SELECT ';' ; COPY (SELECT 1) TO '{root}/x.csv'",
]
"""Refused as well; not tried on an open connection, where some would reach for the network."""


def besiege(place: Path) -> Path:
    """A folder with links in it to secrets beside it."""
    root = place / "root"
    (root / "runs").mkdir(parents=True, exist_ok=True)
    (place / "secret.txt").write_text(SECRET)
    pq.write_table(pa.table({"secret": [SECRET]}), place / "secret.parquet")
    (root / "link").symlink_to(place)
    (root / "link.txt").symlink_to(place / "secret.txt")
    return root


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all that is there, not following links."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        about = path.lstat()
        found[str(path)] = (about.st_size, about.st_mtime_ns)
    return found


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


def check_refused(way: Callable[[], Any], attack: object, error: type[Exception]) -> None:
    answer: Any = None
    try:
        answer = way()
    except error as refused:
        said = str(refused) + str(getattr(refused, "hint", ""))
        assert SECRET not in said, attack
        assert "root:" not in said, attack
    else:
        pytest.fail(f"answered: {attack}: {answer}")
