"""`constitution annotations` and what is behind it: a file of people's words becomes gold, whole or not at all."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from annotation_files import command, laid_out, read, values, write
from judging_rows import RUN, Scene

from constitution.errors import InputError
from constitution.records import Preference
from constitution.warehouse import Warehouse
from constitution.warehouse.annotations import read_annotations


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return laid_out(tmp_path / "warehouse")


@pytest.mark.parametrize(
    "name",
    ["ann.csv", "ann.csv.gz", "ann.tsv", "ann.jsonl", "ann.jsonl.gz", "ann.ndjson", "ann.json", "Ann.PARQUET"],
)
def test_every_kind_of_file(root: Path, name: str) -> None:
    found = read(
        root,
        [
            {"pair_id": "pair0", "preferred": "a", "note": 'x, "y"\n'},
            {"pair_id": "pair1", "preferred": "b", "note": ""},
            {"pair_id": "pair2", "preferred": "Tie", "note": "ü"},
        ],
        name,
    )
    assert values(found.annotations) == [("pair0", 0.0), ("pair1", 1.0), ("pair2", 0.5)]
    assert {(annotation.rater, annotation.source) for annotation in found.annotations} == {
        (name.partition(".")[0], name)
    }
    assert all(annotation.run_id == RUN and annotation.principle_id is None for annotation in found.annotations)


@pytest.mark.parametrize("name", ["ann.csv", "ann.jsonl", "ann.parquet"])
def test_values_of_pairs_and_of_responses(root: Path, name: str) -> None:
    pairs = read(root, [{"pair_id": "pair0", "value": 0.25}, {"pair_id": "pair1", "value": 1.0}], name)
    assert values(pairs.annotations) == [("pair0", 0.25), ("pair1", 1.0)]
    numbers = read(root, [{"response_id": "a0", "value": 7.5}, {"response_id": "b0", "value": -1.0}], name)
    assert values(numbers.annotations) == [("a0", 7.5), ("b0", -1.0)]
    truths = read(root, [{"response_id": "a0", "value": True}, {"response_id": "b0", "value": False}], name)
    assert values(truths.annotations) == [("a0", 1.0), ("b0", 0.0)]


def test_preferred_by_the_response_or_by_its_place(root: Path) -> None:
    rows = [
        {"pair_id": "pair0", "preferred": "b0", "first_id": "", "second_id": ""},
        {"pair_id": "pair1", "preferred": "first", "first_id": "b1", "second_id": "a1"},
        {"pair_id": "pair2", "preferred": "second", "first_id": "b2", "second_id": "a2"},
    ]
    assert values(read(root, rows).annotations) == [("pair0", 1.0), ("pair1", 1.0), ("pair2", 0.0)]


@pytest.mark.parametrize(
    ("word", "place"),
    [("first", 0), ("A", 0), (" a ", 0), ("FIRST", 0), ("second", 1), ("B", 1), ("b", 1), ("tie", None), ("Tie", None)],
)
@pytest.mark.parametrize("name", ["ann.csv", "ann.tsv", "ann.jsonl", "ann.parquet"])
def test_on_a_sheet_a_and_b_are_the_answers_as_it_shows_them(
    root: Path, name: str, word: str, place: int | None
) -> None:
    shown = [("b0", "a0"), ("a1", "b1")]
    rows = [
        {"pair_id": f"pair{number}", "first_id": pair[0], "second_id": pair[1], "preferred": word}
        for number, pair in enumerate(shown)
    ]
    expected = [0.5 if place is None else float(pair[place].startswith("b")) for pair in shown]
    assert [value for _, value in values(read(root, rows, name).annotations)] == expected


@pytest.mark.parametrize(
    ("row", "says", "hint"),
    [
        ({"preferred": "1"}, "preferred is '1'", "first, second, a, b, tie, or the id"),
        ({"preferred": "(A)"}, "preferred is '(A)'", "first, second, a, b, tie, or the id"),
        ({"preferred": "a", "first_id": ""}, "are not the pair's two responses", "as the annotation sheet has them"),
        ({"preferred": "a", "first_id": "a2"}, "are not the pair's two responses", "as the annotation sheet has them"),
        ({"preferred": "a", "second_id": "b1"}, "are not the pair's two responses", "as the annotation sheet has them"),
        ({"value": "0"}, "`value` is of a and b", "into `preferred`"),
        ({"value": "1"}, "`value` is of a and b", "into `preferred`"),
    ],
)
def test_on_a_sheet_what_could_be_either_answer_is_refused(
    root: Path, row: dict[str, str], says: str, hint: str
) -> None:
    sheet = {"pair_id": "pair1", "first_id": "b1", "second_id": "a1", "preferred": "", "value": ""}
    with pytest.raises(InputError, match=r"row 1[ :]") as error:
        read(root, [sheet | row])
    assert says in str(error.value)
    assert hint in str(error.value.hint)


def test_a_sheet_without_its_ids_leaves_a_and_b_open(root: Path) -> None:
    shown = {"pair_id": "pair1", "first": "two 1", "second": "one", "preferred": "a"}
    with pytest.raises(InputError, match=r"row 1 \(line 2\): preferred is 'a'"):
        read(root, [shown])
    assert values(read(root, [shown | {"preferred": "b1"}]).annotations) == [("pair1", 1.0)]
    with pytest.raises(InputError, match="one of the columns first_id and second_id"):
        read(root, [{"pair_id": "pair1", "first_id": "b1", "preferred": "a"}])


def test_without_a_sheet_a_is_the_earlier_answer(root: Path) -> None:
    rows = [{"pair_id": "pair0", "preferred": "A"}, {"pair_id": "pair1", "preferred": "b"}]
    assert values(read(root, rows).annotations) == [("pair0", 0.0), ("pair1", 1.0)]
    with pytest.raises(InputError) as error:
        read(root, [{"pair_id": "pair0", "preferred": "first"}])
    assert error.value.hint == "expected are a, b, tie, or the id of one of the pair's two responses"


@pytest.mark.parametrize("name", ["ann.csv", "ann.csv.gz", "ann.tsv", "ann.jsonl", "ann.parquet"])
def test_rows_of_long_conversations_are_read(root: Path, name: str) -> None:
    talk = 'a "quoted" line\n' * 160_000  # 2.56 MB
    rows = [{"pair_id": "pair0", "conversation": talk, "preferred": "a"}, {"pair_id": "pair1", "preferred": "b"}]
    rows = [{"conversation": "", **row} for row in rows]
    assert values(read(root, rows, name).annotations) == [("pair0", 0.0), ("pair1", 1.0)]


@pytest.mark.parametrize("name", ["ann.csv", "ann.csv.gz", "ann.tsv"])
def test_a_row_longer_than_any_prompt_is_refused_in_a_sentence(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("constitution.prompts.packed.MOST_ROW", 3 * 2**20)
    with pytest.raises(InputError, match="is longer than 3 MiB") as error:
        read(root, [{"pair_id": "pair0", "preferred": "a", "conversation": "x" * 5_000_000}], name)
    assert "take out the columns of texts" in str(error.value.hint)


def test_a_name_that_is_not_utf_8_is_refused_in_a_sentence(root: Path) -> None:
    path = root.parent / "ann\udcff.csv"
    path.write_text("pair_id,preferred\npair0,a\n")
    with pytest.raises(InputError, match="the name is not UTF-8"):
        read_annotations(root, path)


FORMULAS = ("=1+1", "-x", "@x", "'=1+1", "+1 for this", "plain", "-5", "'quoted'")


def test_raters_come_back_exactly_from_csv_as_it_is_and_as_spreadsheets_take_it(root: Path) -> None:
    rows = [{"pair_id": "pair0", "value": 1, "rater": rater} for rater in FORMULAS]
    assert command(root, "annotations", "import", str(write(root, rows, "said.jsonl"))).exit_code == 0
    query = "SELECT pair_id, value, rater FROM annotations"
    for name, *option in (("exact.csv",), ("safe.csv", "--spreadsheet-safe")):
        out = root.parent / name
        assert command(root, "sql", "--format", "csv", "--out", str(out), *option, query).exit_code == 0
        found = read_annotations(root, out, spreadsheet_safe=bool(option)).annotations
        assert {annotation.rater for annotation in found} == set(FORMULAS), name
        assert ("\n" + "pair0,1.0,=1+1\n" in out.read_text()) is not bool(option)
        assert command(root, "annotations", "import", *option, str(out)).exit_code == 0


def test_raters_and_principles(root: Path) -> None:
    rows = [
        {"pair_id": "pair0", "preferred": "a", "rater": "bob", "principle_id": "true"},
        {"pair_id": "pair0", "preferred": "b", "rater": "", "principle_id": ""},
    ]
    found = read(root, rows, raters={"": "ann"}).annotations
    assert [(annotation.rater, annotation.principle_id, annotation.value) for annotation in found] == [
        ("bob", "true", 0.0),
        ("ann", None, 1.0),
    ]
    assert found[0].id != found[1].id


def test_blank_rows_are_left_out(root: Path) -> None:
    found = read(root, [{"pair_id": "pair0", "preferred": ""}, {"pair_id": "pair1", "preferred": " a "}])
    assert (values(found.annotations), found.blank) == ([("pair1", 0.0)], 1)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"pair_id": "pair1", "preferred": "maybe"}, "preferred is 'maybe'"),
        ({"pair_id": "pair1", "preferred": "a0"}, "preferred is 'a0'"),
        ({"pair_id": "pair1", "preferred": "first"}, "preferred is 'first'"),
        ({"pair_id": "pair1", "value": "1.5"}, "value is '1.5'"),
        ({"pair_id": "pair1", "value": "true"}, "value is 'true'"),
        ({"pair_id": "pair1", "value": "nan"}, "value is 'nan'"),
        ({"pair_id": "pair1", "preferred": "a", "value": "1"}, "has `preferred` and `value`"),
        ({"response_id": "a0", "value": "good"}, "value is 'good'"),
        ({"response_id": "a0", "value": "inf"}, "value is 'inf'"),
        ({"response_id": "a0", "preferred": "a"}, "said of a pair"),
        ({"pair_id": "pair1", "response_id": "a0", "value": "1"}, "a pair_id and a response_id"),
        ({"preferred": "a"}, "neither a pair_id nor a response_id"),
        ({"pair_id": "pair1", "preferred": "a", "rater": "prompts"}, "the rater is 'prompts'"),
        ({"pair_id": "nobody", "preferred": "a"}, "there is no pair 'nobody'"),
        ({"response_id": "nobody", "value": "1"}, "there is no response 'nobody'"),
        ({"pair_id": "pair1", "preferred": "a", "principle_id": "wise"}, "no principle 'wise'"),
        ({"pair_id": "pair0", "preferred": "b"}, "'ann' says 1 of pair pair0, and 0 in ann.csv, row 1 (line 2)"),
    ],
)
def test_one_wrong_row_refuses_the_file(root: Path, row: dict[str, str], says: str) -> None:
    names = ("pair_id", "response_id", "preferred", "value", "rater", "principle_id")
    rows = [{"pair_id": "pair0", "preferred": "a"}, row]
    path = write(root, [{name: given.get(name, "") for name in names} for given in rows])
    with pytest.raises(InputError, match=r"ann.csv, row 2 \(line 3\): ") as error:
        read_annotations(root, path)
    assert says in str(error.value)
    assert error.value.hint
    assert Warehouse(root).read_annotations(RUN) == []


def test_unknown_rows_can_be_left_out(root: Path) -> None:
    rows = [
        {"pair_id": "pair0", "preferred": "a", "principle_id": ""},
        {"pair_id": "nobody", "preferred": "a", "principle_id": ""},
        {"pair_id": "pair1", "preferred": "a", "principle_id": "wise"},
    ]
    found = read(root, rows, skip_unknown=True)
    assert (values(found.annotations), found.unknown) == ([("pair0", 0.0)], 2)
    other = read(root, rows, skip_unknown=True, run_id="another-run")
    assert (other.annotations, other.unknown) == ((), 3)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("ann.txt", "pair_id,preferred\n", "neither the name nor the first line says what is in it"),
        ("ann.csv", "id,preferred\npair0,a\n", "has the columns id, preferred"),
        ("ann.csv", "pair;preferred\npair0;a\n", "has the columns pair, preferred"),
        ("ann.csv", "", "is empty"),
        ("ann.csv", 'pair_id,preferred\n"pair0,a\n', "cannot be read"),
        ("ann.jsonl", '{"pair_id": "pair0"\n', "line 1: not valid JSON"),
        ("ann.parquet", "PAR1", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(root: Path, name: str, text: str, says: str) -> None:
    path = root.parent / name
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_annotations(root, path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pair_id", ["1234e5", "00012345", "12345678901234567890", "true", "2026-01-01"])
@pytest.mark.parametrize("mark", [",", ";"])
def test_an_id_is_a_text_whatever_it_looks_like(tmp_path: Path, pair_id: str, mark: str) -> None:
    """As Excel writes it: a byte order mark, carriage returns and, in half of the world, semicolons."""
    scene = Scene()
    scene.pair()
    scene.rows = [replace(row, id=pair_id) if isinstance(row, Preference) else row for row in scene.rows]
    scene.write(tmp_path / "warehouse")
    path = tmp_path / "ann.csv"
    path.write_text(f'pair_id{mark}note{mark}preferred\r\n{pair_id}{mark}"x, y; z"{mark}b\r\n', "utf-8-sig")
    assert values(read_annotations(tmp_path / "warehouse", path).annotations) == [(pair_id, 1.0)]
    path = tmp_path / "ann.jsonl"
    path.write_text(json.dumps({"pair_id": pair_id, "preferred": "b"}))
    assert values(read_annotations(tmp_path / "warehouse", path).annotations) == [(pair_id, 1.0)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "pair_id,preferred,preferred\npair,tie,a\n"),
        ("x.csv", "pair_id,preferred,Preferred\npair,tie,a\n"),
        ("x.csv", "pair_id,preferred, preferred \npair,tie,a\n"),
        ("x.jsonl", '{"pair_id": "pair", "preferred": "tie", "preferred ": "a"}\n'),
        ("x.jsonl", '{"pair_id": "pair", "preferred": "tie", "Preferred": "a"}\n'),
        ("x.tsv", "pair_id\tvalue\tVALUE\npair\t0\t1\n"),
    ],
)
def test_two_columns_of_one_name_are_refused(root: Path, name: str, text: str) -> None:
    """One of them would have been taken, and the other not."""
    (root / name).write_text(text)
    with pytest.raises(InputError, match=r"two of one name|has 2 columns"):
        read_annotations(root, root / name)


def test_a_sheet_with_semicolons_may_hold_anything(root: Path) -> None:
    """Spreadsheets write it so where the comma is the decimal mark; read with commas it makes no rows."""
    path = root / "ann.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["pair_id", "conversation", "first_id", "first", "second_id", "second", "preferred"])
        texts = ['a, "b", c\nd', "x,y", '"quoted", and\n, more']
        rows.writerow(["pair0", texts[0], "b0", texts[1], "a0", texts[2], "A"])
    assert values(read_annotations(root, path).annotations) == [("pair0", 1.0)]


def test_a_file_that_is_not_there(root: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_annotations(root, root.parent / "nobody.csv")


def test_a_name_with_the_marks_of_a_pattern_is_one_file(root: Path) -> None:
    write(root, [{"pair_id": "pair1", "preferred": "a"}], "a1.csv")
    assert values(read(root, [{"pair_id": "pair0", "preferred": "a"}], "a[12]*'.csv").annotations) == [("pair0", 0.0)]
