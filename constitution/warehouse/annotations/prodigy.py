"""Prodigy's data sets, as `prodigy db-out` writes them: a task a line, with its `answer`: accept, reject or ignore.

A task of the interface `choice` has `options`, and in `accept` the ids of those that were chosen; one of `compare` or
`diff` has the texts `accept` and `reject`, and `answer` says which of them is better; any other is about one response.
Who answered is `_annotator_id`, or `_session_id`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from constitution.warehouse.annotations.said import BLANK, Refused, Said, as_text, choice, ids_of, rating, skipped
from constitution.warehouse.annotations.sheet import TITLES, Sheet, put_json

KEYS = frozenset({"answer", "options", "accept", "_input_hash"})
_MARKS = frozenset({"_input_hash", "_task_hash", "_view_id", "options", "_session_id", "_annotator_id"})
_STARTED = re.compile(r"(?:.*-)?\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
"""A session without a name is called after the time at which it began."""
NO_NAME = "of sessions without a name in Prodigy, where different people are one rater (open it with ?session=NAME)"


def is_one(data: Mapping[str, Any]) -> bool:
    return "answer" in data and bool(_MARKS & data.keys())


def said(data: Mapping[str, Any], question: str | None) -> Iterator[Said]:
    if question is not None:
        raise Refused("is a task of Prodigy, which has one question", "run it without --question")
    answer, ids = data["answer"], ids_of(data, data.get("meta"))
    who = as_text(data.get("_annotator_id") or data.get("_session_id"))
    if answer == "ignore":
        yield skipped("ignored in Prodigy")
    elif answer not in ("accept", "reject"):
        raise Refused(f"has the answer {as_text(answer)!r}", "expected are accept, reject and ignore")
    elif "options" not in data and not isinstance(data.get("accept"), dict):
        yield _named(rating(ids, answer == "accept"), who)
    elif isinstance(accepted := data.get("accept"), dict):
        yield _named(choice(_sides(data, ids), "first" if answer == "accept" else "second"), who)
    elif answer == "reject":
        yield skipped("rejected in Prodigy: the task, and none of its options")
    elif accepted is not None and not isinstance(accepted, list):
        raise Refused("accept is no list of options", "export the data set again with `prodigy db-out`")
    elif not accepted:
        yield skipped(BLANK)
    elif len(accepted) > 1:
        raise Refused(f"chose {', '.join(map(as_text, accepted))}", 'set "choice_style": "single" in prodigy.json')
    else:
        yield _named(choice(ids, as_text(accepted[0])), who)


def _named(row: dict[str, str], who: str) -> Said:
    if not who or _STARTED.fullmatch(who):
        return Said(row, NO_NAME)
    return Said({**row, "rater": who})


def _sides(data: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, str]:
    """The ids of what was shown as `accept` and as `reject`, as the first and the second."""
    shown = {}
    for column, side in (("first_id", "accept"), ("second_id", "reject")):
        held = data.get(side)
        shown[column] = as_text(held.get("response_id") or held.get("id")) if isinstance(held, dict) else ""
    if not all(shown.values()):
        hint = 'give both the id of the response whose text they are: "accept": {"text": …, "response_id": …}'
        raise Refused("compares an `accept` and a `reject` without their ids", hint)
    return {**ids, **shown}


# --- sheets


def write(sheets: Iterable[Sheet], folder: Path, title: str) -> str:
    """tasks.jsonl of the interface `choice`, whose options have the ids of the responses; and prodigy.json."""
    with (folder / "tasks.jsonl").open("w", encoding="utf-8") as file:
        for sheet in sheets:
            options = [
                {"id": sheet.ids["first_id"], "text": sheet.texts["first"]},
                {"id": sheet.ids["second_id"], "text": sheet.texts["second"]},
                {"id": "tie", "text": TITLES["tie"]},
            ]
            task = {"text": sheet.texts["conversation"], "options": options, **sheet.ids}
            file.write(json.dumps(task, ensure_ascii=False) + "\n")
    # Pairs of one prompt are tasks of the same input; and each session is shown all of them.
    settings = {"choice_style": "single", "feed_overlap": True, "exclude_by": "task"}
    put_json(folder / "prodigy.json", settings)
    return (
        f"in {{}}: prodigy mark {title} tasks.jsonl --view-id choice, opened with ?session=NAME; afterwards "
        f"prodigy db-out {title} > said.jsonl"
    )
