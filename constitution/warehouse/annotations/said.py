"""What a person says of a pair or a response, as every form of file is brought to it: the columns of a plain table."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

COLUMNS = ("pair_id", "response_id", "preferred", "value", "rater", "principle_id", "first_id", "second_id")
"""What is read of a row. The view `annotation_sheet` has `first_id` and `second_id`."""
ALIASES = {"winner": "preferred", "annotator": "rater", "a_id": "first_id", "b_id": "second_id"}
"""Other names of these columns."""
IDS = ("pair_id", "response_id", "principle_id", "first_id", "second_id")
PAIR = frozenset({"pair_id", "first_id", "second_id"})
QUESTIONS = ("preferred", "winner")
"""Names of the question that says which answer is better."""

BLANK = "left blank"


class Said(NamedTuple):
    """One answer of one person, or what was found in its place."""

    row: Mapping[str, str]
    """By column of COLUMNS what it says; empty: nothing."""
    note: str = ""
    """Why it is not taken, or what is not known of one that is."""
    taken: bool = True


class Refused(Exception):
    """A row that cannot be taken, and what to do. unknown: it is about what is not in the warehouse."""

    def __init__(self, fault: str, hint: str, *, unknown: bool = False) -> None:
        super().__init__(fault)
        self.hint, self.unknown = hint, unknown


def whole(said: Said) -> Said:
    """`said`. Raises Refused where a text of it cannot be stored."""
    try:
        "".join(said.row.values()).encode()
    except UnicodeEncodeError:
        raise Refused("a text has half of a surrogate pair", "write the id or the name whole, in UTF-8") from None
    return said


def skipped(why: str) -> Said:
    return Said({}, why, taken=False)


def as_text(value: Any) -> str:
    """A cell of any type as the text that a table has of it; empty: it says nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict | list) else str(value).strip()


def objects(name: str, value: Any) -> list[dict[str, Any]]:
    """The objects of a list that a tool writes under `name`; null is none."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise Refused(f"{name} is no list of objects", "export it again, as JSON")
    return value


def mapping(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(f"{name} is no object", "export it again, as JSON")
    return value


def ids_of(*holders: Any) -> dict[str, str]:
    """The ids that the first of the objects says which has them: a task carries them where its tool has room."""
    found: dict[str, str] = {}
    for holder in holders:
        if isinstance(holder, Mapping):
            for name, value in holder.items():
                column = ALIASES.get(name, name)
                if column in IDS and (text := as_text(value)):
                    found.setdefault(column, text)
    return found


def question_of(names: Collection[str], asked: str | None) -> str | None:
    """Which of a person's answers is meant; None: there is none. asked: the name that the user gave."""
    if asked is not None:
        return asked if asked in names else None
    known = [name for name in QUESTIONS if name in names] or list(names)
    if len(known) > 1:
        raise Refused(f"answers the questions {', '.join(known)}", "say which of them is read: --question NAME")
    return known[0] if known else None


def others(names: Collection[str], read: str | None) -> Iterator[Said]:
    """What is not taken of a person's answers."""
    yield from (
        skipped(f"answering {name!r}, which is not the question that is read") for name in names if name != read
    )


def choice(ids: Mapping[str, str], word: str) -> dict[str, str]:
    about = {name: id for name, id in ids.items() if name != "response_id" or not PAIR & ids.keys()}
    return {**about, "preferred": word}


def rating(ids: Mapping[str, str], number: Any) -> dict[str, str]:
    """A rating is of a response alone: as the value of a pair, one star would say that its later answer is better."""
    if "response_id" not in ids:
        hint = "put the id of the response that was rated beside its text, as `response_id`"
        raise Refused(f"has the rating {as_text(number)} and no response_id", hint)
    return {**{name: id for name, id in ids.items() if name not in PAIR}, "value": as_text(number)}
