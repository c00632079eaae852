"""Whatever bytes a file holds, what reads it takes them or says in one sentence why not: nothing but ConstitutionError,
and what is taken can be used.

The files are sound ones that something happened to: values that are others, keys that are gone or twice, pieces cut
out, put in or doubled; and bytes that are no file of ours at all.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Torture
from drawn_files import COUNTED, damaged, files, json_file, lines, taken, toml, toml_file
from hypothesis import strategies as st
from properties import JSON, TEXT, holds
from small_project import RECIPE, small_project
from warehouse_rows import CONSTITUTION, RUN, chain, fill, run

from constitution.ask import SHIPPED
from constitution.ask.swaps import load_swaps
from constitution.errors import RecipeError, WarehouseError
from constitution.export.clean.contaminated import read_items
from constitution.identity import canonical_json
from constitution.pipeline import prepare
from constitution.principles import Lock, check, load_constitution
from constitution.principles.importers import import_files
from constitution.principles.toml_writer import write_toml
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection, load_recipe
from constitution.records import Preference
from constitution.warehouse import Warehouse, checksums
from constitution.warehouse.annotations import read_annotations

# --- recipes

SOUND_RECIPE: dict[str, Any] = {
    "name": "r",
    "seed": 3,
    "description": "d",
    "constitution": "general@1.1.0",
    "prompts": {"path": "prompts.jsonl", "answers": ["good", "bad"], "gold": "good", "tags": ["t"], "limit": 2},
    "model": {
        "policy": {"engine": "fake", "price": {"input": 1.0, "output": 2.0}, "accuracy": {"*": 0.9}},
        "jury": {
            "one": {
                "engine": "openai",
                "model": "m",
                "base_url": ["http://127.0.0.1:1/v1"],
                "extra_body": {"a": {"b": 1}},
            },
            "two": {"engine": "openai", "model": "m", "base_url": "http://127.0.0.1:2/v1", "vllm": {"seed": 1}},
        },
    },
    "revise": {"rounds": 2, "critique": {"temperature": 0.5, "stop": ["x"]}},
    "judge": {"method": "label", "clamp": [0.4, 0.6], "principles": 2, "pairs": ["first-last", "given"], "quorum": 1},
    "output": {"slice": 20, "window": 8, "flush_seconds": 0.5},
    "budget": {"limit": 1.5},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return small_project(tmp_path, 3).parent


def test_recipes(project: Path, torture: Torture) -> None:
    """What is taken can be prepared, and stands in the run's record."""
    path = project / "r.toml"

    def recipe(data: bytes) -> None:
        path.write_bytes(data)
        plan = prepare(load_recipe(path), path, project / "warehouse")
        assert Warehouse(plan.warehouse).read_run(plan.run.run_id) == plan.run

    recipe(toml_file(SOUND_RECIPE))
    recipe(RECIPE.encode())
    taken(torture, recipe, files(SOUND_RECIPE, toml_file) | damaged(RECIPE.encode()), 25)


KEYS = st.sampled_from(
    ["prompts.path", "description", "seed", "revise.rounds", "model.policy.accuracy", "name", "a.b", "."]
)
ANYTHING = TEXT | st.text(max_size=20) | JSON.map(toml)
"""Halves of surrogate pairs among it: what an argument that is no UTF-8 is to Python."""


def test_settings_of_the_command_line(project: Path, torture: Torture) -> None:
    path = project / "r.toml"
    path.write_text(RECIPE)
    told = {True: 0, False: 0}

    def setting(drawn: tuple[str, str, str]) -> None:
        try:
            recipe = load_recipe(path, ["".join(drawn)])
        except RecipeError:
            told[False] += 1
        else:
            canonical_json(recipe.model_dump(mode="json"))
            told[True] += 1

    setting(("description", "=", "x"))
    setting(("a.b", "=", "x"))
    assert told == {True: 1, False: 1}  # few of the following are taken: in a short run maybe none
    holds(torture, setting, st.tuples(KEYS | ANYTHING, st.sampled_from(["=", "=", "=", ""]), ANYTHING))
    torture.count(COUNTED, told[False])


# --- constitutions

