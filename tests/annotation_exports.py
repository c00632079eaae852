"""Exports of annotators' tools, each with the keys of those that the tool wrote:

- Argilla 2.8.0, `records.to_list`, `to_json`, `to_dict`: records/_io/_generic.py and records/_resource.py of
  argilla-io/argilla; docs.argilla.io, "Import/export". `to_json` writes no status.
- Argilla 1.29.1, `FeedbackDataset.format_as("datasets")`: client/feedback/integrations/huggingface/dataset.py, and its
  records: client/feedback/schemas/records.py.
- Label Studio (label-studio-sdk 2.1.2): labelstud.io/guide/export.html and /guide/task_format.html; JSON_MIN and CSV:
  converter/converter.py and exports/csv2.py; a `Pairwise` tag says left or right: labelstud.io/tags/pairwise.html.
- Prodigy: prodi.gy/docs/api-interfaces (`answer`, `choice`, `compare`); explosion/prodigy-recipes, other/choice.py and
  compare.py; `_annotator_id` and `_session_id` of named sessions: prodi.gy/docs/api-web-app.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from annotation_files import write
from judging_rows import Scene

PAIRS = 6


class Word(NamedTuple):
    """What one person says of one pair. state: submitted, discarded or draft."""

    pair: int
    who: str
    says: str
    state: str = "submitted"


WORDS = [
    *(Word(number, "ann", ("first", "second", "tie")[number % 3]) for number in range(4)),
    *(Word(number, "ben", "second") for number in range(2)),
    Word(1, "cat", "first", "discarded"),
    Word(4, "ann", "first", "draft"),
]
"""Five pairs; one was not finished, and one of three people threw away what she said."""
Row = dict[str, Any]


def ids(pair: int) -> Row:
    """Every second pair is shown with its later answer first."""
    shown = (f"a{pair}", f"b{pair}") if pair % 2 else (f"b{pair}", f"a{pair}")
    return {"pair_id": f"pair{pair}", "first_id": shown[0], "second_id": shown[1]}


def expected() -> set[tuple[str, str, float]]:
    """By hand: of an even pair the first is b."""
    return {
        (
            f"pair{word.pair}",
            word.who,
            0.5 if word.says == "tie" else float((word.says == "first") == (word.pair % 2 == 0)),
        )
        for word in WORDS
        if word.state == "submitted"
    }


def tasks() -> list[tuple[int, list[Word]]]:
    return [(pair, [word for word in WORDS if word.pair == pair]) for pair in range(5)]


def argilla_flat() -> list[Row]:
    return [
        {
            "id": f"pair{pair}", "status": "pending", "_server_id": None, "first": "f", "second": "s", **ids(pair),
            "preferred.responses": [word.says for word in words],
            "preferred.responses.users": [word.who for word in words],
            "preferred.responses.status": [word.state for word in words],
            "preferred.suggestion": "second", "preferred.suggestion.agent": "a model",
        }
        for pair, words in tasks()
    ]  # fmt: skip


def argilla_columns() -> Row:
    rows = argilla_flat()
    return {name: [row[name] for row in rows] for name in rows[0]}


def argilla_1_datasets() -> list[Row]:
    return [
        {
            "first": "f", "second": "s", "preferred-suggestion": "first",
            "preferred": [{"user_id": word.who, "value": word.says, "status": word.state} for word in words],
            "external_id": f"pair{pair}", "metadata": json.dumps(ids(pair)),
        }
        for pair, words in tasks()
    ]  # fmt: skip


def argilla_1_records() -> list[Row]:
    return [
        {
            "fields": {"first": "f", "second": "s"}, "metadata": ids(pair), "vectors": {}, "suggestions": [],
            "responses": [
                {"user_id": word.who, "values": {"preferred": {"value": word.says}}, "status": word.state}
                for word in words
            ],
            "external_id": f"pair{pair}",
        }
        for pair, words in tasks()
    ]  # fmt: skip


def label_studio() -> list[Row]:
    """Users are objects in snapshots, numbers elsewhere; what was skipped is there, and a draft is beside it."""
    return [
        {
            "id": pair, "project": 1, "predictions": [], "data": {**ids(pair), "first": "f", "second": "s"},
            "annotations": [
                {
                    "id": place, "was_cancelled": word.state == "discarded", "ground_truth": False, "lead_time": 4.2,
                    "completed_by": {"id": place, "email": word.who, "first_name": ""},
                    "result": [
                        {"from_name": "preferred", "to_name": "first", "type": "choices",
                         "value": {"choices": [word.says]}}
                    ],
                    "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
                }
                for place, word in enumerate(words)
                if word.state != "draft"
            ],
            "drafts": [{"id": 1} for word in words if word.state == "draft"],
        }
        for pair, words in tasks()
    ]  # fmt: skip


def label_studio_pairwise() -> list[Row]:
    """A tag that can say left and right, and no tie."""
    rows = label_studio()
    for row in rows:
        for each in row["annotations"]:
            [word] = each["result"][0]["value"]["choices"]
            if word != "tie":
                side = {"first": "left", "second": "right"}[word]
                each["result"] = [{"from_name": "pw", "to_name": "pw", "type": "pairwise", "value": {"selected": side}}]
    return rows


def label_studio_small() -> list[Row]:
    """JSON_MIN, CSV and TSV: what was skipped is not in them; a task without an annotation can be (the server 1.23.2,
    with `download_all_tasks`)."""
    nothing = dict.fromkeys(("annotator", "annotation_id", "created_at", "updated_at", "lead_time"))
    return [
        {
            "id": pair, "first": "f", "second": "s", **ids(pair), "preferred": word.says, "annotator": word.who,
            "annotation_id": place, "created_at": "2026", "updated_at": "2026", "lead_time": 1.5,
        }
        for pair, words in tasks()
        for place, word in enumerate(words)
        if word.state == "submitted"
    ] + [{"id": 9, "first": "f", "second": "s", **ids(4), **nothing}]  # fmt: skip


def prodigy() -> list[Row]:
    answers = {"submitted": "accept", "discarded": "ignore", "draft": "reject"}
    return [
        {
            "text": "user: hello", **ids(word.pair), "_input_hash": 1, "_task_hash": place, "_view_id": "choice",
            "options": [{"id": id, "text": id} for id in (*list(ids(word.pair).values())[1:], "tie")],
            "accept": [ids(word.pair).get(f"{word.says}_id", "tie")] if word.state == "submitted" else [],
            "answer": answers[word.state], "_timestamp": 1788663082, "_annotator_id": word.who, "_session_id": word.who,
        }
        for place, word in enumerate(WORDS)
    ]  # fmt: skip


def prodigy_meta() -> list[Row]:
    """The ids in `meta`, which the web app shows below a task; a session's name alone."""
    rows = []
    for row in prodigy():
        meta = {name: row.pop(name) for name in ("pair_id", "first_id", "second_id")}
        del row["_annotator_id"]
        rows.append({**row, "meta": meta})
    return rows


