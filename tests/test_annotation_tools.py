"""Exports of annotators' tools become annotations: each form says the same, and what it leaves open is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from annotation_exports import (
    Row,
    argilla_1_datasets,
    argilla_1_records,
    argilla_columns,
    argilla_flat,
    argilla_nested,
    chosen,
    expected,
    ids,
    label_studio,
    label_studio_pairwise,
    label_studio_small,
    label_studio_task,
    pairs,
    prodigy,
    prodigy_meta,
    put,
    table,
)
from annotation_files import command, values
from judging_rows import RUN

from constitution.errors import InputError
from constitution.warehouse import Warehouse
from constitution.warehouse.annotations import TOOLS, read_annotations
from constitution.warehouse.annotations.said import Said, skipped

DISCARDED, DRAFT = "with the status 'discarded' in Argilla", "with the status 'draft' in Argilla"
FORMS: list[tuple[str, Callable[[], Any], dict[str, int]]] = [
    *(
        (name, argilla_flat, {DISCARDED: 1, DRAFT: 1})
        for name in ("said.json", "said.jsonl", "said.jsonl.gz", "said.jsonl.zst", "said.parquet")
    ),
    ("said.json", argilla_columns, {DISCARDED: 1, DRAFT: 1}),
    ("said.jsonl", argilla_1_datasets, {DISCARDED: 1, DRAFT: 1}),
    ("said.parquet", argilla_1_datasets, {DISCARDED: 1, DRAFT: 1}),
    ("said.json", argilla_1_records, {DISCARDED: 1, DRAFT: 1}),
    ("project-1.json", label_studio, {"skipped in Label Studio": 1, "saved as a draft in Label Studio": 1}),
    ("project-1.json", label_studio_pairwise, {"skipped in Label Studio": 1, "saved as a draft in Label Studio": 1}),
    ("project-1-min.json", label_studio_small, {"left blank": 1}),
    ("project-1.csv", label_studio_small, {"left blank": 1}),
    ("project-1.tsv", label_studio_small, {"left blank": 1}),
    ("said.jsonl", prodigy, {"ignored in Prodigy": 1, "rejected in Prodigy: the task, and none of its options": 1}),
    (
        "said.jsonl",
        prodigy_meta,
        {"ignored in Prodigy": 1, "rejected in Prodigy: the task, and none of its options": 1},
    ),
    ("said.csv", table, {"left blank": 2}),
    ("said.jsonl", table, {"left blank": 2}),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse in which nothing is written."""
    return pairs(tmp_path_factory.mktemp("tools") / "warehouse")


@pytest.mark.parametrize(("name", "form", "skipped"), FORMS, ids=[f"{form.__name__}-{name}" for name, form, _ in FORMS])
def test_every_form_says_the_same(
    root: Path, tmp_path: Path, name: str, form: Callable[[], Any], skipped: dict[str, int]
) -> None:
    found = read_annotations(root, put(tmp_path, name, form()))
    assert {(each.pair_id, each.rater, each.value) for each in found.annotations} == expected()
    assert len(found.annotations) == len(expected())
    assert {why: len(places) for why, places in found.skipped.items()} == skipped
    assert found.notes == {}


def test_answers_without_a_status_are_said_to_be_so(root: Path, tmp_path: Path) -> None:
    path = put(tmp_path, "records.json", [argilla_nested()])
    found = read_annotations(root, path)
    assert values(found.annotations) == [("pair1", 0.0), ("pair1", 1.0)]
    [(note, places)] = found.notes.items()
    assert "without a status" in note
    assert len(places) == 2
    result = command(root, "annotations", "import", "--dry-run", str(path))
    assert "Took 2 rows from Argilla without a status" in result.output
    assert Warehouse(root).read_annotations(RUN) == []


def rank(*ranks: int) -> list[Row]:
    return [{"rank": rank, "value": word} for rank, word in zip(ranks, ("first", "second"), strict=True)]