SOUND = asdict(CONSTITUTION)
CRITIQUES = {
    "harmful0": {"prompt": ["\n\nCritiqueRequest: How? \n\nCritique:"], "edit_request": "RevisionRequest: Mend."}
}
COMPARISONS = ["\nChoose the kinder one.\n\nOptions:", "Which is truer?"]
TRANSCRIPTS = [
    "\n\nHuman: Hi\n\nAssistant: No.\n\nCritiqueRequest: How?\n\nCritique: Rude it was."
    "\n\nRevisionRequest: Mend.\n\nRevision: Hello."
]
SWARM = {
    "system_chat": [
        [
            {"role": role, "content": "Well said."}
            for role in ("user", "assistant", "user", "assistant", "user", "assistant")
        ]
    ],
    "constitutions": [{"critic": "How is it rude?", "revision": "Make it kind."}],
}

PUBLISHED: st.SearchStrategy[Any] = st.sampled_from([CRITIQUES, COMPARISONS, TRANSCRIPTS, SWARM])


def test_constitutions(tmp_path: Path, torture: Torture) -> None:
    """What is taken has a digest, and `check` looks through whatever it is."""
    root = tmp_path / "principles"
    path = root / "demo" / "1.2.0.toml"
    path.parent.mkdir(parents=True)

    def constitution(data: bytes) -> None:
        path.write_bytes(data)
        for finding in check(root):
            str(finding).encode()
        assert len(load_constitution(root, "demo").digest) == 64

    good = write_toml(CONSTITUTION).encode()
    constitution(good)
    taken(torture, constitution, files(json.loads(json.dumps(SOUND)), toml_file) | damaged(good), 25)


def test_locks(tmp_path: Path, torture: Torture) -> None:
    entries = {"demo": {"1.0.0": "a" * 64, "1.1.0": "b" * 64}, "other": {"2.0.0-rc.1": "c" * 64}}

    def lock(data: bytes) -> None:
        (tmp_path / "principles.lock").write_bytes(data)
        Lock.read(tmp_path).write(tmp_path)

    lock(toml_file(entries))
    taken(torture, lock, files(entries, toml_file), 25)


def test_published_principles(tmp_path: Path, torture: Torture) -> None:
    """What is taken is a constitution that loads."""
    numbers = itertools.count()

    def published(data: bytes) -> None:
        path = tmp_path / "published.json"
        path.write_bytes(data)
        root = tmp_path / f"{next(numbers)}"
        import_files([path], root, "x")
        load_constitution(root, "x")

    for sound in (CRITIQUES, COMPARISONS):
        published(json_file(sound))
    drawn = PUBLISHED.flatmap(lambda sound: files(sound, json_file))
    taken(torture, published, drawn, 25)


def test_swaps(tmp_path: Path, torture: Torture) -> None:
    groups = {"groups": [{"name": "a", "terms": ["he", "she"]}, {"name": "b", "terms": [["x", "y"], ["v", "w"]]}]}

    def swaps(data: bytes) -> None:
        path = tmp_path / "swaps.toml"
        path.write_bytes(data)
        for group in load_swaps(path):
            assert group.pattern.search("") is None or "" not in group.forms[0]

    swaps(toml_file(groups))
    taken(torture, swaps, files(groups, toml_file) | damaged(SHIPPED.read_bytes()), 20)


# --- prompts and labels

ROWS: list[Any] = [
    {
        "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}],
        "tags": ["a"],
        "one": "So.",
    },
    {"prompt": "How do tides work?", "tags": [], "one": [{"role": "assistant", "content": "By the moon."}]},
    {"prompt": "\n\nHuman: Why?\n\nAssistant: So.\n\nHuman: But why?", "tags": ["x"], "one": "y"},
]
PROMPT_FILES = ["p.jsonl", "p.jsonl.gz", "p.parquet", "t.jsonl", "d.jsonl", "d.txt"]


