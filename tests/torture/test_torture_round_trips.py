"""Whatever a text, a record or a value is, it comes back as it was, from every form that the project stores it in."""

from __future__ import annotations

import asyncio
import csv
import gzip
import itertools
import json
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
from properties import SAID, TEXT, any_of, holds, lists
from warehouse_rows import CONSTITUTION, RUN, chain, fill, run

from constitution.cli.sql import sql
from constitution.export import Cleaning, Settings, export
from constitution.identity import row_id
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.records import (
    Annotation,
    Figure,
    Message,
    Preference,
    Prompt,
    Response,
    Row,
    Run,
    Shard,
    ShardRecord,
    Usage,
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
    own = {"scorecard": st.just("")} if table == "scores" else {}  # others are not the run's
    drawn = lists(any_of(kind, {"run_id": st.just(""), "prompt_id": st.sampled_from(["", "p", "é"]), **own}), 6)

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
            # Scores are the run's only where its record counts them.
            empty.compact(run_id, counts={"scores": len(rows)} if table == "scores" else None)
        assert len(empty.parts(table, run_id)) == 1
        assert Counter(repr(row) for of_prompt in empty.rows_of(run_id, ids).values() for row in of_prompt) == expected
        assert empty.ids(table, run_id) == {row.id for row in rows}

    torture.count(COUNTED, holds(torture, comes_back, drawn, short=4))


def test_labels_and_figures_come_back(empty: Warehouse, torture: Torture) -> None:
    numbers = itertools.count()
    # A rater has one group of each column in a run, so each says one thing here, and is of one group at most.
    groups = st.lists(any_of(str), max_size=1).map(tuple)
    labels = st.lists(
        any_of(Annotation, {"run_id": st.just(""), "rater_groups": groups}),
        max_size=4,
        unique_by=(lambda label: label.id, lambda label: label.rater),
    )

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
    cost = st.none() | floats
    usage = st.lists(any_of(Usage, {"cost": cost}), max_size=3).map(tuple)
    drawn = any_of(Run, {"run_id": st.just("record"), "seconds": floats, "cost": cost, "usage": usage})
    torture.count(COUNTED, holds(torture, comes_back, drawn))

    def of_a_shard(record: ShardRecord) -> None:
        empty.write_shard(record)
        assert repr(empty.read_shard("record", Shard(3, 16))) == repr(record)

    own = {"run_id": st.just("record"), "number": st.just(3), "of": st.just(16)}
    drawn_of_a_shard = any_of(ShardRecord, {**own, "seconds": floats, "cost": cost, "usage": usage})
    torture.count(COUNTED, holds(torture, of_a_shard, drawn_of_a_shard))


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
