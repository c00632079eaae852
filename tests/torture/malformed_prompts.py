"""Prompt files that cannot be used."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from malformed import RECIPE, Case, Content

SOUND = '{"prompt": "one"}\n'


def recipe(lines: str = "", path: str = "prompts.jsonl") -> str:
    return RECIPE.replace('path = "prompts.jsonl"', f'path = "{path}"\n{lines}')


def case(name: str, content: Content, *must_say: str, lines: str = "", path: str = "prompts.jsonl") -> Case:
    return Case(f"prompts, {name}", {"r.toml": recipe(lines, path), path: content}, must_say=(path, *must_say))


def turns(*said: tuple[Any, Any]) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in said]}) + "\n"


def many(count: int, block: bytes) -> Callable[[Path], None]:
    """A file of so many blocks, without holding them."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            for _ in range(count):
                file.write(block)

    return write


def bomb(megabytes: int, block: bytes) -> Callable[[Path], None]:
    """A .gz that unpacks to so much: one compressed megabyte, as members one after the other."""
    member = gzip.compress(block * (2**20 // len(block)))
    return many(megabytes, member)


def table(columns: dict[str, Any]) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path)


def parquet(name: str, columns: dict[str, Any], *must_say: str) -> Case:
    return case(f"Parquet, {name}", table(columns), *must_say, path="p.parquet")


def cut(path: Path) -> None:
    table({"prompt": ["x" * 1000] * 100})(path)
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    """A page whose bytes are not what they were."""
    pq.write_table(pa.table({"prompt": [f"text {n}" for n in range(5000)]}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    for place in range(100, 2000):
        data[place] ^= 0xFF
    path.write_bytes(data)


LINES = [
    case("empty", b"", "no prompts"),
    case("blank lines only", b"\n \n\t\n", "no prompts"),
    case("only a BOM", b"\xef\xbb\xbf", "no prompts"),
    case("no JSON", SOUND + "{not json\n", "line 2", "not valid JSON"),
    case("an array", SOUND + "[1, 2]\n", "line 2", "object"),
    case("a text", '"hello"\n', "line 1", "object"),
    case("null", "null\n", "line 1"),
    case("two objects on a line", '{"prompt": "a"} {"prompt": "b"}\n', "line 1", "not valid JSON"),
    case("an object over two lines", '{"prompt":\n"a"}\n', "line 1", "not valid JSON"),
    case("a key twice", '{"prompt": "a", "prompt": "b"}\n', "line 1", "twice"),
    case("a key twice in a message", '{"messages": [{"role": "user", "role": "user", "content": "a"}]}\n', "twice"),
    case("NaN", '{"prompt": "a", "x": NaN}\n', "line 1", "NaN"),
    case("a number without end", '{"prompt": "a", "x": 1e400}\n', "line 1", "1e400", "too large"),
    case("Infinity", '{"prompt": "a", "x": -Infinity}\n', "line 1", "Infinity"),
    case("a number of 10,000 digits", f'{{"prompt": "a", "x": {"9" * 10_000}}}\n', "line 1", "not valid JSON"),
    case("nested 100,000 deep", '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "line 1", "nested"),
    case("invalid UTF-8", b'{"prompt": "\xff\xfe"}\n', "line 1", "UTF-8"),
    case("UTF-16", SOUND.encode("utf-16"), "line 1", "UTF-8"),
    case("Latin-1", '{"prompt": "café"}\n'.encode("latin-1"), "line 1", "UTF-8"),
    case("a BOM in the middle", SOUND.encode() + b"\xef\xbb\xbf" + SOUND.encode(), "line 2", "not valid JSON"),
    case("CR alone at line ends", SOUND.replace("\n", "\r") * 2, "line 1", "not valid JSON"),
    case("a raw line break in a text", '{"prompt": "a\nb"}\n', "line 1", "not valid JSON"),
    case("a raw control character", b'{"prompt": "a\x07b"}\n', "line 1", "not valid JSON"),
    case("raw NULs", b"\x00" * 100 + b"\n", "line 1", "not valid JSON"),
    case("NUL in a text", '{"prompt": "a\\u0000b"}\n', "line 1", "NUL"),
    case("half of a surrogate pair", '{"prompt": "\\ud83d"}\n', "line 1", "surrogate"),
    case("half of a pair in an answer", '{"prompt": "a", "good": "\\ud83d", "bad": "b"}\n', "line 1", "surrogate",
         lines='answers = ["good", "bad"]'),
    case("half of a pair in a tag", '{"prompt": "a", "t": ["\\udc00"]}\n', "line 1", lines='tags_field = "t"'),
    case("NUL in a tag", '{"prompt": "a", "t": ["\\u0000"]}\n', "line 1", lines='tags_field = "t"'),
    case("a line of 100 MB", many(100, b"x" * 2**20), "line 1", "16 MiB"),
    case("a text of 100 MB", lambda path: (many(1, b'{"prompt": "')(path), path.open("ab").write(b"x" * 100 * 2**20)),
         "line 1", "16 MiB"),
    case("two million blank lines", many(2, b"\n" * 2**20), "blank"),
]  # fmt: skip

FIELDS = [
    case("no such key", '{"question": "a"}\n', "line 1", "prompt", "question"),
    case("null in the key", '{"prompt": null}\n', "line 1", "prompt"),
    case("a number", '{"prompt": 3}\n', "line 1", "neither a text nor a list"),
    case("an object", '{"prompt": {"text": "a"}}\n', "line 1", "neither a text nor a list"),
    case("true", '{"prompt": true}\n', "line 1"),
    case("an empty text", '{"prompt": ""}\n', "line 1", "no text"),
    case("blanks", '{"prompt": " \\n\\t "}\n', "line 1", "no text"),
    case("an empty list", '{"messages": []}\n', "line 1"),
    case("a list of texts", '{"messages": ["a"]}\n', "line 1", "turn 1"),
    case("a message without a role", '{"messages": [{"content": "a"}]}\n', "line 1", "turn 1", "role"),
    case("a message without content", '{"messages": [{"role": "user"}]}\n', "line 1", "turn 1"),
    case("content in parts that are no texts", turns(("user", [{"type": "image"}])), "line 1", "turn 1", "image"),
    case("a turn with tools", '{"messages": [{"role": "user", "content": "a", "tool_calls": [1]}]}\n', "line 1",
         "turn 1", "tool_calls"),
    case("a system text beside", '{"prompt": "a", "system": "b"}\n', "line 1", "system"),
    case("messages as JSON text", json.dumps({"prompt": '[{"role": "user", "content": "a"}]'}), "line 1", "messages"),
    case("content null", turns(("user", None)), "line 1", "turn 1"),
    case("a tool's turn", turns(("user", "a"), ("tool", "b"), ("user", "c")), "line 1", "turn 2", "role"),
    case("a role in capitals", turns(("User", "a")), "line 1", "turn 1", "User"),
    case("a role that is a list", turns((["user"], "a")), "line 1", "turn 1", "role"),
    case("a role with an escape", turns(("\x1b[31muser", "a")), "line 1", "turn 1", "role"),
    case("a role of 100,000 letters", turns(("x" * 100_000, "a")), "line 1", "turn 1", "role"),
    case("the assistant last", turns(("user", "a"), ("assistant", "b")), "line 1", "last turn",
         lines='last_answer = "refuse"'),
    case("only the assistant", turns(("assistant", "b")), "line 1", "user's"),
    case("a name that is there twice", '{"prompt": "a", "id": 1}\n{"prompt": "b", "id": "1"}\n', "line 2", "line 1",
         lines='id_field = "id"'),
    case("a name that is a list", '{"prompt": "a", "id": [1]}\n', "line 1", "id", lines='id_field = "id"'),
    case("metadata that no row has", '{"prompt": "a"}\n', "lang", lines='metadata = ["lang"]'),
    case("half of a pair in metadata", '{"prompt": "a", "m": "\\udc00"}\n', "line 1", lines='metadata = ["m"]'),
    case("no row that is read, and all are to be skipped", '{"promt": "a"}\n3\n', "line 1", "2 rows",
         lines='on_bad_row = "skip"'),
    case("the system last", turns(("user", "a"), ("system", "b")), "line 1", "last turn"),
    case("only the system", turns(("system", "a")), "line 1", "last turn"),
    case("an empty turn before", turns(("user", "a"), ("assistant", ""), ("user", "b")), "line 1", "turn 2"),
    case("a transcript as a prompt", '{"prompt": "\\n\\nHuman: a\\n\\nAssistant:"}\n', "line 1", "transcript"),
    case("an answer missing", '{"prompt": "a", "good": "b"}\n', "line 1", "bad", lines='answers = ["good", "bad"]'),
    case("an answer that is a number", '{"prompt": "a", "good": 1, "bad": "b"}\n', "line 1",
         lines='answers = ["good", "bad"]'),
    case("an answer of another conversation", json.dumps({"prompt": "a", "good": [{"role": "user", "content": "z"}],
         "bad": "b"}) + "\n", "line 1", "good", lines='answers = ["good", "bad"]'),
    case("tags that are the JSON of a list", json.dumps({"prompt": "a", "t": '["x"]'}), "line 1", "t",
         lines='tags_field = "t"'),
    case("tags of numbers", '{"prompt": "a", "t": [1]}\n', "line 1", "t", lines='tags_field = "t"'),
    case("a transcript of no turns", '{"prompt": "hello"}\n', "line 1", lines='format = "transcripts"'),
    case("a transcript that is a list", '{"prompt": ["a"]}\n', "line 1", "not a text", lines='format = "transcripts"'),
    case("a transcript without a human", '{"prompt": "\\n\\nAssistant: a"}\n', "line 1", "user's",
         lines='format = "transcripts"'),
    case("transcripts with nothing in common",
         '{"c": "\\n\\nHuman: a\\n\\nAssistant: b", "r": "\\n\\nHuman: x\\n\\nAssistant: y"}\n', "line 1", "in common",
         lines='format = "transcripts"\nanswers = ["c", "r"]'),
]  # fmt: skip

FILES = [
    Case("prompts, none", {"r.toml": recipe(path="none.jsonl")}, must_say=("none.jsonl", "no such")),
    case("a folder", lambda path: path.mkdir(), "no such"),
    case("a pipe", os.mkfifo, "no such"),
    case("a link to itself", lambda path: path.symlink_to(path), "no such"),
    case("no kind by its name", "one\ntwo\n", "name", path="prompts.txt"),
    case("CSV of unequal rows", "prompt,id\none\n", "row 1", "line 2", path="prompts.csv"),
    case("CSV with an open quote", 'prompt\n"one\ntwo\n', "line 2", path="prompts.csv"),
    case("CSV in Latin-1", "prompt\nGrüße\n".encode("latin-1"), "line 2", "UTF-8", path="prompts.csv"),
    case("JSON that ends early", '[{"prompt": "one"}', "JSON", path="prompts.json"),
    case("JSON of columns of two lengths", '{"prompt": ["one"],\n"id": []}', "lengths", path="prompts.json"),
    case("gz that is none", b"\x1f\x8b" + SOUND.encode(), path="p.jsonl.gz"),
    case("zstd cut off", pa.compress(SOUND.encode() * 1000, codec="zstd", asbytes=True)[:-9], path="p.jsonl.zst"),
    case("zstd that is none", b"\x28\xb5\x2f\xfd" + SOUND.encode(), path="p.jsonl.zst"),
    case("gz cut off", gzip.compress(SOUND.encode() * 1000)[:-20], path="p.jsonl.gz"),
    case("gz with a wrong sum", gzip.compress(SOUND.encode())[:-8] + b"\0" * 8, path="p.jsonl.gz"),
    case("gz with rubbish behind it", gzip.compress(SOUND.encode()) + b"rubbish", path="p.jsonl.gz"),
    case("zlib", zlib.compress(SOUND.encode()), path="p.jsonl.gz"),
    case("an empty gz", gzip.compress(b""), "no prompts", path="p.jsonl.gz"),
    case("a bomb of 10 GB of zeros", bomb(10_000, b"\0" * 2**20), "line 1", "16 MiB", path="p.jsonl.gz"),
    case("a bomb of blank lines", bomb(10_000, b"\n" * 2**20), "blank", path="p.jsonl.gz"),
    case("no Parquet", SOUND, "Parquet", path="p.parquet"),
    case("empty Parquet", b"", "Parquet", path="p.parquet"),
    case("Parquet cut off", cut, "Parquet", path="p.parquet"),
    case("Parquet with flipped bytes", flipped, path="p.parquet"),
    parquet("no rows", {"prompt": pa.array([], pa.string())}, "no prompts"),
    parquet("no columns", {}, "no prompts"),
    parquet("numbers", {"prompt": [1, 2]}, "row 1"),
    parquet("bytes", {"prompt": [b"\xff"]}, "row 1"),
    parquet("null", {"prompt": pa.array(["a", None])}, "row 2"),
    parquet("a null column", {"prompt": pa.nulls(1)}, "row 1"),
    parquet("another column", {"text": ["a"]}, "row 1", "text"),
    parquet("messages of texts", {"messages": [["a"]]}, "row 1", "turn 1"),
    parquet("a null message", {"messages": pa.array([[None]], pa.list_(pa.struct([("role", pa.string())])))}, "row 1"),
    parquet("a text with NUL", {"prompt": ["a\0b"]}, "row 1", "NUL"),
]


def query(name: str, text: str, *must_say: str) -> Case:
    lines = RECIPE.replace('path = "prompts.jsonl"', f"format = 'sql'\nquery = '''{text}'''")
    return Case(f"prompts.query, {name}", {"r.toml": lines}, must_say=("prompts.query", *must_say))


QUERIES = [
    query("no SQL", "SELEKT 1"),
    query("nothing", " "),
    query("two statements", "SELECT 'a' AS prompt; SELECT 'b' AS prompt"),
    query("no such column", "SELECT nosuch AS prompt"),
    query("no such file", "SELECT prompt FROM 'none.jsonl'"),
    query("no column prompt", "SELECT 'a' AS question", "prompt"),
    query("no rows", "SELECT 'a' AS prompt WHERE false", "no prompts"),
    query("a number", "SELECT 3 AS prompt", "row 1"),
    query("an error in the middle", "SELECT CASE WHEN i = 5 THEN error('x') ELSE 'a' END AS prompt FROM range(9) t(i)"),
    query("a statement that writes", "CREATE TABLE x AS SELECT 1"),
    query("10,000 brackets", "SELECT " + "(" * 10_000 + "1" + ")" * 10_000),
]

CASES = [*LINES, *FIELDS, *FILES, *QUERIES]
