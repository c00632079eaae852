"""Groups that raters belong to: read, kept to one of each column, told apart in gold and in the audit."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from annotation_files import command, laid_out, read, write
from judging_rows import RUN, answer, column
from profile_runs import CONSTITUTION, PROFILES, gold_of, store
from profile_runs import RUN as POCKET_RUN

from constitution.audit import audit
from constitution.audit.people import LEAST
from constitution.errors import InputError
from constitution.warehouse import Warehouse
from constitution.warehouse.annotations import Groups, read_annotations


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return laid_out(tmp_path / "warehouse")


def row(pair: str, rater: str, value: float, **more: str) -> dict[str, object]:
    return {"pair_id": pair, "rater": rater, "value": value, **more}


def groups_of(root: Path, rows: list[dict[str, object]], name: str = "a.csv", **settings: object) -> dict[str, object]:
    found = read(root, rows, name, groups=Groups.read(**settings)) if settings else read(root, rows, name)  # type: ignore[arg-type]
    return {each.rater: each.rater_groups for each in found.annotations}


def test_a_column_called_group_is_read_and_others_where_they_are_named(root: Path) -> None:
    rows = [row("pair0", "ann", 1, group="town", country="Chile"), row("pair0", "bob", 0, group="", country="Peru")]
    assert groups_of(root, rows) == {"ann": ("town",), "bob": ()}
    assert groups_of(root, rows, columns=["country"]) == {"ann": ("country: Chile",), "bob": ("country: Peru",)}
    assert groups_of(root, rows, columns=["group", "country"])["ann"] == ("town", "country: Chile")
    with pytest.raises(InputError, match="no row has a group in 'contry'"):
        groups_of(root, rows, columns=["contry"])


def test_groups_lie_where_tools_keep_what_a_task_brought(root: Path) -> None:
    task: dict[str, object] = {
        "data": {"pair_id": "pair0", "location": {"region": "north"}},
        "annotations": [{"completed_by": "ann", "result": [
            {"from_name": "preferred", "type": "choices", "value": {"choices": ["tie"]}}]}],
    }  # fmt: skip
    assert groups_of(root, [task], "ls.json", columns=["location.region"]) == {"ann": ("location.region: north",)}
    spoken = {"text": "t", "pair_id": "pair0", "options": [], "accept": ["tie"], "answer": "accept",
              "_input_hash": 1, "_annotator_id": "bob", "meta": {"group": "south"}}  # fmt: skip
    assert groups_of(root, [spoken], "p.jsonl") == {"bob": ("south",)}


def test_a_file_of_raters_says_whose_group_is_what(root: Path) -> None:
    survey = write(root, [{"user_id": "ann", "age": "18-24"}, {"user_id": "bob", "age": "65+"}], "survey.jsonl")
    rows = [row("pair0", "ann", 1), row("pair0", "bob", 0), row("pair0", "cas", 0)]
    found = read(root, rows, groups=Groups.read(raters=survey))
    assert [each.rater_groups for each in found.annotations] == [("age: 18-24",), ("age: 65+",), ()]
    assert found.notes == {"by a rater whom the file of raters does not have": ["ann.csv, row 3 (line 4)"]}
    twice = write(root, [{"rater": "ann", "age": "18-24"}, {"rater": "ann", "age": "65+"}], "twice.csv")
    with pytest.raises(InputError, match="'ann' is of age: 65\\+, and of age: 18-24 in"):
        Groups.read(raters=twice)
    wide = write(root, [{"rater": "ann", "age": "1", "land": "x"}], "wide.csv")
    with pytest.raises(InputError) as told:
        Groups.read(raters=wide)
    assert "--group COLUMN" in (told.value.hint or "")


def test_a_rater_has_one_group_of_each_column_in_a_run(root: Path) -> None:
    both = [row("pair0", "ann", 1, group="town"), row("pair1", "ann", 1, group="land")]
    with pytest.raises(InputError, match=r"'ann' is of the group 'land' in .*, and of 'town' in"):
        read(root, both)
    store = Warehouse(root)
    store.write_annotations(RUN, read(root, both[:1], "one.csv").annotations)
    with pytest.raises(InputError, match=r"'land' in two\.csv, and of 'town' in one\.csv"):
        store.write_annotations(RUN, read(root, both[1:], "two.csv").annotations)
    corrected = read_annotations(
        root, write(root, [both[0] | {"group": "land"}], "one.csv"), write(root, [both[1]], "two.csv")
    )
    added = store.write_annotations(RUN, corrected.annotations)
    assert (added.new, added.regrouped, added.again, added.changed) == (1, 1, 0, 0)


def test_gold_by_group_covers_all_that_a_rater_said_and_keeps_disagreement_as_p(root: Path) -> None:
    rows = [row("pair0", "ann", 1, group="town"), row("pair1", "ann", 1, group=""),  # the same person
            row("pair0", "bob", 0, group="land"), row("pair0", "cas", 1, group="land"),
            row("pair0", "dan", 0, group="")]  # fmt: skip
    result = command(root, "annotations", "import", str(write(root, rows)))
    assert result.exit_code == 0, result.output
    found = answer(root, "FROM group_gold ORDER BY pair_id, rater_group")
    assert column(found, "pair_id", "rater_group", "p_b", "raters") == [
        ("pair0", "land", 0.5, 2), ("pair0", "town", 1.0, 1), ("pair1", "town", 1.0, 1),
    ]  # fmt: skip
    assert column(answer(root, "FROM gold ORDER BY pair_id"), "p_b") == [0.5, 1.0]
    listed = command(root, "annotations", "list").output
    assert "land" in listed


def test_annotations_from_before_there_were_groups_are_read_and_written_over(root: Path) -> None:
    store = Warehouse(root)
    store.write_annotations(RUN, read(root, [row("pair0", "ann", 1)]).annotations)
    [part] = store.parts("annotations", RUN)
    table = pq.read_table(part)
    part.chmod(0o644)
    pq.write_table(table.drop_columns(["rater_groups"]), part)
    assert [each.rater_groups for each in Warehouse(root).read_annotations(RUN)] == [()]
    added = Warehouse(root).write_annotations(RUN, read(root, [row("pair0", "ann", 1, group="town")]).annotations)
    assert added.regrouped == 1
    assert [each.rater_groups for each in Warehouse(root).read_annotations(RUN)] == [("town",)]


def test_the_audit_ranks_the_worst_group_first_and_no_small_one(tmp_path: Path) -> None:
    stored, warehouse = store(tmp_path, pairs=120), Warehouse(tmp_path)
    base, facts = CONSTITUTION.weights(), CONSTITUTION.weights(PROFILES[3])
    said = gold_of(stored, {"ann": ["town"], "abe": ["town"]}, base)
    said += gold_of(stored, {"bob": ["land"]}, facts)
    said += gold_of(stored, {"cas": ["hill"]}, base)[: LEAST - 1]
    warehouse.write_annotations(POCKET_RUN, said)
    found = {(each.figure, each.subject): each for each in audit(tmp_path, POCKET_RUN, sections=["people"])}
    town, land, hill = (found["group_alignment", name] for name in ("town", "land", "hill"))
    assert town.value == 1
    assert land.value is not None
    assert land.value < 0.95
    assert hill.value is None
    assert "too small to rank" in hill.note
    gap = found["group_gap", "group"]
    assert gap.value == pytest.approx(1 - land.value)
    assert gap.low is not None
    assert gap.low > 0
    assert gap.note == "town less land, of 2 groups"
    assert ("group_ceiling", "town") in found  # land has one rater alone
    assert ("group_ceiling", "land") not in found
    distance = found["group_distance", "town"]
    assert distance.value is not None
    assert 0 < distance.value < 0.5
    audit(tmp_path, POCKET_RUN)
    page = command(tmp_path, "audit", POCKET_RUN, "--out", str(tmp_path / "page.html"))
    assert page.exit_code == 0, page.output
    text = (tmp_path / "page.html").read_text()
    table = text[text.index("Agreement with each group of raters") :]
    assert table.index(">land<") < table.index(">town<") < table.index(">hill<")
