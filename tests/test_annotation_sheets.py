"""Sheets for the tools of annotators come back as what people meant; what became of an import is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from annotation_exports import (
    PAIRS,
    chosen,
    label_studio,
    pairs,
    put,
)
from annotation_files import command, read, values, write
from audit_rows import Audited, Pair, label, store
from judging_rows import RUN, Scene, answer, column

from constitution.errors import InputError
from constitution.warehouse.annotations import read_annotations


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse in which nothing is written."""
    return pairs(tmp_path_factory.mktemp("tools") / "warehouse")


# --- sheets


def argilla_filled(sheet: Path, prefer: Callable[[str], bool]) -> Path:
    """What an annotator makes of a sheet, and Argilla of that: she looks for a text, and knows no ids."""
    settings = json.loads((sheet / ".argilla" / "settings.json").read_text(encoding="utf-8"))
    [asked] = settings["questions"]
    assert [option["value"] for option in asked["settings"]["options"]] == ["first", "second", "tie"]
    assert json.loads((sheet / ".argilla" / "dataset.json").read_text(encoding="utf-8"))["name"]
    rows = []
    for record in json.loads((sheet / "records.json").read_text(encoding="utf-8")):
        assert record["fields"].keys() == {field["name"] for field in settings["fields"]}
        assert record["metadata"].keys() == {each["name"] for each in settings["metadata"]}
        word = "first" if prefer(record["fields"]["first"]) else "second"
        told = {f"preferred.responses{part}": [value] for part, value in
                (("", word), (".users", "ann"), (".status", "submitted"))}  # fmt: skip
        rows.append({"id": record["id"], "_server_id": "x", **record["fields"], **record["metadata"], **told})
    return put(sheet.parent, "filled.json", rows)


def label_studio_filled(sheet: Path, prefer: Callable[[str], bool]) -> Path:
    config = ElementTree.fromstring((sheet / "config.xml").read_text(encoding="utf-8"))
    [control] = config.iter("Choices")
    shown = {text.get("name"): text.get("value") for text in config.iter("Text")}
    assert control.get("toName") in shown
    rows = []
    for number, task in enumerate(json.loads((sheet / "tasks.json").read_text(encoding="utf-8"))):
        assert {f"${name}" for name in task["data"]} >= set(shown.values())
        word = "first" if prefer(task["data"]["first"]) else "second"
        assert word in [choice.get("value") for choice in control.iter("Choice")]
        said = {"completed_by": 1, "was_cancelled": False, "result": [chosen(word, str(control.get("name")))]}
        rows.append({"id": number, "annotations": [said], **task})
    return put(sheet.parent, "filled.json", rows)


def prodigy_filled(sheet: Path, prefer: Callable[[str], bool]) -> Path:
    assert json.loads((sheet / "prodigy.json").read_text(encoding="utf-8"))["choice_style"] == "single"
    rows = []
    for line in (sheet / "tasks.jsonl").read_text(encoding="utf-8").splitlines():
        task = json.loads(line)
        assert [option["id"] for option in task["options"]] == [task["first_id"], task["second_id"], "tie"]
        accept = [option["id"] for option in task["options"][:2] if prefer(option["text"])]
        rows.append({**task, "accept": accept, "answer": "accept", "_task_hash": 1, "_annotator_id": "ann"})
    return put(sheet.parent, "filled.jsonl", rows)


TOOLS = {"argilla": argilla_filled, "label-studio": label_studio_filled, "prodigy": prodigy_filled}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_sheet_comes_back_as_what_was_meant(tmp_path: Path, tool: str) -> None:
    root, out = pairs(tmp_path / "warehouse"), tmp_path / "sheet"
    words = ("annotations", "sheet", "--for", tool, "--run", RUN[:9], "--out", str(out))
    result = command(root, *words)
    assert result.exit_code == 0, result.output
    assert str(out) in result.output
    assert command(root, *words).exit_code != 0  # the folder is there
    path = TOOLS[tool](out, lambda text: text.startswith("one <b>"))
    assert command(root, "annotations", "import", str(path)).exit_code == 0
    said = answer(root, "FROM annotations ORDER BY pair_id")
    assert column(said, "pair_id", "value") == [(f"pair{number}", 0.0) for number in range(PAIRS)]
    firsts = {row["a_first"] for row in answer(root, "SELECT first_id[1] = 'a' AS a_first FROM annotation_sheet")}
    assert firsts == {True, False}, "all were shown in one order, which proves nothing"


