"""Every table's folder opens in the tools that people have, and the views' file in DuckDB 1 and 2.

`make test-tables` runs these in an environment that has all the tools (requirements/tables.txt); elsewhere a tool that
is not installed is skipped. CONSTITUTION_TABLES: the folder of that environment's commands.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from judging_rows import RUN, Scene, answer
from warehouse_page import lines_for, queries
from warehouse_rows import failure

from constitution.records import Shard
from constitution.warehouse import checksums, views
from constitution.warehouse.schema import TABLES

COMMANDS = os.environ.get("CONSTITUTION_TABLES")
PYTHON = f"{COMMANDS}/python" if COMMANDS else sys.executable

TOOLS = {
    "pandas": ("t.read_parquet(folder)", "list(table), len(table)"),
    "polars": ("t.scan_parquet(folder).collect()", "table.columns, len(table)"),
    "pyarrow.parquet": ("t.read_table(folder)", "table.column_names, len(table)"),
    "pyarrow.dataset": ("t.dataset(folder).to_table()", "table.column_names, len(table)"),
    # It knows no split without rows, but streams one.
    "datasets": (
        "t.load_dataset('parquet', data_dir=folder, split='train', streaming=True)",
        "list(table.features), len(list(table))",
    ),
    "duckdb": ("t.read_parquet(folder + '/**/*.parquet', hive_partitioning=False)", "table.columns, len(table)"),
}
"""Module, as `t` → how it opens a folder, and the names of the columns with the number of rows of that."""
LOOP = """
import json, sys, {tool} as t
for root in json.loads(sys.argv[1]):
    found = {{}}
    for name in json.loads(sys.argv[2]):
        folder = root + "/" + name
        table = {opened}
        found[name] = {looked}
    print(json.dumps(found))
"""
PLACES = ("warehouse", "a folder with blanks/ware house", "kind=pilot/run_id=x/warehouse", "größe 你好/ware'house")


def python(tmp_path: Path, code: str, *words: str, cwd: Path | None = None) -> str:
    """What this code prints, in the environment that has the tools."""
    own = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own
    done = subprocess.run(
        [PYTHON, "-c", code, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def require(tool: str) -> None:
    if COMMANDS is None and importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed; make test-tables has it")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one of which has begun and was killed as it wrote a part and merged a table; tables without rows."""
    root = tmp_path_factory.mktemp("tables") / "warehouse"
    scene = Scene()
    for p_b in (0.2, 0.9):
        pair = scene.pair(votes=4, votes_missing=2)
        scene.vote(pair, "kind", p_b, p_b)
        scene.vote(pair, "true", 0.9, p_b)
        scene.say("ann", 1, pair=pair)
    warehouse = scene.write(root)
    warehouse.write_part("failures", "1234", [failure(1, "1234")])
    warehouse.write_part("failures", "1234", [failure(2, "1234")], Shard(3, 16))
    folder = warehouse.folder("failures", "1234")
    (checksums.aside(folder) / ".part-3of16-2.parquet.tmp").write_bytes(b"half")
    shutil.copytree(folder, checksums.aside(folder).with_name(".compact-1234"))
    warehouse.replace_rows("responses", "1234", [])
    return root


def stored(root: Path) -> dict[str, Any]:
    """Columns and rows of each table, as the warehouse itself has them."""
    [counts] = answer(root, "SELECT " + ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in TABLES))
    assert counts["failures"] == 2 <= counts["responses"]
    assert counts["scores"] == 0
    return {name: [table.schema.names, counts[name]] for name, table in TABLES.items()}


@pytest.mark.parametrize("tool", TOOLS)
def test_every_table_opens_as_a_folder(made: Path, tmp_path: Path, tool: str) -> None:
    require(tool.partition(".")[0])
    roots = [str(tmp_path / place) for place in (PLACES if tool != "datasets" else PLACES[-1:])]
    for root in roots:
        shutil.copytree(made, root)
    opened, looked = TOOLS[tool]
    printed = python(
        tmp_path, LOOP.format(tool=tool, opened=opened, looked=looked), json.dumps(roots), json.dumps(list(TABLES))
    )
    assert [json.loads(line) for line in printed.splitlines()] == [stored(made)] * len(roots)


@pytest.mark.parametrize("tool", ["pandas", "polars", "pyarrow", "datasets"])
def test_the_two_lines_of_the_page_open_a_table(made: Path, tmp_path: Path, tool: str) -> None:
    require(tool)
    lines = lines_for(tool).replace("<run_id>", RUN)
    found = python(tmp_path, f"{lines}\nprint(len(answers))", cwd=made.parent)
    assert int(found) == stored(made)["responses"][1]


@pytest.mark.skipif(COMMANDS is None, reason="DuckDB 1 is not installed; make test-tables has it")
def test_the_command_line_of_duckdb_1_answers_the_queries_of_the_page(made: Path, tmp_path: Path) -> None:
    assert COMMANDS
    version = subprocess.run([f"{COMMANDS}/duckdb", "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("v1.")
    names = [row["name"] for row in answer(made, "SELECT view_name AS name FROM duckdb_views() WHERE NOT internal")]
    assert queries()
    for query in [*(each.replace("…", RUN) for each in queries()), *(f"FROM {name} ORDER BY ALL" for name in names)]:
        whole = f"SELECT count(*) AS n FROM ({query.strip().rstrip(';')})"
        done = subprocess.run(
            [f"{COMMANDS}/duckdb", "-readonly", "-json", views.DATABASE, whole],
            cwd=made, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (query, done.stderr)
        assert json.loads(done.stdout) == answer(made, whole), query
