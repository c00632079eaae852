"""Prompts by chance: rows in the shapes that data sets have, as JSONL, Parquet and by SQL. All three give the same
prompts, with every row and text as it is, or each refuses in a sentence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import Torture

from constitution.errors import PromptError
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.records import Prompt

TEXTS = ("hi", "  hi\n", "a\r\nb", "2020-01-01", "17", "1e5", "true", "null", "[1, 2]", '{"a": 1}', 'say "hi"', "'; --",
    "{{name}}", "é🙂\u2028x", "\ufeffa", "a,b\tc", "\\n", "<think>", "Human: a", "\n\nHuman: hi\n\nAssistant: yes",
    "\n\nHuman: hi", '[{"role": "user", "content": "hi"}]', "[{'role': 'user', 'content': 'hi'}]", "", " ", "a\0b",
    "User: a\nAssistant: b", "00:10:00", "550e8400-e29b-41d4-a716-446655440000", "x" * 3000)  # fmt: skip
PLAIN = TEXTS[:16]
"""Those that nothing speaks against."""
Turns = list[tuple[str, str]]
TURN = {"role": pa.string(), "content": pa.string()}
CALLS = pa.list_(pa.struct({"id": pa.string()}))
BESIDE: Mapping[str, tuple[pa.DataType, tuple[Any, ...], bool]] = {
    "id": (pa.int64(), (0, 7), False),
    "source": (pa.string(), ("s", "", None), False),
    "score": (pa.float64(), (0.5, None), False),
    "category": (pa.string(), ("x", None), False),
    "meta": (pa.struct({"a": pa.int64()}), ({"a": 1}, None), False),
    "system": (pa.string(), ("Be brief.", "", " ", None, None), True),
    "context": (pa.string(), ("c", "", None, None), True),
    "Context": (pa.string(), ("c", None, None), True),
    "tools": (CALLS, ([{"id": "t"}], [], None, None), True),
    "images": (pa.list_(pa.string()), (["a.png"], [], [None], None, None), True),
    "system_prompt_json": (pa.string(), ('{"b": 2}', "{}", "", None, None), True),
}
"""Column → its type, values, and whether a model would have been shown them."""


def is_nothing(value: Any) -> bool:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return all(map(is_nothing, inner)) if inner is not None else value in (None, "{}") or not str(value).strip()


@dataclass
class Made:
    """A data set, and what is right of it."""

    types: dict[str, pa.DataType]
    rows: list[dict[str, Any]] = field(default_factory=list)
    turns: list[Turns] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    lost: bool = False
    """Something that a model would have been shown is neither used nor left out: it must be refused."""
    plain: bool = True
    """Nothing speaks against any row: it must be read."""


def talk(draw: random.Random, made: Made, texts: tuple[str, ...]) -> Turns:
    roles = ["user", *["assistant", "user"] * draw.choice((0, 0, 1, 2))]
    roles = ["system"] * draw.choice((0, 0, 1)) + roles
    turns = [(role, draw.choice(texts)) for role in roles]
    made.plain = made.plain and all(text in PLAIN for _, text in turns)
    return turns


def main_column(draw: random.Random, made: Made, texts: tuple[str, ...]) -> tuple[str, pa.DataType, Callable[[], Any]]:
    """Name, type, and what makes a cell, which notes its turns."""
    kind = draw.choice(("text", "text", "messages", "sharegpt", "parts", "calls"))

    def text() -> str:
        said = draw.choice(texts)
        made.plain = made.plain and said in PLAIN
        made.turns.append([("user", said)])
        return said

    def messages() -> list[dict[str, Any]]:
        made.turns.append(talk(draw, made, texts))
        return [{"role": role, "content": said} for role, said in made.turns[-1]]

    def sharegpt() -> list[dict[str, Any]]:
        names = {"user": "human", "assistant": "gpt", "system": "system"}
        return [{"from": names[turn["role"]], "value": turn["content"]} for turn in messages()]

    def parts() -> list[dict[str, Any]]:
        cut = [(turn, draw.randint(0, len(turn["content"]))) for turn in messages()]
        return [
            {"role": turn["role"],
             "content": [{"type": "text", "text": half} for half in (turn["content"][:at], turn["content"][at:])]}
            for turn, at in cut
        ]  # fmt: skip

    def calls() -> list[dict[str, Any]]:
        turns = [turn | {"tool_calls": draw.choice(([{"id": "c"}], [], None, None, None))} for turn in messages()]
        if any(turn["tool_calls"] for turn in turns) and "tool_calls" not in made.settings["ignore"]:
            made.lost = True
        return turns

    part = pa.list_(pa.struct({"type": pa.string(), "text": pa.string()}))
    columns: dict[str, tuple[str, Any, Callable[[], Any]]] = {
        "text": ("prompt", pa.string(), text),
        "messages": (draw.choice(("prompt", "messages")), pa.list_(pa.struct(TURN)), messages),
        "sharegpt": ("conversations", pa.list_(pa.struct({"from": pa.string(), "value": pa.string()})), sharegpt),
        "parts": ("messages", pa.list_(pa.struct({"role": pa.string(), "content": part})), parts),
        "calls": ("messages", pa.list_(pa.struct(TURN | {"tool_calls": CALLS})), calls),
    }
    return columns[kind]


def make(draw: random.Random) -> Made:
    made = Made({})
    beside = draw.sample(list(BESIDE), draw.choice((0, 1, 1, 2, 4)))
    beside = [name for name in beside if not (name == "Context" and "context" in beside)]
    ignore = [name for name in (*beside, "tool_calls") if draw.random() < 0.4]
    made.settings = {"ignore": tuple(ignore)}
    if "system" in beside and "system" not in ignore and draw.random() < 0.6:
        made.settings["system"] = "system"
    name, type_, cell = main_column(draw, made, PLAIN if draw.random() < 0.7 else TEXTS)
    made.types = {name: type_} | {each: BESIDE[each][0] for each in beside}
    for _ in range(draw.randint(1, 5)):
        row = {name: cell()} | {each: draw.choice(BESIDE[each][1]) for each in beside}
        made.rows.append(row)
        for each in beside:
            if BESIDE[each][2] and not is_nothing(row[each]) and each not in (*ignore, made.settings.get("system")):
                made.lost = True
        if "system" in made.settings and not is_nothing(row["system"]):
            if made.turns[-1][0][0] == "system":
                made.plain = made.plain and made.turns[-1][0][1] == row["system"]
            else:
                made.turns[-1].insert(0, ("system", row["system"]))
    return made


Outcome = list[Prompt] | str


def read(folder: Path, **settings: Any) -> Outcome:
    try:
        return list(read_prompts(PromptsSection(**settings), folder))
    except PromptError as error:
        return str(error)


def write(draw: random.Random, made: Made, folder: Path) -> None:
    """Null is left out of JSON, or written."""
    kept = made.settings.get("system")  # a key that no row has is refused
    rows = [
        {key: value for key, value in row.items() if value is not None or key == kept or draw.random() < 0.5}
        for row in made.rows
    ]
    end = draw.choice(("\n", "\r\n"))
    ascii_ = draw.random() < 0.5
    (folder / "p.jsonl").write_bytes("".join(json.dumps(row, ensure_ascii=ascii_) + end for row in rows).encode())
    pq.write_table(pa.Table.from_pylist(made.rows, pa.schema(made.types)), folder / "p.parquet", row_group_size=2)


def plain(prompts: Outcome) -> Any:
    if isinstance(prompts, str):
        return "refused"
    return [([(turn.role, turn.content) for turn in prompt.messages], prompt.answers) for prompt in prompts]


def test_the_same_rows_from_all_readers(tmp_path: Path, torture: Torture) -> None:
    draw = random.Random(f"{torture.seed}/prompts")
    ended = {"read": 0, "refused": 0}
    for number in range(250 if torture.full else 20):
        made = make(draw)
        write(draw, made, tmp_path)
        found = {
            "jsonl": read(tmp_path, path="p.jsonl", **made.settings),
            "parquet": read(tmp_path, path="p.parquet", **made.settings),
            "sql": read(tmp_path, format="sql", query="SELECT * FROM 'p.parquet'", **made.settings),
        }
        assert all("\n" not in prompts for prompts in found.values() if isinstance(prompts, str))
        told = (number, made, {reader: prompts for reader, prompts in found.items() if isinstance(prompts, str)})
        assert len({repr(plain(prompts)) for prompts in found.values()}) == 1, told
        if made.lost or isinstance(found["jsonl"], str):
            assert isinstance(found["jsonl"], str), told
            assert made.lost or not made.plain, told
            ended["refused"] += 1
            continue
        assert plain(found["jsonl"]) == [(turns, ()) for turns in made.turns], told
        # Left to itself DuckDB takes texts for dates and numbers: these are refused, and none is altered.
        guessed = read(tmp_path, format="sql", query="SELECT * FROM 'p.jsonl'", **made.settings)
        assert isinstance(guessed, str) or plain(guessed) == plain(found["jsonl"]), (guessed, told)
        ended["read"] += 1
    assert min(ended.values()) > number / 6, ended
    torture.count("data sets by chance", sum(ended.values()))
