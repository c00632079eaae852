"""Whatever a text, a record or a value is, it comes back as it was, from every form that the project stores it in."""

from __future__ import annotations

import asyncio
import csv
import gzip
import itertools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from conftest import Torture
from hypothesis import strategies as st
from properties import COUNT, JSON, SAID, TEXT, any_of, holds, lists
from warehouse_rows import CONSTITUTION, RUN, chain, fill, prompt, run

from constitution.cli.sql import sql
from constitution.export import Cleaning, Settings, export
from constitution.identity import canonical_json, row_id, seed
from constitution.principles import Lock, bump, load_constitution
from constitution.principles.files import path_of
from constitution.principles.toml_writer import write_toml
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.records import (
    Annotation,
    Constitution,
    Criterion,
    Example,
    Exemplar,
    Figure,
    Message,
    Preference,
    Principle,
    Prompt,
    Response,
    Row,
    Run,
    as_dicts,
)
from constitution.warehouse import Warehouse, Writer, convert
from constitution.warehouse.annotations import read_annotations

COUNTED = "round trips"

# --- prompts and answers: a file, the warehouse, SQL, exports

MESSAGES = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), SAID), max_size=3).map(tuple)
PROMPTS = st.builds(
    Prompt,
    st.builds(lambda before, last: (*before, Message("user", last)), MESSAGES, SAID),
    tags=st.lists(SAID, max_size=3).map(tuple),
    answers=st.tuples(SAID, SAID),
)
FORMS = ["p.jsonl", "p.jsonl.gz", "p.ndjson", "p.parquet", "large.parquet", "sql.parquet", "hub/train.parquet"]


def put(prompts: list[Prompt], path: Path, escaped: bool) -> PromptsSection:
    """The prompts as a file of the kind that the path's name says, and the recipe's section to read it by."""
    rows = [
        {
            "prompt": as_dicts(prompt.messages),
            "tags": list(prompt.tags),
            "one": prompt.answers[0],
            "two": prompt.answers[1],
        }
        for prompt in prompts
    ]
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        text = pa.large_string() if path.stem == "large" else pa.string()
        prompt = pa.list_(pa.struct([("role", text), ("content", text)]))
        schema = pa.schema([("prompt", prompt), ("tags", pa.list_(text)), ("one", text), ("two", text)])
        pq.write_table(pa.Table.from_pylist(rows, schema), path)
    else:
        data = "".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    source: dict[str, Any] = {"path": path.name}
    if path.stem == "sql":
        source = {"format": "sql", "query": f"SELECT * FROM '{path.name}'"}
    elif path.parent.name == "hub":
        source = {"format": "hub", "dataset": "hub"}
    return PromptsSection(**source, tags_field="tags", answers=("one", "two"))


def asked_in(section: PromptsSection, base: Path) -> list[Prompt]:
    return list(read_prompts(section, base))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return Warehouse(tmp_path_factory.mktemp("shared") / "warehouse")


def test_prompts_come_back_from_every_kind_of_file(empty: Warehouse, tmp_path: Path, torture: Torture) -> None:
    numbers = itertools.count()

    def comes_back(drawn: tuple[Any, str, bool]) -> None:
        prompts, form, escaped = drawn
        section = put(prompts, tmp_path / form, escaped)
        read = asked_in(section, tmp_path)
        assert [(p.messages, p.tags, p.answers) for p in read] == [(p.messages, p.tags, p.answers) for p in prompts]
        assert [p.id for p in read] == [
            replace(p, repeat=sum(q.messages == p.messages for q in prompts[:n])).id for n, p in enumerate(prompts)
        ]
        part = empty.write_prompts("prompts-0", next(numbers), read)
        assert empty.read_prompts(part) == read

    torture.count(COUNTED, holds(torture, comes_back, st.tuples(lists(PROMPTS), st.sampled_from(FORMS), st.booleans())))


