"""Argilla's records: of 2.x as JSON (`records.to_json`), flat (`records.to_list(flatten=True)`, as on the hub) and by
columns (`records.to_dict`); of 1.x as data sets (`FeedbackDataset.format_as("datasets")`) and as records.

Who answered is a user's id. Answers have a status, submitted, draft or discarded, which 2.x's `to_json` does not write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from constitution.errors import InputError
from constitution.reading import parse_json
from constitution.warehouse.annotations.said import (
    BLANK,
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
from constitution.warehouse.annotations.sheet import QUESTION, TITLES, Sheet, put_array, put_json

KEYS = frozenset({"responses", "fields", "_server_id"})
NO_STATUS = (
    "from Argilla without a status, so drafts and discarded ones may be among them (`records.to_list(flatten=True)` "
    "has it)"
)
_FLAT, _FIRST = ".responses", "-suggestion"
Answer = tuple[str, Any, Any, Any]
"""Question, value, user, status. No question: the user said nothing, in this status."""


def is_one(data: Mapping[str, Any]) -> bool:
    if "_server_id" in data or ("fields" in data and isinstance(data.get("responses"), dict | list)):
        return True
    return any(name.endswith(_FLAT) or f"{name}{_FIRST}" in data for name in data)


@dataclass
class _User:
    """What one user says of one record."""

    id: str
    status: str
    answers: dict[str, Any] = field(default_factory=dict)


def said(data: Mapping[str, Any], question: str | None) -> Iterator[Said]:
    users: list[_User] = []
    for name, value, user, status in _answers(data):
        key = as_text(user), as_text(status)
        if not (own := next((u for u in users if (u.id, u.status) == key and name not in u.answers), None)):
            users.append(own := _User(*key))
        if name:
            own.answers[name] = value
    ids = ids_of(_metadata(data), data.get("fields"), data)
    record = as_text(data.get("id") or data.get("external_id"))
    if not users:
        yield skipped(BLANK)
    for user in users:
        if user.status not in ("", "submitted"):
            yield skipped(f"with the status {user.status!r} in Argilla")
            continue
        answers = {name: value for name, value in user.answers.items() if value is not None}
        read = question_of(answers, question)
        yield from others(answers, read)
        if read is None:
            yield skipped(BLANK)
        else:
            row = _row(answers[read], ids, record)
            yield Said(row | ({"rater": user.id} if user.id else {}), "" if user.status else NO_STATUS)


def _answers(data: Mapping[str, Any]) -> Iterator[Answer]:
    held = data.get("responses")
    if isinstance(held, dict):  # 2.x: by question
        for name, each in held.items():
            yield from ((name, *_fields(one)) for one in objects(name, each))
    elif isinstance(held, list):  # 1.x: by user
        for one in objects("responses", held):
            values = mapping("values", one.get("values"))
            told = one.get("user_id"), one.get("status")
            yield from ((name, mapping(name, value).get("value"), *told) for name, value in values.items())
            if not values:
                yield ("", None, *told)
    for name in data:
        if name.endswith(_FLAT):
            yield from _flat(data, name)
        elif f"{name}{_FIRST}" in data:
            yield from ((name, *_fields(one)) for one in objects(name, _listed(name, data[name])))


def _fields(one: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return one.get("value"), one.get("user_id"), one.get("status")


def _flat(data: Mapping[str, Any], name: str) -> Iterator[Answer]:
    columns = [_listed(each, data.get(each)) for each in (name, f"{name}.users", f"{name}.status")]
    values, users, states = columns[0], columns[1], columns[2] or [None] * len(columns[0])
    if not len(values) == len(users) == len(states):
        raise Refused(f"{name}, {name}.users and {name}.status are not equally long", "export the records again")
    yield from ((name.removesuffix(_FLAT), *one) for one in zip(values, users, states, strict=True))


def _listed(name: str, value: Any) -> list[Any]:
    if isinstance(value, str) and value:
        try:
            value = parse_json(value, name, InputError)
        except InputError:
            value = value or None
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise Refused(f"{name} is a text, not a list", "export the records as JSON or Parquet, not as CSV")
    return value


def _metadata(data: Mapping[str, Any]) -> Any:
    held = data.get("metadata")
    if isinstance(held, str) and held:  # a data set of 1.x
        try:
            return parse_json(held, "metadata", InputError)
        except InputError as error:
            raise Refused(str(error), "export the records again") from None
    return held


def _row(value: Any, ids: Mapping[str, str], record: str) -> dict[str, str]:
    """record: its own id, which is the pair's or the response's where nothing else says what was shown."""
    if isinstance(value, list | dict):
        return choice(_named(ids, record, "pair_id"), _best(value))
    if isinstance(value, str):
        return choice(_named(ids, record, "pair_id"), value)
    return rating(_named(ids, record, "response_id"), value)


def _named(ids: Mapping[str, str], record: str, what: str) -> dict[str, str]:
    known = {"pair_id", "response_id"} & ids.keys() or {"first_id", "second_id"} <= ids.keys()
    return {**ids} if known or not record else {**ids, what: record}


def _best(value: list[Any] | dict[str, Any]) -> str:
    """The word for what is ranked first, `tie` where two are."""
    if isinstance(value, dict):  # a list of objects, as `datasets` keeps it
        columns = _listed("value", value.get("value")), _listed("rank", value.get("rank"))
        pairs: Iterable[tuple[Any, Any]] = zip(*columns, strict=False)
    elif value and all(isinstance(one, dict) for one in value):
        pairs = ((one.get("value"), one.get("rank")) for one in value)
    elif len(value) == 1:
        return as_text(value[0])
    else:
        hint = "ask with a LabelQuestion, or export a ranking with its ranks"
        raise Refused(f"answers {', '.join(map(as_text, value))}: a ranking without ranks, or a choice of all", hint)
    ranks = {as_text(word): rank for word, rank in pairs}
    if not ranks or not all(isinstance(rank, int) for rank in ranks.values()):
        raise Refused("has a ranking without ranks", "export a ranking with its ranks, or ask with a LabelQuestion")
    best = [word for word, rank in ranks.items() if rank == min(ranks.values())]
    return best[0] if len(best) == 1 else "tie"


# --- sheets


def write(sheets: Iterable[Sheet], folder: Path, title: str) -> str:
    """A folder for `rg.Dataset.from_disk(folder)`; the ids are each record's metadata, which annotators do not see."""
    texts = [
        {"name": name, "title": TITLES[name], "type": "text", "settings": {"type": "text", "use_markdown": False}}
        | {"required": True}
        for name in ("conversation", "first", "second")
    ]
    options = [{"value": word, "text": TITLES[word]} for word in ("first", "second", "tie")]
    options[0]["text"], options[1]["text"] = (f"{TITLES[word]} is better" for word in ("first", "second"))
    asked = {"type": "label_selection", "options": options, "visible_options": len(options)}
    settings = {
        "guidelines": QUESTION,
        "fields": texts,
        "questions": [
            {"name": "preferred", "title": QUESTION, "type": "label_selection", "required": True, "settings": asked}
        ],
        "metadata": [
            {"name": name, "title": name, "settings": {"type": "terms"}, "visible_for_annotators": False}
            for name in ("pair_id", "first_id", "second_id")
        ],
        "vectors": [],
        "allow_extra_metadata": True,
    }
    (folder / ".argilla").mkdir()
    put_json(folder / ".argilla" / "settings.json", settings)
    put_json(folder / ".argilla" / "dataset.json", {"name": title})
    put_array(
        folder / "records.json",
        (
            {
                "id": sheet.ids["pair_id"],
                "fields": sheet.texts,
                "metadata": sheet.ids,
            }
            for sheet in sheets
        ),
    )
    return (
        'dataset = rg.Dataset.from_disk("{}", workspace=…); afterwards '
        'json.dump(dataset.records.to_list(flatten=True), open("said.json", "w"))'
    )
