"""`constitution warehouse convert`: warehouses that older versions of the program wrote, kept as they were written.

tests/older/format-1.tar.gz is from 29 November, before tables had a format and folders their present names: answers
that came with prompts are samples, spoiled ones variants, people's words labels. format-2.tar.gz is from a day later.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from kept_warehouse import files_of
from warehouse_rows import fill

from constitution.cli import app
from constitution.errors import ConstitutionError
from constitution.warehouse import Warehouse
from constitution.warehouse.schema import TABLES
from constitution.warehouse.upkeep import older

KEPT = Path(__file__).parent / "older"
VERSIONS = ("format-1", "format-2")


@pytest.fixture
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = tmp_path / "old"
    with tarfile.open(KEPT / f"{request.param}.tar.gz") as archive:
        archive.extractall(root, filter="data")
    return root


def command(root: Path, *words: str) -> tuple[int, str]:
    try:
        words = ("warehouse", "convert", *words, "--warehouse", str(root))
        done = CliRunner().invoke(app, words, catch_exceptions=False)
    except ConstitutionError as error:
        return 2, str(error)
    return done.exit_code, done.output


def written(root: Path, table: str) -> pa.Table:
    """What lies there, read by Arrow alone."""
    folders = older.FOLDERS.get(table, (table,))
    parts = sorted(path for name in folders for path in root.glob(f"{name}/*/part-*.parquet"))
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in parts]) if parts else pa.table({})


@pytest.mark.parametrize("old", VERSIONS, indirect=True)
def test_every_row_of_an_older_warehouse_is_there_again(old: Path, tmp_path: Path) -> None:
    before = files_of(old)
    code, said = command(old, str(tmp_path / "new"))
    assert code == 0, said
    assert files_of(old) == before
    store = Warehouse(tmp_path / "new")
    [run_id] = store.run_ids()
    assert store.verify(run_id) == []
    for name in TABLES:
        there, was = store.table(name, run_id), written(old, name)
        assert there.num_rows == was.num_rows, name
        for column in set(was.column_names) & set(there.column_names) - set(older.WORDS.get(name, ())):
            expected = was[column].to_pylist()
            if column == "criteria":
                expected = [[{"kind": None, **each} for each in value] for value in expected]
            assert there[column].to_pylist() == expected, (name, column)


@pytest.mark.parametrize("old", ["format-1"], indirect=True)
def test_words_and_columns_of_before_have_their_present_names(old: Path, tmp_path: Path) -> None:
    command(old, str(tmp_path / "new"))
    store = Warehouse(tmp_path / "new")
    [run_id] = store.run_ids()
    responses = store.table("responses", run_id).to_pylist()
    kinds = [row["kind"] for row in responses]
    assert {kind: kinds.count(kind) for kind in kinds} == {"initial": 2, "revision": 2, "given": 4, "perturbation": 6}
    spoiled = [row["perturbation"] for row in responses if row["kind"] == "perturbation"]
    assert sorted(spoiled) == sorted(["polished", "terse", "sarcastic"] * 2)
    assert {row["calls"] for row in responses if row["kind"] == "given"} == {0}
    assert {row["calls"] for row in responses if row["kind"] == "initial"} == {1}
    pairs = store.table("preferences", run_id).to_pylist()
    assert [row["drop_reason"] for row in pairs if row["kind"] == "perturbation"] == ["perturbation"] * 6
    assert [said.rater for said in store.read_annotations(run_id)] == ["ann", "ann"]
    run = store.read_run(run_id)
    assert run is not None
    assert "perturbation" in [each.stage for each in run.usage]
    assert (run.recipe["perturb"]["share"], "infractions" in run.recipe["judge"]) == (1.0, False)


@pytest.mark.parametrize("old", ["format-1"], indirect=True)
def test_commands_work_on_what_was_converted(old: Path, tmp_path: Path) -> None:
    _, said = command(old, str(tmp_path / "new"))
    assert "not kept at that time, null now" in said
    assert "quote" in said
    [run_id] = Warehouse(tmp_path / "new").run_ids()
    html, data = str(tmp_path / "audit.html"), str(tmp_path / "dpo")
    commands = (
        "sql|SELECT * FROM pairs",
        f"audit|--out|{html}",
        f"export|--format|dpo|--out|{data}",
        "runs",
        f"relabel|{run_id}",
    )
    for words in (line.split("|") for line in ("verify", *commands)):
        done = CliRunner().invoke(app, [*words, "--warehouse", str(tmp_path / "new")], catch_exceptions=False)
        assert done.exit_code == 0, (words, done.output)


@pytest.mark.parametrize("old", VERSIONS, indirect=True)
def test_a_damaged_part_is_not_converted(old: Path, tmp_path: Path) -> None:
    [part] = old.glob("judgements/*/part-0.parquet")
    content = part.read_bytes()
    part.write_bytes(content[:100] + b"?" + content[101:])
    code, said = command(old, str(tmp_path / "new"))
    assert (code, "is not what was written" in said) == (1, True)
    assert Warehouse(tmp_path / "new").run_ids() == []
    part.write_bytes(content)
    assert command(old, str(tmp_path / "new"))[0] == 0, "the same command does the rest"
    again = command(old, str(tmp_path / "new"))
    assert again[0] == 0
    assert "is there already" in again[1]


@pytest.mark.parametrize("old", VERSIONS, indirect=True)
def test_rows_of_no_run_are_named(old: Path, tmp_path: Path) -> None:
    [record] = old.glob("runs/old-*.json")
    record.unlink()
    code, said = command(old, str(tmp_path / "new"))
    assert (code, f"{record.stem}: not converted: rows of no run" in said) == (1, True)


@pytest.mark.parametrize("how", ["format", "column", "table"])
def test_a_newer_warehouse_is_refused(tmp_path: Path, how: str) -> None:
    root = tmp_path / "newer"
    fill(root)
    [part] = list(root.glob("responses/*/part-0.parquet"))[:1]
    data = pq.read_table(part, partitioning=None)
    if how == "table":
        (root / "moods" / "a").mkdir(parents=True)
        pq.write_table(data, root / "moods" / "a" / "part-0.parquet")
    else:
        for path in (part, root / "responses" / "none" / "none.parquet"):
            data = pq.read_table(path, partitioning=None)
            if how == "format":
                data = data.replace_schema_metadata({**data.schema.metadata, b"format": b"3"})
            else:
                data = data.append_column("mood", data["id"])
            pq.write_table(data, path)
    code, said = command(root, str(tmp_path / "new"))
    assert code != 0
    assert "a newer version wrote it" in str(said)
    assert not (tmp_path / "new").exists()


def test_one_of_this_version_and_what_is_none_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "now")
    code, said = command(tmp_path / "now", str(tmp_path / "new"))
    assert (code != 0, "is of this version" in said) == (True, True)
    code, said = command(tmp_path / "nothing", str(tmp_path / "new"))
    assert (code != 0, "there is no warehouse here" in said) == (True, True)


@pytest.mark.parametrize("old", ["format-1"], indirect=True)
def test_an_older_one_is_refused_with_the_command_that_converts_it(old: Path) -> None:
    done = CliRunner().invoke(app, ["runs", "--warehouse", str(old)])
    assert done.exit_code != 0
    assert "warehouse convert" in f"{done.output} {getattr(done.exception, 'hint', '')}"
