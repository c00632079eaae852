"""Constitutions, annotations, queries, and what else commands are given, that cannot be used."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from judging_rows import Scene
from malformed import Case, Content

from constitution.warehouse import connect

HEAD = 'name = "own"\nversion = "1.0.0"\ndescription = "Ours."\n'
PRINCIPLE = """
[[principles]]
id = "kind"
critique_request = "Is it kind?"
revision_request = "Make it kind."
comparison_question = "Which answer is kinder?"
"""
OWN = "principles/own/1.0.0.toml"


def constitution(name: str, content: Content, *must_say: str, path: str = OWN) -> Case:
    """Found by the check, which has done its work: exit code 1."""
    return Case(f"constitution, {name}", {path: content}, ("principles", "check"), (path, *must_say), exit_code=1)


def line(old: str, new: str) -> str:
    assert old in HEAD + PRINCIPLE
    return (HEAD + PRINCIPLE).replace(old, new)


CONSTITUTIONS = [
    constitution("empty", b"", "name"),
    constitution("invalid UTF-8", b'name = "\xff"', "UTF-8"),
    constitution("UTF-16", HEAD.encode("utf-16"), "UTF-8"),
    constitution("NUL", HEAD.encode() + b"\0", "TOML"),
    constitution("no TOML", "- yaml: here", "TOML"),
    constitution("a key twice", HEAD + 'name = "own"\n' + PRINCIPLE, "TOML"),
    constitution("nested deep", HEAD + f"x = {'[' * 20_000}", "TOML"),
    constitution("20 MB", HEAD + f'description = "{"x" * 20_000_000}"' + PRINCIPLE, "16 MiB"),
    constitution("no principles", HEAD, "principles"),
    constitution("principles that are a text", HEAD + 'principles = "be kind"', "principles"),
    constitution("an unknown field", line('id = "kind"', 'id = "kind"\nwieght = 2'), "wieght", "weight"),
    constitution("an id twice", HEAD + PRINCIPLE + PRINCIPLE, "kind"),
    constitution("an id with blanks", line('id = "kind"', 'id = "be kind"'), "id"),
    constitution("an id with an escape", line('id = "kind"', r'id = "\u001b[31mkind"'), "id"),
    constitution("an id that is a path", line('id = "kind"', 'id = "../kind"'), "id"),
    constitution("an id of 100,000 letters", line('id = "kind"', f'id = "{"k" * 100_000}"')),
    constitution("no id", line('id = "kind"\n', ""), "id"),
    constitution("a weight that is a text", line('id = "kind"', 'id = "kind"\nweight = "2"'), "weight"),
    constitution("a weight of nothing", line('id = "kind"', 'id = "kind"\nweight = 0.0'), "weight"),
    constitution("a weight not a number", line('id = "kind"', 'id = "kind"\nweight = nan'), "weight"),
    constitution("an empty question", line('"Which answer is kinder?"', '" "'), "comparison_question"),
    constitution("a request without the other", line('revision_request = "Make it kind."\n', ""), "revision_request"),
    constitution("an unknown placeholder", line('"Is it kind?"', '"Is {{answer}} kind?"'), "answer"),
    constitution("tags of numbers", line('id = "kind"', 'id = "kind"\ntags = [1]'), "tags"),
    constitution("a criterion good for maybe",
                 HEAD + PRINCIPLE + '[[principles.criteria]]\nquestion = "Kind?"\ngood = "maybe"\n', "good"),
    constitution("an example without a prompt",
                 HEAD + PRINCIPLE + '[[principles.examples]]\nbetter = "a"\nworse = "b"\n', "prompt"),
    constitution("an exemplar that ends with the assistant", HEAD + PRINCIPLE + '[[principles.exemplars]]\nmessages = '
                 '[{role = "user", content = "a"}, {role = "assistant", content = "b"}]\nresponse = "r"\n'
                 'critique = "c"\nrevision = "r"\n', "user turn"),
    constitution("roles out of order", HEAD + PRINCIPLE + '[[principles.examples]]\nmessages = [{role = "user", '
                 'content = "a"}, {role = "user", content = "b"}]\nbetter = "a"\nworse = "b"\n', "alternate"),
    constitution("another name than its folder's", line('"own"', '"other"'), "other"),
    constitution("another version than its file's", line("1.0.0", "2.0.0"), "2.0.0"),
    constitution("a version that is none", line("1.0.0", "one"), "version"),
    constitution("a file's name that is no version", HEAD + PRINCIPLE, "version", path="principles/own/latest.toml"),
    constitution("a folder", lambda path: path.mkdir(), "folder"),
    constitution("a pipe", os.mkfifo, "regular"),
    Case("lock, no TOML", {OWN: HEAD + PRINCIPLE, "principles/principles.lock": "{"}, ("principles", "check"),
         ("principles.lock", "TOML"), exit_code=1),
    Case("lock, a digest that is none", {OWN: HEAD + PRINCIPLE, "principles/principles.lock": '[own]\n"1.0.0" = "x"'},
         ("principles", "check"), ("principles.lock", "digest"), exit_code=1),
    Case("lock, a list", {OWN: HEAD + PRINCIPLE, "principles/principles.lock": "own = [1]"}, ("principles", "check"),
         ("principles.lock",), exit_code=1),
    Case("principles show, nobody", {OWN: HEAD + PRINCIPLE}, ("principles", "show", "nobody"), ("nobody",)),
    Case("principles show, a path", {OWN: HEAD + PRINCIPLE}, ("principles", "show", "../r@1.0.0"), ("../r",)),
    Case("principles show, broken", {OWN: HEAD}, ("principles", "show", "own"), (OWN,)),
    Case("principles bump, broken", {OWN: "{"}, ("principles", "bump", "own"), (OWN, "TOML")),
    Case("principles lock, broken", {OWN: HEAD}, ("principles", "lock", "own"), (OWN,), exit_code=1),
    Case("principles diff, one", {OWN: HEAD + PRINCIPLE}, ("principles", "diff", "own@1.0.0", "own@9.0.0"), ("9.0.0",)),
]  # fmt: skip


def imported(name: str, content: Content, *must_say: str, file: str = "in.json") -> Case:
    words = ("principles", "import", file, "--name", "new")
    return Case(f"import, {name}", {OWN: HEAD + PRINCIPLE, file: content}, words, (file, *must_say))


IMPORTS = [
    imported("none", lambda path: None, "no such file"),
    imported("empty", b"", "JSON"),
    imported("no JSON", "{", "JSON"),
    imported("invalid UTF-8", b'["\xff"]', "UTF-8"),
    imported("nested deep", "[" * 100_000, "nested"),
    imported("a key twice", '{"a": {"prompt": "x"}, "a": {"prompt": "y"}}', "twice"),
    imported("an empty object", "{}", "format"),
    imported("an empty list", "[]", "format"),
    imported("a number", "7", "format"),
    imported("numbers", "[1, 2]", "format"),
    imported("an empty text", '[""]'),
    imported("an edit request of a number", '{"h0": {"prompt": ["x"], "edit_request": 3}}'),
    imported("a prompt missing", '{"h0": {"edit_request": "x"}}'),
    imported("constitutions of texts", '{"constitutions": ["a"], "system_chat": []}'),
    imported("a chat of numbers", '{"constitutions": [{"critic": "a", "revision": "b"}], "system_chat": [1]}'),
    imported("half of a surrogate pair", '{"constitutions": [{"critic": "\\ud800", "revision": "b"}]}'),
    imported("a folder", lambda path: path.mkdir(), "folder"),
]


@cache
def _made() -> Path:
    folder = Path(tempfile.mkdtemp()) / "warehouse"
    scene = Scene()
    for number in range(2):
        scene.pair(a=f"one {number}", b=f"two {number}")
    scene.write(folder)
    connect(folder).close()  # makes the file of views, which any command may make again
    return folder


def warehouse(path: Path) -> None:
    """Two pairs, as a run leaves them."""
    shutil.copytree(_made(), path)


def labels(name: str, content: Content, *must_say: str, file: str = "ann.csv", words: Sequence[str] = ()) -> Case:
    files: dict[str, Content] = {"warehouse": warehouse, file: content}
    return Case(f"annotations, {name}", files, ("annotations", "import", file, *words), (file, *must_say))


def rows(*values: dict[str, Any]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def parquet(columns: dict[str, Any]) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path)


LABELS = [
    Case("annotations, none", {"warehouse": warehouse}, ("annotations", "import", "none.csv"), ("none.csv",)),
    labels("empty", b"", "empty"),
    labels("only a header", "pair_id,preferred\n", words=("--run", "nobody")),
    labels("other columns", "a,b\n1,2\n", "pair_id"),
    labels("no preferred", "pair_id\nx\n", "preferred"),
    labels("an unknown pair", "pair_id,preferred\nnosuch,a\n", "row 1", "nosuch"),
    labels("an unknown pair of 100,000 letters", f"pair_id,preferred\n{'x' * 100_000},a\n", "row 1"),
    labels("an unknown pair with an escape", "pair_id,preferred\n\x1b[31mx,a\n", "row 1"),
    labels("a row too short", "pair_id,preferred\nx\n"),
    labels("a row too long", "pair_id,preferred\nx,a,b,c\n"),
    labels("an unclosed quote", 'pair_id,preferred\n"x,a\n'),
    labels("NUL", b"pair_id,preferred\nx\0y,a\n", "row 1"),
    labels("invalid UTF-8", b"pair_id,preferred\n\xff\xfe,a\n"),
    labels("UTF-16", "pair_id,preferred\nx,a\n".encode("utf-16")),
    labels("a column twice", "pair_id,preferred,preferred\nx,a,b\n"),
    labels("a line of 100 MB", lambda path: path.write_bytes(b"pair_id,preferred\n" + b"x" * 100 * 2**20 + b",a\n")),
    labels("a folder", lambda path: path.mkdir(), "no such file"),
    labels("a pipe", os.mkfifo, "no such file"),
    labels("no kind by its name", "x", "name", file="ann.txt"),
    labels("gz that is none", "pair_id,preferred\nx,a\n", file="ann.csv.gz"),
    labels("gz cut off", gzip.compress(b"pair_id,preferred\n" + b"x,a\n" * 9000)[:-20], file="ann.csv.gz"),
    labels("a bomb", gzip.compress(b"pair_id,preferred\n" + b"\0" * 2**28), file="ann.csv.gz"),
    labels("no JSON", "{", file="ann.jsonl"),
    labels("an array a line", "[1]\n[2]\n", file="ann.jsonl"),
    labels("JSON null", "null\n", file="ann.json"),
    labels("JSON nested deep", '{"pair_id": ' + "[" * 10_000 + "]" * 10_000 + "}", file="ann.json"),
    labels("JSON with a key twice", '{"pair_id": "x", "pair_id": "y", "preferred": "a"}\n', file="ann.jsonl"),
    labels("an id that is an object", rows({"pair_id": {"a": 1}, "preferred": "a"}), "line 1", file="ann.jsonl"),
    labels("half of a surrogate pair", '{"pair_id": "\\ud800", "preferred": "a"}\n', file="ann.jsonl"),
    labels("no Parquet", "x", file="ann.parquet"),
    labels("Parquet without rows", parquet({"a": pa.array([], pa.string())}), "pair_id", file="ann.parquet"),
    labels("Parquet of bytes", parquet({"pair_id": [b"\xff"], "preferred": ["a"]}), "row 1", file="ann.parquet"),
    labels("a name with glob's characters", "pair_id,preferred\nx,a\n", "row 1", file="a*[b]?.csv"),
    labels("a name with quotes", "pair_id,preferred\nx,a\n", "row 1", file="a'; DROP --.csv"),
    labels("a run nobody has", "pair_id,preferred\nx,a\n", words=("--run", "nobody")),
    Case("annotations, nowhere", {"a.csv": "pair_id,preferred\nx,a\n"}, ("annotations", "import", "a.csv"),
         ("warehouse",)),
]  # fmt: skip
LABELS = [Case(each.name, each.files, each.words, ("nobody",)) if "nobody" in each.words else each for each in LABELS]


def sql(name: str, query: str, *must_say: str, words: Sequence[str] = ()) -> Case:
    return Case(f"sql, {name}", {"warehouse": warehouse}, ("sql", *words, "--", query), must_say)


QUERIES = [
    sql("nothing", "", "no query"),
    sql("a comment", "-- hello", "no query"),
    sql("no SQL", "SELEKT 1"),
    sql("two statements", "SELECT 1; SELECT 2", "one query"),
    sql("no such table", "FROM nosuch", "nosuch"),
    sql("no such column", "SELECT nosuch FROM pairs", "nosuch"),
    sql("no such macro", "FROM nosuch('x')", "nosuch"),
    sql("a wrong type", "SELECT 'a'::INT"),
    sql("a division by nothing", "SELECT error('made to fail')", "made to fail"),
    sql("an unclosed text", "SELECT 'a"),
    sql("half of a surrogate pair", "SELECT '\ud800'"),
    sql("20,000 brackets", "SELECT " + "(" * 20_000 + "1" + ")" * 20_000),
    sql("a name of 100,000 letters", f"SELECT {'x' * 100_000} FROM pairs"),
    sql("an escape", "SELECT \x1b[31m FROM pairs"),
    sql("Parquet without a file", "SELECT 1", "--out", words=("--format", "parquet")),
    sql("an unknown format", "SELECT 1", "--format", words=("--format", "xml")),
    Case("sql, no warehouse", {}, ("sql", "SELECT 1"), ("warehouse",)),
    Case("sql, a warehouse that is a file", {}, ("sql", "SELECT 1", "--warehouse", "r.toml"), ("r.toml",)),
]


def record(name: str, content: str, words: Sequence[str], *must_say: str) -> Case:
    """A run's record that is none."""
    said = ("runs/x.json", "cannot be read as a run", "verify --repair", *must_say)
    return Case(f"record, {name}", {"warehouse": warehouse, "warehouse/runs/x.json": content}, words, said)


