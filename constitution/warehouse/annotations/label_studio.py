"""Label Studio's exports: JSON (tasks with their annotations), and JSON_MIN, CSV and TSV (a row an annotation, without
those that were skipped).

Who answered is `completed_by`: an address where the export has users, else a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from constitution.errors import InputError
from constitution.reading import parse_json
from constitution.warehouse.annotations.said import (
    BLANK,
    QUESTIONS,
    Refused,
    Said,
    as_text,
    choice,
    ids_of,
    mapping,
    objects,
    others,
    question_of,
    rating,
    skipped,
)
from constitution.warehouse.annotations.sheet import QUESTION, TITLES, Sheet, put_array

KEYS = frozenset({"annotations", "data", "annotator", "annotation_id"})
_SMALL = frozenset({"annotator", "annotation_id", "lead_time"})
"""Columns that JSON_MIN, CSV and TSV always have."""
_SIDES = {"left": "first", "right": "second"}
_READ = ("choices", "pairwise", "rating", "number")


def is_one(data: Mapping[str, Any]) -> bool:
    return (isinstance(data.get("annotations"), list) and isinstance(data.get("data"), dict)) or data.keys() >= _SMALL


def said(data: Mapping[str, Any], question: str | None) -> Iterator[Said]:
    if data.keys() >= _SMALL:
        yield _row(data, question)
        return
    ids = ids_of(data["data"], data["data"].get("meta"), data.get("meta"))
    annotations, drafts = objects("annotations", data["annotations"]), data.get("drafts") or []
    if not isinstance(drafts, list):
        raise Refused("drafts is no list", "export it again, as JSON")
    yield from (skipped("saved as a draft in Label Studio") for _ in drafts)
    if not annotations and not drafts:
        yield skipped(BLANK)
    # The last that a person made of a task is the last here.
    for each in sorted(annotations, key=lambda one: as_text(one.get("updated_at") or one.get("created_at"))):
        if each.get("was_cancelled") or each.get("skipped"):
            yield skipped("skipped in Label Studio")
        else:
            yield from _of_one(each, ids, question)


def _of_one(annotation: Mapping[str, Any], ids: Mapping[str, str], question: str | None) -> Iterator[Said]:
    answers: dict[str, Any] = {}
    for result in objects("result", annotation.get("result")):
        name, kind = as_text(result.get("from_name")), result.get("type")
        if kind not in _READ:
            yield skipped(f"of the type {kind}, which says nothing of a pair")
        elif name in answers:
            raise Refused(f"answers {name!r} twice", "keep one of the two, or take the regions out of the labelling")
        else:
            answers[name] = mapping("value", result.get("value"))
    read = question_of(answers, question)
    yield from others(answers, read)
    if read is None:
        yield skipped(BLANK)
    else:
        yield Said(_cells(answers[read], ids) | _rater(annotation.get("completed_by")))


def _row(data: Mapping[str, Any], question: str | None) -> Said:
    if as_text(data["annotation_id"]) == "":  # a task without an annotation, where all tasks were exported
        return skipped(BLANK)
    known = [name for name in QUESTIONS if name in data] if question is None else [question]
    if len(known) != 1:
        named = ", ".join(data)
        raise Refused(f"has the columns {named}", "say which of them is the answer: --question NAME")
    value = data.get(known[0])
    if isinstance(value, str) and value[:1] in ("[", "{"):  # a cell of a CSV
        try:
            value = parse_json(value, known[0], InputError)
        except InputError as error:
            raise Refused(str(error), "export it as JSON") from None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value in (None, "", []):
        return skipped(BLANK)
    ids = ids_of({name: cell for name, cell in data.items() if name not in ("annotator", known[0])})
    return Said(_cells(value if isinstance(value, dict) else {"choices": value}, ids) | _rater(data["annotator"]))


def _cells(value: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, str]:
    """What a result's value says: {"choices": [...]}, {"selected": "left"}, {"rating": 4}, {"number": 4}."""
    if "selected" in value:
        side = as_text(value["selected"])
        if not {"first_id", "second_id"} <= ids.keys():
            hint = (
                "put the ids of both answers into the task's data: first_id is of the left one, second_id of the right"
            )
            raise Refused(f"says {side!r}, and its task does not say which answer is there", hint)
        return choice(ids, _SIDES.get(side, side))
    for kind in ("rating", "number"):
        if kind in value:
            return rating(ids, value[kind])
    words = value.get("choices")
    listed = words if isinstance(words, list) else [words]
    if len(listed) != 1:
        raise Refused(f"chose {', '.join(map(as_text, listed)) or 'nothing'}", 'ask with choice="single"')
    return choice(ids, as_text(listed[0]))


def _rater(who: Any) -> dict[str, str]:
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    return {"rater": text} if (text := as_text(who)) else {}


# --- sheets


def write(sheets: Iterable[Sheet], folder: Path, title: str) -> str:
    """tasks.json to import, and config.xml, the project's labelling configuration."""
    put_array(folder / "tasks.json", ({"data": {**sheet.ids, **sheet.texts}} for sheet in sheets))
    texts = {
        name: f'    <View style="flex: 1">\n      <Header value={quoteattr(TITLES[name])}/>\n'
        f'      <Text name="{name}" value="${name}"/>\n    </View>\n'
        for name in ("first", "second")
    }
    words = "".join(f'    <Choice value="{word}"/>\n' for word in ("first", "second", "tie"))
    config = (
        f"<View>\n  <Header value={quoteattr(TITLES['conversation'])}/>\n"
        '  <Text name="conversation" value="$conversation"/>\n'
        f'  <View style="display: flex; gap: 1em">\n{texts["first"]}{texts["second"]}  </View>\n'
        f"  <Header value={quoteattr(QUESTION)}/>\n"
        f'  <Choices name="preferred" toName="first" choice="single" required="true">\n{words}  </Choices>\n</View>\n'
    )
    (folder / "config.xml").write_text(config, encoding="utf-8")
    return "paste {}/config.xml into the project's labelling interface, import {}/tasks.json, export JSON"