RATED = {"metadata": {"response_id": "b3"}}
ONE: list[tuple[Row, str, list[tuple[str, float]]]] = [
    (argilla_nested(responses={"r": [{"value": rank(2, 1), "user_id": "u"}]}), "", [("pair1", 1.0)]),
    (argilla_nested(responses={"r": [{"value": rank(1, 1), "user_id": "u"}]}), "", [("pair1", 0.5)]),
    (argilla_nested(responses={"stars": [{"value": 4, "user_id": "u"}]}, **RATED), "", [("b3", 4.0)]),
    (argilla_nested(responses={"stars": [{"value": 4, "user_id": "u"}]}, id="b3", metadata={}), "", [("b3", 4.0)]),
    (argilla_nested(id="pair3", metadata={}, responses={"q": [{"value": "a3", "user_id": "u"}]}), "", [("pair3", 0.0)]),
    (
        {"text": "f", "answer": "reject", "response_id": "a2", "_task_hash": 1, "_annotator_id": "ann"},
        "",
        [("a2", 0.0)],
    ),
    (
        {"answer": "reject", "accept": {"response_id": "b2"}, "reject": {"response_id": "a2"}, "_view_id": "compare",
         "mapping": {"A": "accept", "B": "reject"}, "_session_id": "x-ann"},
        "",
        [("pair2", 0.0)],
    ),
    (
        {"data": {"response_id": "b2"}, "annotations": [
            {"completed_by": 3, "result": [{"from_name": "r", "type": "rating", "value": {"rating": 5}}]}]},
        "",
        [("b2", 5.0)],
    ),
    (
        {"annotator": 3, "annotation_id": 1, "lead_time": 2, "pw": [{"selected": "right"}], **ids(1)},
        "pw",
        [("pair1", 1.0)],
    ),
    (
        {"annotator": 3, "annotation_id": 1, "lead_time": 2, "stars": '[{"rating": 2}]', "response_id": "b1"},
        "stars",
        [("b1", 2.0)],
    ),
    ({"pair_id": "pair1", "verdict": "b1", "rater": "ann"}, "verdict", [("pair1", 1.0)]),
    ({"a_id": "a1", "b_id": "b1", "value": 0.25}, "", [("pair1", 0.25)]),
    (label_studio_task(chosen("first"), response_id="a1", **ids(1)), "", [("pair1", 0.0)]),
    (
        label_studio_task({"from_name": "r", "type": "number", "value": {"number": 2}}, response_id="a1", **ids(1)),
        "",
        [("a1", 2.0)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("row", "question", "says"), ONE)
def test_other_words_of_the_tools(
    root: Path, tmp_path: Path, row: Row, question: str, says: list[tuple[str, float]]
) -> None:
    found = read_annotations(root, put(tmp_path, "said.jsonl", [row]), question=question or None)
    assert values(found.annotations) == says


LEFT = {"from_name": "pw", "type": "pairwise", "value": {"selected": "left"}}
REFUSED: list[tuple[Row, str, str]] = [
    (label_studio_task(LEFT, pair_id="pair1"), "does not say which answer is there", "first_id is of the left one"),
    (label_studio_task(chosen("first|tie")), "chose first, tie", 'choice="single"'),
    (label_studio_task(chosen("first"), chosen("second")), "answers 'preferred' twice", "keep one"),
    (label_studio_task(chosen("first", "q"), chosen("second", "r")), "answers the questions q, r", "--question"),
    (label_studio_task(chosen("Answer A")), "preferred is 'Answer A'", "first, second, a, b, tie"),
    (label_studio_task(chosen("first"), pair_id="pair1"), "preferred is 'first'", "first_id and second_id beside it"),
    (label_studio_task(chosen("first"), pair_id="pair77"), "there is no pair 'pair77'", "--skip-unknown"),
    (label_studio_task(chosen("first"), text="hello"), "neither a pair_id nor a response_id", "say which pair"),
    (
        label_studio_task({"from_name": "s", "type": "rating", "value": {"rating": 1}}),
        "has the rating 1 and no response_id",
        "response_id",
    ),
    ({"data": {}, "annotations": [{"result": {"choices": 1}}]}, "result is no list of objects", "export it again"),
    ({"data": {}, "annotations": ["x"]}, "annotations is no list of objects", "export it again"),
    (argilla_nested(responses={"preferred": "first"}), "preferred is no list of objects", "export it again"),
    (
        argilla_nested(responses={"q": [{"value": ["first", "second"], "user_id": "u"}]}),
        "a ranking without ranks, or a choice of all",
        "LabelQuestion",
    ),
    (
        {"id": "pair1", "_server_id": None, "q.responses": "['first']", "q.responses.users": "['u']"},
        "q.responses is a text, not a list",
        "not as CSV",
    ),
    ({"answer": "maybe", "options": []}, "has the answer 'maybe'", "accept, reject and ignore"),
    ({**prodigy()[0], "accept": ["b0", "a0"]}, "chose b0, a0", "choice_style"),
    ({**prodigy()[0], "accept": "b0"}, "accept is no list", "db-out"),
    (
        {"answer": "accept", "_task_hash": 1, "pair_id": "pair1"},
        "has the rating true and no response_id",
        "response_id",
    ),
    ({"winner": "a", "a_id": "a1", "b_id": "b2"}, "there is no pair of the responses 'a1 and b2'", "--skip-unknown"),
    ({"first_id": "a1", "second_id": "b1", "value": 1}, "the file shows a first and a second", "into `preferred`"),
    ({"winner": "a", "text": "x"}, "has the columns winner, text", "Label Studio"),
    ({"a_id": "b1", "b_id": "a1", "value": 0.25}, "the file shows a first and a second", "into `preferred`"),
]


@pytest.mark.parametrize(("row", "says", "hint"), REFUSED)
def test_what_a_tool_leaves_open_is_refused(root: Path, tmp_path: Path, row: Row, says: str, hint: str) -> None:
    with pytest.raises(InputError) as error:
        read_annotations(root, put(tmp_path, "said.jsonl", [row]))
    assert says in str(error.value)
    assert hint in str(error.value.hint)


def test_other_questions_and_types_are_counted_and_not_read(root: Path, tmp_path: Path) -> None:
    comment = {"from_name": "why", "type": "textarea", "value": {"text": ["short"]}}
    task = label_studio_task(chosen("first"), chosen("yes", "polite"), comment)
    found = read_annotations(root, put(tmp_path, "said.json", [task, label_studio_task()]))
    assert values(found.annotations) == [("pair1", 0.0)]
    assert found.skipped == {
        "of the type textarea, which says nothing of a pair": ["said.json, row 1"],
        "answering 'polite', which is not the question that is read": ["said.json, row 1"],
        "left blank": ["said.json, row 2"],
    }


@pytest.mark.parametrize("who", ["2026-01-02_10-17-19", "data-2026-01-02_10-17-19", ""])
def test_a_session_without_a_name_is_no_rater(root: Path, tmp_path: Path, who: str) -> None:
    path = put(tmp_path, "said.jsonl", [{**prodigy()[0], "_annotator_id": who, "_session_id": who}])
    found = read_annotations(root, path, raters={"": "ann"})
    assert [each.rater for each in found.annotations] == ["ann"]
    assert "?session=NAME" in next(iter(found.notes))


def test_a_further_form_is_a_module_and_its_row(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a module has to have; reading, looking up, counting and the command's choices follow from `TOOLS`."""

    def said(data: Row, question: str | None) -> Iterator[Said]:
        [word] = data["label"]
        yield skipped("unsure in Doccano") if word == "?" else Said({**data["about"], "preferred": word})

    doccano = ModuleType("doccano")
    vars(doccano).update(KEYS=frozenset({"label"}), is_one=lambda data: "label" in data, said=said)
    monkeypatch.setitem(TOOLS, "doccano", doccano)
    rows = [{"id": 1, "label": ["first"], "about": ids(1)}, {"id": 2, "label": ["?"], "about": ids(2)}]
    found = read_annotations(root, put(tmp_path, "all.jsonl", rows))
    assert values(found.annotations) == [("pair1", 0.0)]
    assert found.skipped == {"unsure in Doccano": ["all.jsonl, line 2"]}
