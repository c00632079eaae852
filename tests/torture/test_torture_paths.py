"""The path above the data changes nothing: a run, its audit and exports under odd names equal those of a plain one."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from conftest import Torture
from run_once import run_once
from small_project import small_project, table

from constitution.audit import audit
from constitution.audit.report import report
from constitution.export import Settings, export
from constitution.warehouse import Warehouse
from constitution.warehouse.schema import TABLES

ODD = (
    *("seed=1", "kind=pilot", "method=rationale", "run_id=other", "preferred=a", "id=", "=", "a=b=c", "model=qwen"),
    *("with blank", " blank first", "blank last ", "two  blanks", "tab\there", "line\nbreak"),
    *("it's", 'say "hi"', "semi;colon", "$HOME", "`ls`", "100%", "%41", "#hash", "a&b", "~", "-dash"),
    *("[a-z]", "*", "{a,b}", "(round)", "!bang", "@at", "+plus", "comma,comma", "colon:colon"),
    *("größe", "gro\u0308ße", "日本語", "🐙", "العربية", "zero\u200bwidth"),
    *("run.parquet", "x.csv", "data.jsonl", "warehouse.duckdb", "_under", ".hidden", "CON", "a" * 200, "..."),
)
"""Names of folders: what Hive, SQL, shells, globs, URLs, Windows and Unicode treat as more than a name."""
SHORT = ("kind=pilot", "it's [a] *\n%41 gro\u0308ße 日本語")
FORMATS = ("dpo", "sft", "reward")


class Made(NamedTuple):
    """All that a run, an audit and its exports leave behind, without times."""

    tables: dict[str, list[dict[str, Any]]]
    report: str
    exports: dict[str, bytes]
    record: dict[str, Any]


def made(folder: Path) -> Made:
    """Runs, audits and exports in `folder`, whose name is also that of the warehouse and of the exports' folders."""
    project = folder / "project" / folder.name
    project.mkdir(parents=True)
    recipe = small_project(project, 6)
    recipe = recipe.rename(project / f"{folder.name[:100]}.toml")
    warehouse = folder / "w" / folder.name
    run = asyncio.run(run_once(recipe, warehouse, []))
    assert run.finished_at is not None
    audit(warehouse, run.run_id, replicates=100)
    out = {format: folder / "exports" / folder.name / format for format in FORMATS}
    for format, where in out.items():
        export(warehouse, run.run_id, Settings(format=format), where)
    assert not [*Warehouse(warehouse).verify(run.run_id)]
    return Made(
        {name: _rows(warehouse, name) for name in TABLES},
        _timeless(report(warehouse, run.run_id)),
        {
            f"{format}/{path.relative_to(where)}": _timeless_bytes(path)
            for format, where in out.items()
            for path in sorted(where.rglob("*"))
            if path.is_file()
        },
        json.loads(
            _timeless(json.dumps(table(warehouse, "SELECT * EXCLUDE (seconds, engines) FROM runs"), default=str))
        ),
    )


def _rows(warehouse: Path, name: str) -> list[dict[str, Any]]:
    """What readers that are not ours see in the table's files, and what SQL says of them: they must agree."""
    files = sorted((warehouse / name).glob("*/*.parquet"))
    stored = [row for path in files for row in pq.ParquetFile(path).read().to_pylist()]
    by_sql = table(warehouse, f"SELECT * EXCLUDE (created_at) FROM {name} ORDER BY ALL")
    columns = [row[0] for row in table(warehouse, f"DESCRIBE {name}")]
    assert len(stored) == len(by_sql)
    kept = [column for column in columns if column != "created_at"]
    return [dict(zip(kept, row, strict=True)) for row in by_sql]


def _timeless(text: str) -> str:
    return re.sub(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(\.\d+)?( UTC|Z|\+00:00)?)?", "TIME", text)


def _timeless_bytes(path: Path) -> bytes:
    return path.read_bytes() if path.suffix == ".parquet" else _timeless(path.read_text(encoding="utf-8")).encode()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("base") / "plain")


def test_the_path_changes_nothing(plain: Made, tmp_path: Path, torture: Torture) -> None:
    for number, name in enumerate(ODD if torture.full else SHORT):
        folder = tmp_path / str(number) / name
        found = made(folder)
        for what in Made._fields:
            assert getattr(found, what) == getattr(plain, what), f"{what} below {name!r}"
        shutil.rmtree(tmp_path / str(number))
        torture.count("odd paths")