def test_a_sheet_of_some_pairs_and_of_none(root: Path, tmp_path: Path) -> None:
    words = ("annotations", "sheet", "--for", "prodigy", "--run", RUN, "--out")
    assert command(root, *words, str(tmp_path / "two"), "--limit", "2").exit_code == 0
    assert len((tmp_path / "two" / "tasks.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    scene = Scene()
    scene.pair(a="the same", b="the same")
    scene.write(tmp_path / "other")
    result = command(tmp_path / "other", *words, str(tmp_path / "none"))
    assert "has no pairs to annotate" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir() if "none" in path.name) == []


# --- what is reported


def test_several_annotators_again_and_changed(tmp_path: Path) -> None:
    root = pairs(tmp_path / "warehouse")
    first = command(root, "annotations", "import", str(put(tmp_path, "export-1.json", label_studio())))
    assert "6 annotations by ann and ben" in first.output
    assert "6 new" in first.output
    assert "Skipped 1 row skipped in Label Studio: export-1.json, row 2." in first.output
    stored = answer(root, "FROM annotations ORDER BY id")
    again = command(root, "annotations", "import", str(tmp_path / "export-1.json"))
    assert "all of them were there before" in again.output
    assert answer(root, "FROM annotations ORDER BY id") == stored
    renamed = command(root, "annotations", "import", str(put(tmp_path, "export-2.json", label_studio())))
    assert "6 the same in another file." in renamed.output
    rows = label_studio()
    rows[0]["annotations"][0]["result"] = [chosen("second")]
    changed = command(root, "annotations", "import", str(put(tmp_path, "export-3.json", rows)))
    assert "1 changed, 5 the same in another file." in changed.output
    assert "ann on pair pair0: 1 became 0" in changed.output
    gold = answer(root, "FROM gold ORDER BY pair_id")
    assert column(gold, "pair_id", "p_b", "raters") == [
        ("pair0", 0.0, 2), ("pair1", 1.0, 2), ("pair2", 0.5, 1), ("pair3", 0.0, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("on_conflict", "says", "skipped"),
    [
        ("last", [("pair0", 1.0), ("pair1", 0.0)], {"contradicted by a later row of the same rater": 2}),
        ("skip", [("pair1", 0.0)], {"contradicting another row of the same rater": 3}),
    ],
)
def test_a_rater_who_says_two_things_of_one(
    root: Path, tmp_path: Path, on_conflict: Any, says: list[tuple[str, float]], skipped: dict[str, int]
) -> None:
    rows = [{"pair_id": "pair0", "preferred": word, "rater": "ann"} for word in ("b", "a", "b")]
    path = put(tmp_path, "said.jsonl", [*rows, {"pair_id": "pair1", "preferred": "a", "rater": "ann"}])
    with pytest.raises(InputError, match=r"'ann' says 0 of pair pair0, and 1 in said\.jsonl, line 1") as error:
        read_annotations(root, path)
    assert "--on-conflict last" in str(error.value.hint)
    found = read_annotations(root, path, on_conflict=on_conflict)
    assert values(found.annotations) == says
    assert {why: len(places) for why, places in found.skipped.items()} == skipped


def test_what_is_said_twice_alike_is_taken_once(root: Path, tmp_path: Path) -> None:
    row = {"pair_id": "pair0", "preferred": "a", "rater": "ann"}
    paths = [put(tmp_path, name, [row]) for name in ("one.jsonl", "two.csv")]
    found = read_annotations(root, *paths)
    assert values(found.annotations) == [("pair0", 0.0)]
    assert found.skipped == {"saying again what the same rater says in another row": ["two.csv, row 1 (line 2)"]}


def test_raters_are_called_by_their_names(tmp_path: Path) -> None:
    """Label Studio's own export from its pages has a user's number."""
    root, rows = pairs(tmp_path / "warehouse"), label_studio()
    for row in rows:
        for number, each in enumerate(row["annotations"]):
            each["completed_by"] = number
    path = put(tmp_path, "project.json", rows)
    result = command(root, "annotations", "import", "--name", "0=ann", "--name", "1=ben", str(path))
    assert "6 annotations by ann and ben" in result.output
    wrong = command(root, "annotations", "import", "--name", "ann", str(path))
    assert "--name ann: is not ID=NAME" in str(wrong.exception)


def test_several_files_by_a_pattern(tmp_path: Path) -> None:
    root = pairs(tmp_path / "warehouse")
    for number in range(3):
        put(tmp_path, f"rater{number}.jsonl", [{"pair_id": "pair0", "preferred": "a"}])
    result = command(root, "annotations", "import", str(tmp_path / "rater*.jsonl"))
    assert "3 annotations by rater0 and rater1 and rater2" in result.output
    twice = command(root, "annotations", "import", *[str(tmp_path / "rater0.jsonl")] * 2)
    assert "is named twice" in str(twice.exception)
    none = command(root, "annotations", "import", str(tmp_path / "nothing*.jsonl"))
    assert "there is no such file" in str(none.exception)


def test_unknown_things_are_named(root: Path) -> None:
    rows = [{"pair_id": "gone", "preferred": "a"}, {"pair_id": "pair0", "preferred": "a"}]
    path = write(root, rows, "unknown.jsonl")
    result = command(root, "annotations", "import", "--dry-run", "--skip-unknown", str(path))
    assert (
        "Skipped 1 row about what is not in the warehouse: unknown.jsonl, line 1: there is no pair 'gone'."
        in result.output
    )
    assert read(root, rows, "unknown.jsonl", skip_unknown=True).unknown == 1


# --- figures


def test_agreement_with_several_annotators_is_with_what_most_of_them_say(tmp_path: Path) -> None:
    """The figures are those of one annotator who says what most say, and pairs on which they are even have no gold."""
    judged = [Pair(n, {("one", "kind"): (0.9, 0.8) if n % 3 else (0.2, 0.1)}) for n in range(24)]
    most = [float(n % 4 != 0) for n in range(20)]
    one = [label(pair, value, "most") for pair, value in zip(judged, most, strict=False)]
    several = []
    for n, (pair, value) in enumerate(zip(judged, most, strict=False)):
        said = {"ann": value, "ben": 1 - value if n % 5 == 0 else value, "cat": 0.5 if n % 7 == 0 and n % 5 else value}
        several += [label(pair, word, rater) for rater, word in said.items()]
    for pair in judged[20:]:  # one says a, one says b, one neither
        several += [label(pair, value, rater) for rater, value in (("ann", 0.0), ("ben", 1.0), ("cat", 0.5))]
    found = []
    for name, labels in (("one", one), ("several", several)):
        store(tmp_path / name, judged, labels=labels)
        found.append(Audited(tmp_path / name))
    for figure, subject in (("kappa", ""), ("alignment", "both orders"), ("brier", "both orders")):
        assert replace(found[1](figure, "one", subject=subject), note="") == replace(
            found[0](figure, "one", subject=subject), note=""
        )
    right = sum((n % 3 != 0) == (n % 4 != 0) for n in range(20))
    assert found[1].value("alignment", "one", subject="both orders") == right / 20
    assert found[1]("kappa", "one").n == 20
    agree = found[1]("alpha", subject="raters")
    assert agree.n == 24
    assert agree.value is not None
    assert 0 < agree.value < 1
    assert found[0]("alpha", subject="raters").value is None
    gold = answer(
        tmp_path / "several", "SELECT raters, count(*) AS n, avg((side(p_b) = 0)::INT) AS even FROM gold GROUP BY 1"
    )
    assert column(gold, "raters", "n", "even") == [(3, 24, 4 / 24)]