def ask(root: Path, query: str, form: str, out: Path) -> Path:
    result = CliRunner().invoke(sql, [query, "--format", form, "--out", str(out), "--warehouse", str(root)])
    assert result.exit_code == 0, result.output
    return out


def test_texts_come_back_from_sql_and_exports(tmp_path: Path, torture: Torture) -> None:
    """Of texts that were drawn one by one, all together: what is asked and exported is the same."""
    warehouse = Warehouse(tmp_path / "warehouse")
    prompts: list[Prompt] = []
    rows: list[Row] = []

    def is_stored(drawn: tuple[Prompt, str, str]) -> None:
        asked, better, worse = drawn
        asked = replace(asked, repeat=len(prompts))
        prompts.append(asked)
        a, b = row_id(asked.id, "a"), row_id(asked.id, "b")
        for id, text in ((a, worse), (b, better)):
            rows.append(Response(id, RUN, asked.id, "initial", 0, text, "ok", "m"))
        rows.append(Preference(f"{len(prompts)}", RUN, asked.id, "parent", a, b, 0.9, 2, 0, 1.0, 1.0, 1.0, None))

    pairs = st.tuples(PROMPTS, SAID, TEXT.filter(str.strip)).filter(lambda pair: pair[1].split() != pair[2].split())
    tried = holds(torture, is_stored, pairs, short=25)
    warehouse.write_principles(RUN, CONSTITUTION)
    warehouse.write_prompts(RUN, 0, prompts)
    for kind in (Response, Preference):
        warehouse.write_part(convert.TABLE_OF[kind], RUN, [row for row in rows if isinstance(row, kind)])
    warehouse.write_run(run(finished=True))

    texts = {row.id: row.text for row in rows if isinstance(row, Response)}
    query = "SELECT id, text FROM responses"
    found = pq.read_table(ask(warehouse.root, query, "parquet", tmp_path / "r.parquet")).to_pylist()
    assert {row["id"]: row["text"] for row in found} == texts
    found = json.loads(ask(warehouse.root, query, "json", tmp_path / "r.json").read_bytes())
    assert {row["id"]: row["text"] for row in found} == texts
    with ask(warehouse.root, query, "csv", tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        assert {row["id"]: row["text"] for row in csv.DictReader(file)} == texts
    conversations = {p.id: as_dicts(p.messages) for p in prompts}
    query = "SELECT id, messages FROM prompts"
    with ask(warehouse.root, query, "csv", tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        assert {row["id"]: json.loads(row["messages"]) for row in csv.DictReader(file)} == conversations
    found = json.loads(ask(warehouse.root, query, "json", tmp_path / "p.json").read_bytes())
    assert {row["id"]: row["messages"] for row in found} == conversations

    settings = Settings(format="dpo", cleaning=Cleaning(dedupe="off"))
    done = export(warehouse.root, RUN, settings, tmp_path / "dpo")
    exported = [row for file in done.files for row in pq.read_table(done.out / file.path).to_pylist()]
    assert len(exported) == len(prompts)
    for row in exported:
        assert row["prompt"] == conversations[row["prompt_id"]]
        assert [turn["content"] for turn in row["chosen"]] == [texts[row["chosen_id"]]]
        assert [turn["content"] for turn in row["rejected"]] == [texts[row["rejected_id"]]]
    torture.count(COUNTED, tried)


# --- rows, notes, records


@pytest.mark.parametrize("table", list(convert.ROW_TABLES))
def test_rows_come_back_from_the_writer_and_from_merged_parts(table: str, empty: Warehouse, torture: Torture) -> None:
    numbers = itertools.count()
    kind = convert.ROW_TABLES[table]
    # Few prompts, so that several rows are of one.
    drawn = lists(any_of(kind, {"run_id": st.just(""), "prompt_id": st.sampled_from(["", "p", "é"])}), 6)

    async def written(run_id: str, rows: list[Row]) -> None:
        async with Writer(empty, run_id, flush_rows=2, flush_seconds=60) as writer:
            for row in rows:
                await writer.put([row])
                await writer.flush()

    def comes_back(given: Sequence[Any]) -> None:
        run_id = f"{table}-{next(numbers)}"
        rows: list[Row] = [replace(row, run_id=run_id) for row in given]
        asyncio.run(written(run_id, rows))
        expected = Counter(map(repr, rows))  # not ==, to which -0.0 is 0.0
        ids = {row.prompt_id for row in rows}
        found = empty.rows_of(run_id, ids)
        assert Counter(repr(row) for of_prompt in found.values() for row in of_prompt) == expected
        assert all(row.prompt_id == id for id, of_prompt in found.items() for row in of_prompt)
        with empty.lock(run_id):
            empty.compact(run_id)
        assert len(empty.parts(table, run_id)) == 1
        assert Counter(repr(row) for of_prompt in empty.rows_of(run_id, ids).values() for row in of_prompt) == expected
        assert empty.ids(table, run_id) == {row.id for row in rows}

    torture.count(COUNTED, holds(torture, comes_back, drawn, short=4))


def test_labels_and_figures_come_back(empty: Warehouse, torture: Torture) -> None:
    numbers = itertools.count()
    labels = st.lists(any_of(Annotation, {"run_id": st.just("")}), max_size=4, unique_by=lambda label: label.id)

    def comes_back(drawn: tuple[list[Annotation], list[Figure]]) -> None:
        run_id = f"notes-{next(numbers)}"
        labels = [replace(label, run_id=run_id) for label in drawn[0]]
        figures = [replace(figure, run_id=run_id) for figure in drawn[1]]
        empty.write_annotations(run_id, labels)
        assert sorted(map(repr, empty.read_annotations(run_id))) == sorted(map(repr, labels))
        assert not any(empty.write_annotations(run_id, labels)), "the same labels changed something"
        empty.write_figures(run_id, figures)
        assert list(map(repr, empty.read_figures(run_id))) == list(map(repr, figures))

    drawn = st.tuples(labels, st.lists(any_of(Figure, {"run_id": st.just("")}), max_size=4))
    torture.count(COUNTED, holds(torture, comes_back, drawn, short=10))


def test_the_record_of_a_run_comes_back(empty: Warehouse, torture: Torture) -> None:
    def comes_back(record: Run) -> None:
        empty.write_run(record)
        assert repr(empty.read_run(record.run_id)) == repr(record)

    floats = st.floats(allow_nan=False, allow_infinity=False)
    drawn = any_of(Run, {"run_id": st.just("record"), "seconds": floats, "cost": st.none() | floats})
    torture.count(COUNTED, holds(torture, comes_back, drawn))


PAIR = next(row for row in chain(0) if isinstance(row, Preference))
LABEL_FILES = ["l.csv", "l.tsv", "l.jsonl", "l.ndjson.gz", "l.json", "l.parquet", "l.csv.gz"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return fill(tmp_path_factory.mktemp("filled"))


def test_labels_come_back_from_every_kind_of_file(filled: Warehouse, tmp_path: Path, torture: Torture) -> None:
    pairs = [row.id for number in range(5) for row in chain(number) if isinstance(row, Preference)]
    rater = SAID.map(str.strip).filter(lambda name: name != "prompts")
    row = st.fixed_dictionaries({"pair_id": st.sampled_from(pairs), "value": st.floats(0, 1), "rater": rater})
    rows = st.lists(row, min_size=1, max_size=4, unique_by=lambda each: (each["pair_id"], each["rater"]))

    def comes_back(drawn: tuple[list[dict[str, Any]], str]) -> None:
        rows, name = drawn
        path = tmp_path / name
        put_rows(rows, path)
        found = read_annotations(filled.root, path).annotations
        assert [(label.pair_id, label.value, label.rater) for label in found] == [
            (row["pair_id"], row["value"], row["rater"]) for row in rows
        ]

    torture.count(COUNTED, holds(torture, comes_back, st.tuples(rows, st.sampled_from(LABEL_FILES)), short=6, full=60))


def put_rows(rows: list[dict[str, Any]], path: Path) -> None:
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    if kind in ("csv", "tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, list(rows[0]), delimiter="," if kind == "csv" else "\t", quoting=csv.QUOTE_ALL
            )
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = json.dumps(rows) if kind == "json" else "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes(), 1))


# --- constitutions

PLAIN = SAID.map(str.strip).filter(lambda text: bool(text) and "{{" not in text)
"""As a constitution's file holds it: without space around it, or placeholders."""
NONE = st.just("")
SLUG = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True)
WEIGHT = st.floats(0, 1e300, exclude_min=True)
TURNS = st.builds(
    lambda system, said: tuple([Message("system", text) for text in system]
                               + [Message("assistant" if n % 2 else "user", text) for n, text in enumerate(said)]),
    st.lists(PLAIN, max_size=1), st.lists(PLAIN, min_size=1, max_size=3).map(lambda said: said[len(said) % 2 == 0 :]),
)  # fmt: skip
EXEMPLARS: st.SearchStrategy[Exemplar] = st.one_of(
    [st.builds(Exemplar, TURNS, PLAIN, requests, PLAIN, requests, PLAIN) for requests in (NONE, PLAIN)]
)  # a request for each, or for neither
CRITERIA = st.builds(Criterion, PLAIN, st.sampled_from(["yes", "no"]), WEIGHT)
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "weight": WEIGHT,
    "tags": st.lists(SLUG, max_size=2, unique=True).map(tuple),
    "source": PLAIN | NONE,
}
COMPARED: dict[str, st.SearchStrategy[Any]] = {
    "comparison_question": PLAIN,
    "examples": st.lists(st.builds(Example, TURNS, PLAIN, PLAIN), max_size=1).map(tuple),
    "criteria": st.lists(CRITERIA, max_size=2).map(tuple),
}
REVISED: dict[str, st.SearchStrategy[Any]] = {
    "critique_request": PLAIN,
    "revision_request": PLAIN,
    "exemplars": st.lists(EXEMPLARS, max_size=1).map(tuple),
}
PRINCIPLES: st.SearchStrategy[Principle] = st.one_of(
    [st.builds(Principle, SLUG, **COMMON, **use) for use in (COMPARED, REVISED, {**COMPARED, **REVISED})]
)
CONSTITUTIONS = st.builds(
    Constitution,
    SLUG,
    st.just("1.0.0"),
    PLAIN,
    st.lists(PRINCIPLES, min_size=1, max_size=2, unique_by=lambda principle: principle.id).map(tuple),
    st.lists(EXEMPLARS, max_size=1).map(tuple),
    PLAIN | NONE,
    PLAIN | NONE,
)


def test_constitutions_come_back_from_their_files(empty: Warehouse, tmp_path: Path, torture: Torture) -> None:
    """Written, read, locked, and bumped, whose file is the old one's text with another version; and stored in a run."""
    numbers = itertools.count()

    def comes_back(drawn: Constitution) -> None:
        number = next(numbers)
        root = tmp_path / f"{number}" / "principles"
        path = path_of(root, drawn.name, "1.0.0")
        path.parent.mkdir(parents=True)
        path.write_bytes(write_toml(drawn).encode())
        read = load_constitution(root, drawn.name)
        assert read == drawn
        assert read.digest == drawn.digest
        lock = Lock({drawn.name: {"1.0.0": drawn.digest}})
        lock.write(root)
        assert Lock.read(root) == lock
        assert load_constitution(root, drawn.label) == drawn
        next_one = load_constitution(root, f"{drawn.name}@{bump(root, drawn.name).version}")
        assert next_one == replace(drawn, version="1.1.0")
        run_id = f"constitution-{number}"
        empty.write_principles(run_id, drawn)
        stored = empty.read_principles(run_id)
        assert stored == drawn
        assert stored.digest == drawn.digest

    torture.count(COUNTED, holds(torture, comes_back, CONSTITUTIONS, short=10, full=400))


def test_toml_of_any_text_is_that_text(torture: Torture) -> None:
    def comes_back(text: str) -> None:
        said = replace(CONSTITUTION, description=text, source=text)
        raw = tomllib.loads(write_toml(said))
        assert raw.get("description", "") == text
        assert raw.get("source", "") == text

    torture.count(COUNTED, holds(torture, comes_back, TEXT))


# --- identity


def same(one: Any, other: Any) -> bool:
    """Whether JSON has the two as one value: what a list or tuple holds, in order; 1, 1.0 and true are three."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)


def _turned(value: Any) -> Any:
    """The same value, with keys in another order and tuples for lists."""
    if isinstance(value, dict):
        return {key: _turned(value[key]) for key in reversed(value)}
    return tuple(map(_turned, value)) if isinstance(value, list) else value


NEAR: list[list[Any]] = [
    [1, 1.0, True, "1", "true", [1]],
    [0, 0.0, -0.0, False, None, "", "null", [], {}],
    ["\xe9", "e\u0301"],
    ["K", "\u212a"],
    ["\ufb01", "fi"],
    ["\u0130", "i\u0307"],
    ['"', '\\"', "\\"],
    ["a\nb", "a\\nb", "a\r\nb", "a b"],
    ["\x00", "\\u0000", "", "\ufeff"],
    [["a", "b"], ["ab"], ["a,b"], [["a"], "b"], {"a": "b"}],
    [{"a": {"b": 1}}, {"a.b": 1}, {"a": 1, "b": 1}],
    [2**53, 2**53 + 1, float(2**53)],
    [0.1, 0.1 + 1e-17, 0.30000000000000004, 0.3],
]
"""Values that are easily taken for each other; 0.1 + 1e-17 is 0.1."""


def test_canonical_json_tells_values_apart_and_nothing_else(torture: Torture) -> None:
    def injective(drawn: tuple[Any, Any]) -> None:
        one, other = drawn
        assert (canonical_json(one) == canonical_json(other)) == same(one, other)
        assert canonical_json(_turned(one)) == canonical_json(one)
        assert same(json.loads(canonical_json(one)), one)

    near = st.sampled_from(NEAR).flatmap(lambda values: st.tuples(st.sampled_from(values), st.sampled_from(values)))
    nested = st.tuples(JSON, near).map(lambda drawn: ([drawn[0], {"k": drawn[1][0]}], [drawn[0], {"k": drawn[1][1]}]))
    torture.count(COUNTED, holds(torture, injective, st.tuples(JSON, JSON) | nested | near, short=60, full=2000))


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [-float("inf")], "\ud800", {"\udfff": 1}, {"a": "\ud83d"}]
)
def test_what_has_no_canonical_json_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"Out of range|surrogates"):
        canonical_json(value)


def test_ids_and_seeds_are_what_they_were_and_in_range(torture: Torture) -> None:
    """Golden values: were one of them another tomorrow, no run of today could go on."""
    assert row_id("run", "é", 0) == "83d26f7471485ae4c06220e564ee2b66"
    assert seed(1, "p", "critique", 0) == 1786388827
    assert prompt(1).id == "090836df1112fb3f20dc4f775fa65bb1"
    assert CONSTITUTION.digest == "c947c0789c81e9b14c0098bdcc7caada2e63f912f6cff2eeb352d6b0166732bc"

    def in_range(drawn: tuple[int, list[Any]]) -> None:
        number, parts = drawn
        assert re.fullmatch("[0-9a-f]{32}", row_id(*parts))
        assert 0 <= seed(number, *parts) < 2**31
        assert seed(number, *parts) == seed(number, *_turned(parts))
        assert row_id(*parts) != row_id(*parts, None)
        assert row_id(parts) != row_id(*parts)

    torture.count(COUNTED, holds(torture, in_range, st.tuples(COUNT, st.lists(JSON, max_size=3))))