def table() -> list[Row]:
    """Responses in place of the pair, the later one first where it was shown so."""
    return [
        {"a_id": ids(word.pair)["first_id"], "b_id": ids(word.pair)["second_id"], "annotator": word.who,
         "winner": {"first": "A", "second": "b", "tie": "Tie"}[word.says] if word.state == "submitted" else ""}
        for word in WORDS
    ]  # fmt: skip


def argilla_nested(**more: Any) -> Row:
    """As `records.to_json` writes it: without a status."""
    answers = {"preferred": [{"value": "first", "user_id": "ann"}, {"value": "second", "user_id": "ben"}]}
    return {
        "id": "pair1", "fields": {"first": "f"}, "metadata": ids(1), "suggestions": {}, "responses": answers,
        "vectors": {}, "status": "completed", "_server_id": None,
    } | more  # fmt: skip


def label_studio_task(*results: Row, **data: Any) -> Row:
    """An annotation with these results."""
    return {"data": data or ids(1), "annotations": [{"completed_by": 1, "result": list(results)}]}


def chosen(word: str, name: str = "preferred") -> Row:
    return {"from_name": name, "type": "choices", "value": {"choices": word.split("|")}}


def pairs(root: Path) -> Path:
    scene = Scene()
    for number in range(PAIRS):
        scene.pair(a=f"one <b>{number}</b>\n", b=f"two {number}")
    scene.write(root)
    return root


def put(folder: Path, name: str, made: Any) -> Path:
    """`made`, a list of rows or an object, as a file of the kind that its name says."""
    path = folder / name
    if name.endswith((".csv", ".tsv", ".jsonl")):
        return write(folder / "warehouse", made, name)
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(made), path)
        return path
    text = json.dumps(made) if ".jsonl" not in name else "".join(json.dumps(row) + "\n" for row in made)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif name.endswith(".zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(text.encode())
    else:
        path.write_text(text, encoding="utf-8")
    return path