RECORDS = [
    record("cut off, listed", '{"schema": 1, "run_id"', ("runs",)),
    record("cut off, shown", '{"schema": 1, "run_id"', ("runs", "x")),
    record("cut off, asked", '{"schema": 1, "run_id"', ("sql", "FROM runs")),
    record("cut off, asked through a view", '{"schema": 1, "run_id"', ("sql", "FROM templates")),
    record("empty", "", ("runs",)),
    record("a list", "[1]", ("runs",)),
    record("fields missing", '{"schema": 1}', ("runs",)),
    record("a field of another type", '{"schema": 1, "run_id": 7}', ("runs",), "run_id"),
]


def decontaminate(name: str, content: Content, *must_say: str, file: str = "eval.jsonl") -> Case:
    words = ("export", "--format", "dpo", "--out", "o", "--decontaminate", file)
    return Case(f"decontamination, {name}", {"warehouse": warehouse, file: content}, words, (file, *must_say))


DECONTAMINATE = [
    decontaminate("none", lambda path: None, "no such file"),
    decontaminate("empty", b"", "no prompts"),
    decontaminate("no JSON", "{\n", "line 1", "JSON"),
    decontaminate("invalid UTF-8", b'{"prompt": "\xff"}\n', "line 1", "UTF-8"),
    decontaminate("a key twice", '{"text": "a", "text": "b"}\n', "twice"),
    decontaminate("nested deep", '{"prompt": ' + "[" * 20_000 + "]" * 20_000 + "}", "nested"),
    decontaminate("a number", '{"prompt": 7}\n', "line 1", "prompt"),
    decontaminate("a line of 100 MB", lambda path: path.write_bytes(b"x" * 100 * 2**20), "16 MiB"),
    decontaminate("a bomb", gzip.compress(b"\0" * 2**28), "16 MiB", file="eval.jsonl.gz"),
    decontaminate("gz that is none", "x", file="eval.jsonl.gz"),
    decontaminate("no Parquet", "x", "Parquet", file="eval.parquet"),
    decontaminate("no kind by its name", "a,b\n1,2\n", "name", file="eval.dat"),
    decontaminate("CSV without a prompt", "a,b\n1,2\n", "row 1", file="eval.csv"),
    decontaminate("a pipe", os.mkfifo),
    decontaminate("a folder", lambda path: path.mkdir(), "folder"),
]  # fmt: skip