def parquet(rows: list[Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def prompt_file(name: str) -> st.SearchStrategy[bytes]:
    """Bytes of a file of that name."""
    of_kind = ROWS[2:] if name[0] == "t" else ROWS[:2]
    if name.endswith(".parquet"):
        return damaged(parquet(ROWS[:1]))
    if name.endswith(".gz"):
        packed = gzip.compress(lines(of_kind), mtime=0)
        return damaged(packed) | files(of_kind, lines).map(lambda data: gzip.compress(data, 1))
    return files(of_kind, lines)


def test_prompts(tmp_path: Path, torture: Torture) -> None:
    """What is taken has an id, and a place in the warehouse."""
    warehouse = Warehouse(tmp_path / "warehouse")

    def prompts(drawn: tuple[str, bytes]) -> None:
        name, data = drawn
        path = tmp_path / name
        path.write_bytes(data)
        if name[0] == "d":
            for source, text, _ in read_items(path):
                f"{source}{text}".encode()
            return
        section = PromptsSection(path=name, tags_field="tags", answers=("one",))
        if name[0] == "t":
            section = PromptsSection(path=name, tags_field="tags", format="transcripts")
        found = list(read_prompts(section, tmp_path))
        assert warehouse.read_prompts(warehouse.write_prompts(RUN, 0, found)) == found

    drawn = st.sampled_from(PROMPT_FILES).flatmap(lambda name: st.tuples(st.just(name), prompt_file(name)))
    taken(torture, prompts, drawn, 60)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return fill(tmp_path_factory.mktemp("filled"))


def label_file(name: str) -> st.SearchStrategy[bytes]:
    pairs = [row.id for number in (0, 1) for row in chain(number) if isinstance(row, Preference)]
    rows: list[Any] = [{"pair_id": id, "preferred": "b", "rater": "ann", "principle_id": "kind"} for id in pairs]
    csv = "".join(",".join(row) + "\n" for row in [rows[0], *(row.values() for row in rows)]).encode()
    if name.endswith(".gz"):
        return damaged(gzip.compress(csv, mtime=0))
    if name.endswith(".csv"):
        return damaged(csv)
    return damaged(parquet(rows)) if name.endswith(".parquet") else files(rows, lines)


def test_labels(filled: Warehouse, tmp_path: Path, torture: Torture) -> None:
    def labels(drawn: tuple[str, bytes]) -> None:
        name, data = drawn
        path = tmp_path / name
        path.write_bytes(data)
        for label in read_annotations(filled.root, path).annotations:
            assert 0 <= label.value <= 1
            canonical_json(asdict(label))

    names = st.sampled_from(["l.csv", "l.csv.gz", "l.jsonl", "l.parquet"])
    taken(torture, labels, names.flatmap(lambda name: st.tuples(st.just(name), label_file(name))), 6)


# --- what the project itself wrote


def test_records_of_runs(tmp_path: Path, torture: Torture) -> None:
    """A record that is taken can be listed and written again."""
    warehouse = Warehouse(tmp_path)
    path = warehouse.write_run(run(finished=True))
    sound = json.loads(path.read_bytes())

    def record(data: bytes) -> None:
        path.write_bytes(data)
        for found in warehouse.runs():
            warehouse.write_run(found)
        warehouse.verify(RUN)

    record(json_file(sound))
    taken(torture, record, files(sound, json_file), 25)


@pytest.mark.parametrize("value", [math.nan, "\ud800", {1, 2}])
def test_a_record_that_is_no_json_is_not_written(value: object, tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    with pytest.raises(WarehouseError, match=f"the record of run {RUN} cannot be written"):
        warehouse.write_run(replace(run(), labels={"x": value}))
    assert warehouse.run_ids() == []


def test_checksums(tmp_path: Path, torture: Torture) -> None:
    """They never stop anything: what they do not say is not known of a part."""
    sound = f"# 12 part-0.parquet\n{'a' * 64}  part-0.parquet\n".encode() * 2

    folder = tmp_path / "failures" / RUN
    folder.parent.mkdir()

    def read(data: bytes) -> None:
        (checksums.make_aside(folder) / checksums.SUMS).write_bytes(data)
        for name, sums in checksums.read(folder).items():
            assert name
            assert all(len(sum.digest) == 64 and sum.size >= 0 for sum in sums)

    torture.count("round trips", holds(torture, read, damaged(sound)))
