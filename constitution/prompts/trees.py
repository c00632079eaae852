"""Conversation trees, as OpenAssistant has them: every turn of a user is a prompt, with the path to it before it and
the replies to it as `replies`; a tree a row (`prompt`, with `replies` in `replies`), or a turn a row (`parent_id`).

for row in prompts_of(rows, section):
    row.data  # {"prompt": [{"role": "user", "content": "…"}, …], "replies": [{"text": "…", "rank": 0, …}], …}

Names of the keys: github.com/LAION-AI/Open-Assistant, oasst-data/oasst_data/schemas.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any

from constitution.errors import PromptError
from constitution.prompts.row import Row
from constitution.recipe import PromptsSection

KEYS = frozenset({"message_id", "parent_id", "role", "text", "deleted", "prompt", "replies"})
"""What is read of turns, besides what a recipe names."""
_ROLES = {"prompter": "user", "user": "user", "assistant": "assistant"}
_ANSWERING = [role for role, ours in _ROLES.items() if ours == "assistant"]
_HINT = "a tree a row has its turns under `prompt` and `replies`, a turn a row message_id, parent_id, role and text"
_DELETED = 'take the file of trees that are ready for export; or prompts.ignore = ["deleted"] takes such turns too'

Node = dict[str, Any]


def prompts_of(rows: Iterable[Row], section: PromptsSection) -> Iterator[Row]:
    """A row for each turn of a user: of a tree from the root on, of turns in their own order. The path to it, and
    itself, are under the key that the recipe reads prompts from.

    Memory: one tree; of rows that are turns, all of them.
    Raises PromptError for rows that are no turns, and for one that is marked as deleted. A turn whose parent is not
    there, and a tree of one row that is none, are rows with that fault.
    """
    rows = iter(rows)
    first = None
    for first in rows:
        if not first.fault:
            break
        yield first
    if first is None or first.fault:
        return
    every = chain((first,), rows)
    if isinstance(first.data.get("prompt"), dict):
        for row in every:
            try:
                found = [row] if row.fault else list(_nested(row, section))
            except PromptError as error:
                found = [Row(row.source, row.place, {}, error)]
            yield from found
    else:
        yield from _flat(every, section)


def as_prompts(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of a source, and where they are trees, their prompts, those that are marked as deleted too."""
    rows = iter(rows)
    if (first := next(rows, None)) is None:
        return
    every, root = chain((first,), rows), first.data.get("prompt")
    is_turn = {"message_id", "parent_id", "role", "text"} <= first.data.keys()
    if is_turn or (isinstance(root, dict) and "replies" in root):
        yield from prompts_of(every, PromptsSection(path="trees", trees=True, ignore=("deleted",)))
    else:
        yield from every


def _nested(row: Row, section: PromptsSection) -> Iterator[Row]:
    beside = _without(row.data, {"prompt"})
    stack: list[tuple[Node, list[Node]]] = [(row.value("prompt", _HINT), [])]
    number = 0
    if not isinstance(stack[0][0], dict):
        row.refuse("prompt is not the first turn of a tree", _HINT)
    while stack:
        node, before = stack.pop()
        path = [*before, _turn(row, node, section.ignore)]
        replies = node.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            row.refuse("the replies to a turn are not a list of objects")
        stack += [(reply, path) for reply in reversed(replies)]
        if path[-1]["role"] == "user":
            number += 1
            place = f"{row.place}, prompt {number}"
            yield _row(Row(f"{row.source}/{number}", place, {**beside, **node}), path, replies, section.field)


def _flat(rows: Iterable[Row], section: PromptsSection) -> Iterator[Row]:
    turns: dict[Any, tuple[Row, Node]] = {}
    replies: dict[Any, list[Node]] = {}
    for row in rows:
        if row.fault:
            yield row
            continue
        id, parent = row.value("message_id", _HINT), row.data.get("parent_id")
        if not isinstance(id, str | int) or not isinstance(parent, str | int | None):
            row.refuse(f"message_id is {id!r:.100} and parent_id {parent!r:.100}, and they name turns", _HINT)
        if id in turns:
            row.refuse(f"message_id {id!r:.100} is twice in the file")
        turns[id] = row, _turn(row, row.data, section.ignore)
        replies.setdefault(parent, []).append(row.data)
    for id, (row, turn) in turns.items():
        parent = row.data.get("parent_id")
        if turn["role"] != "user" and (parent is None or parent in turns):  # it is in the path to others, or a reply
            continue
        try:
            yield _row(row, _path(turns, id), replies.get(id, []), section.field)
        except PromptError as error:
            yield Row(row.source, row.place, {}, error)


def _path(turns: dict[Any, tuple[Row, Node]], id: Any) -> list[Node]:
    """From the root to the turn."""
    path: dict[Any, Node] = {}
    child = turns[id][0]
    while id is not None:
        if id not in turns:
            child.refuse(f"parent_id {id!r:.100} is no turn of the file", "a tree is read whole")
        if id in path:
            child.refuse(f"message_id {id!r:.100} comes before itself")
        child, path[id] = turns[id]
        id = child.data.get("parent_id")
    return list(path.values())[::-1]


def _turn(row: Row, node: Node, ignored: Collection[str]) -> Node:
    role, text = node.get("role"), node.get("text")
    if not isinstance(role, str) or role not in _ROLES or not isinstance(text, str):
        row.refuse(f"a turn of the tree has the role {role!r:.100}, or no text", _HINT)
    if node.get("deleted") and "deleted" not in ignored:
        row.refuse("a turn of the tree is marked as deleted", _DELETED)
    return {"role": _ROLES[role], "content": text}


def _row(row: Row, path: list[Node], replies: list[Node], field: str) -> Row:
    """What lies beside the turn stays; of its replies those that answer it."""
    answers = [reply for reply in replies if reply.get("role") in _ANSWERING]
    said = [_without(reply, KEYS - {"message_id", "text"}) for reply in answers]
    return Row(row.source, row.place, {**_without(row.data, KEYS - {"message_id"}), field: path, "replies": said})


def _without(node: Node, keys: Collection[str]) -> Node:
    return {key: value for key, value in node.items() if key not in keys}
