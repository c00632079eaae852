"""Annotation sheets and back, and annotations as they are stored."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from annotation_files import command, laid_out, read, values, write
from judging_rows import RUN, Scene, answer, column

from constitution.records import Figure
from constitution.warehouse import Warehouse
from constitution.warehouse.annotations import read_annotations


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return laid_out(tmp_path / "warehouse")


def test_the_sheet_goes_round(root: Path) -> None:
    """Asked for by `constitution sql`, filled in, imported, gold: as `annotations import --help` shows it."""
    sheet = root.parent / "ann.csv"
    query = f"FROM annotation_sheet WHERE run_id = '{RUN}' ORDER BY pair_id"
    result = command(root, "sql", "--format", "csv", "--out", str(sheet), query)
    assert result.exit_code == 0, result.output
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["first"] in ('one, "0"\nand more', "two 0")
    for row, word in zip(rows, ("A", "second", ""), strict=True):
        row["preferred"] = word
    result = command(root, "annotations", "import", str(write(root, rows)))
    assert result.exit_code == 0, result.output
    assert "2 annotations by ann" in result.output
    assert "Skipped 1 row left blank: ann.csv, row 3 (line " in result.output
    better = [rows[0]["first_id"], rows[1]["second_id"]]
    gold = answer(root, "FROM gold ORDER BY pair_id")
    assert column(gold, "pair_id", "p_b") == [
        (f"pair{number}", float(id.startswith("b"))) for number, id in enumerate(better)
    ]


def test_a_sheet_is_safe_in_a_spreadsheet_and_gives_back_what_it_showed(tmp_path: Path) -> None:
    """Answers that would be formulas, shown to a person who says for each pair which text is better."""
    scene = Scene()
    texts = [(f"={number}+1", f"- {number}") for number in range(12)]
    for a, b in texts:
        scene.pair(a=a, b=b)
    root = tmp_path / "warehouse"
    scene.write(root)
    sheet = tmp_path / "ann.csv"
    assert command(root, "sql", "--format", "csv", "--out", str(sheet), "FROM annotation_sheet").exit_code == 0
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row[side][0] == "'" for row in rows for side in ("first", "second"))
    assert {row["first"][1] for row in rows} == {"=", "-"}
    for row in rows:  # whoever reads it prefers the formula, and writes the letter of the place where it is
        row["preferred"] = "A" if row["first"].startswith("'=") else "B"
    assert command(root, "annotations", "import", str(write(root, rows))).exit_code == 0
    assert {value for _, value in values(Warehouse(root).read_annotations(RUN))} == {0.0}
    exact = tmp_path / "exact.csv"
    assert (
        command(root, "sql", "--format", "csv", "--exact", "--out", str(exact), "FROM annotation_sheet").exit_code == 0
    )
    with exact.open(newline="") as file:
        shown = {row[side] for row in csv.DictReader(file) for side in ("first", "second")}
    assert shown == {text for pair in texts for text in pair}


def test_pairs_as_they_are_make_a_file_too(root: Path) -> None:
    out = root.parent / "pairs.csv"
    query = "SELECT id AS pair_id, last_user, chosen, rejected, chosen_id AS preferred FROM pairs"
    assert command(root, "sql", "--format", "csv", "--out", str(out), query).exit_code == 0
    assert values(read_annotations(root, out).annotations) == [(f"pair{number}", 1.0) for number in range(3)]


def test_the_same_file_changes_nothing_and_a_corrected_one_replaces_its_raters_words(root: Path) -> None:
    rows = [{"pair_id": f"pair{number}", "preferred": "a", "rater": "ann"} for number in range(2)]
    rows.append({"pair_id": "pair0", "preferred": "b", "rater": "bob"})
    path = write(root, rows)
    assert command(root, "annotations", "import", str(path)).exit_code == 0
    part = root / "annotations" / RUN / "part-0.parquet"
    before = part.read_bytes()
    again = command(root, "annotations", "import", str(path))
    assert "all of them were there before" in again.output
    assert part.read_bytes() == before
    write(root, [{"pair_id": "pair1", "preferred": "b", "rater": "ann"}, rows[2]])
    result = command(root, "annotations", "import", str(path))
    assert "1 changed, 1 gone" in result.output  # pair1 changed, pair0 gone; bob's is what it was
    found = answer(root, "SELECT rater, pair_id, value FROM annotations ORDER BY rater")
    assert column(found, "rater", "pair_id", "value") == [("ann", "pair1", 1.0), ("bob", "pair0", 1.0)]


def test_another_file_of_the_same_rater_adds_to_the_first(root: Path) -> None:
    rows = [
        {"pair_id": f"pair{number}", "preferred": word} for number, word in ((0, "a"), (1, "a"), (1, "b"), (2, "b"))
    ]
    first = read(root, rows[:2], raters={"": "ann"})
    second = read(root, rows[2:], "more.csv", raters={"": "ann"})
    warehouse = Warehouse(root)
    assert warehouse.write_annotations(RUN, first.annotations) == (2, 0, 0, 0, 0)
    assert warehouse.write_annotations(RUN, second.annotations) == (1, 1, 0, 0, 0)
    assert sorted(values(warehouse.read_annotations(RUN))) == [("pair0", 0.0), ("pair1", 1.0), ("pair2", 1.0)]


def test_imports_at_once_lose_nothing(root: Path) -> None:
    files = [read(root, [{"pair_id": "pair0", "preferred": "a"}], f"rater{number}.csv") for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        changed = list(pool.map(lambda file: Warehouse(root).write_annotations(RUN, file.annotations), files))
    assert changed == [(1, 0, 0, 0, 0)] * 12
    assert len(Warehouse(root).read_annotations(RUN)) == 12


def test_recovering_a_run_does_not_touch_a_label_that_is_being_written(root: Path) -> None:
    warehouse = Warehouse(root)
    warehouse.write_annotations(RUN, read(root, [{"pair_id": "pair0", "preferred": "a"}]).annotations)
    writing = root / "checksums" / "annotations" / RUN / ".part-0.parquet.1.tmp"
    writing.write_bytes(b"")
    warehouse.recover(RUN)
    assert writing.exists()
    assert len(warehouse.read_annotations(RUN)) == 1


def test_list(root: Path) -> None:
    assert "0 rows" in command(root, "annotations", "list").output
    command(root, "annotations", "import", str(write(root, [{"pair_id": "pair0", "preferred": "a"}])))
    result = command(root, "annotations", "list")
    assert result.exit_code == 0
    assert all(word in result.output for word in (RUN, "ann.csv", "1 row"))


def test_figures_take_the_place_of_the_audit_before(root: Path) -> None:
    warehouse = Warehouse(root)
    assert warehouse.read_figures(RUN) == []
    first = [Figure(RUN, "kept", 3.0, 3), Figure(RUN, "brier", None, 0, note="no gold")]
    warehouse.write_figures(RUN, first)
    assert warehouse.read_figures(RUN) == first
    second = [Figure(RUN, "kept", 2.0, 3, 1.5, 2.5, "judge", "kind", "parent")]
    warehouse.write_figures(RUN, second)
    assert warehouse.read_figures(RUN) == second
    assert column(answer(root, "FROM figures"), "figure", "value", "subject") == [("kept", 2.0, "parent")]