COMMANDS = [
    Case("a command nobody has", {}, ("runn",), ("runn",)),
    Case("runs, nobody", {"warehouse": warehouse}, ("runs", "nobody"), ("nobody",)),
    Case("runs, no warehouse", {}, ("runs",), ("warehouse",)),
    Case("audit, no warehouse", {}, ("audit",), ("warehouse",)),
    Case("audit, nobody", {"warehouse": warehouse}, ("audit", "nobody"), ("nobody",)),
    Case("verify, nobody", {"warehouse": warehouse}, ("verify", "nobody"), ("nobody",)),
    Case("verify, no warehouse", {}, ("verify",), ("warehouse",)),
    Case("export, nobody", {"warehouse": warehouse},
         ("export", "nobody", "--format", "kto", "--out", "o"), ("nobody",)),
    Case("export, no format", {"warehouse": warehouse}, ("export", "--format", "xml", "--out", "o"), ("--format",)),
    Case("export, wrong SQL", {"warehouse": warehouse},
         ("export", "--format", "dpo", "--out", "o", "--where", "nosuch = 3"), ("nosuch",)),
    Case("export, a file in its place", {"warehouse": warehouse}, ("export", "--format", "dpo", "--out", "r.toml"),
         ("r.toml",)),
    Case("serve, no recipe", {}, ("serve", "none.toml"), ("none.toml",)),
    Case("serve, a recipe without a server", {}, ("serve", "r.toml"), ("recipe",)),
    Case("relabel, nobody", {"warehouse": warehouse}, ("relabel", "nobody"), ("nobody",)),
    Case("relabel, an unknown way", {"warehouse": warehouse}, ("relabel", "--aggregate", "vibes"), ("--aggregate",)),
    Case("init, a file in its place", {}, ("init", "r.toml"), ("r.toml",)),
]  # fmt: skip

CASES = [*CONSTITUTIONS, *IMPORTS, *LABELS, *QUERIES, *RECORDS, *DECONTAMINATE, *COMMANDS]
