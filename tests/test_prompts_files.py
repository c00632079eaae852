"""Folders of a hub's data sets, what is no file, and small files that unpack without end."""

from __future__ import annotations

import gzip
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from read_prompts import asked, parquet, texts

from constitution.errors import PromptError
from constitution.overrides import apply
from constitution.prompts import read_prompts, row
from constitution.recipe import PromptsSection
from constitution.records import Prompt

# --- folders of data sets


def lay(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("parquet"):
            pq.write_table(pa.table({"prompt": [name]}), path)
        elif name.endswith(".gz"):
            path.write_bytes(gzip.compress(json.dumps({"prompt": name}).encode()))
        else:
            path.write_text(json.dumps({"prompt": name}) + "\n")


def hub(folder: Path, **settings: Any) -> list[Prompt]:
    return list(read_prompts(PromptsSection(format="hub", dataset="set", **settings), folder))


LAYOUTS = [
    (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/train_sft-00000-of-00001.parquet",
      "data/train_prefs-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], 2),
    (["train.jsonl", "train_sft.jsonl", "trainer.jsonl", "test.jsonl", ".cache/huggingface/download/train.jsonl"], 1),
    (["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"], 2),
    (["train/a.jsonl", "train/deeper/b.jsonl", "test/a.jsonl"], 2),
    (["train-0.jsonl", "train-1.jsonl.gz"], 2),
]  # fmt: skip


@pytest.mark.parametrize(("names", "count"), LAYOUTS)
def test_a_split_is_what_its_files_say(tmp_path: Path, names: list[str], count: int) -> None:
    lay(tmp_path, *names)
    assert texts(hub(tmp_path)) == names[:count]
    assert [prompt.source for prompt in hub(tmp_path)] == [f"{name}#1" for name in names[:count]]


REFUSED = [
    (["main/train-00000-of-00001.parquet", "socratic/train-00000-of-00001.parquet"], "several configs: main, socratic"),
    (["train.jsonl", "extra/train.jsonl"], r"several configs: \., extra"),
    (["en/train/0000.parquet", "de/train/0000.parquet"], "several configs: de, en"),
    (["train.jsonl", "train.parquet"], "as jsonl and as parquet"),
    (["train.jsonl", "train.jsonl.gz"], "copies of one another"),
    (["train-00000-of-00001.parquet", "train.parquet"], "several copies"),
    (
        ["train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
        "several copies",
    ),
    (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], "of the 3 files of train, 2 are there"),
    (["train/test-00000.jsonl"], "'train' by its folder and of 'test' by its name"),
    (["train_sft.jsonl", "dev/a.jsonl"], "no file of rows of the split 'train'; it has a, dev, train_sft"),
]


@pytest.mark.parametrize(("names", "said"), REFUSED)
def test_folders_that_hold_a_split_twice_or_not_whole(tmp_path: Path, names: list[str], said: str) -> None:
    lay(tmp_path, *names)
    with pytest.raises(PromptError, match=said):
        hub(tmp_path)


def test_a_config_is_named(tmp_path: Path) -> None:
    lay(tmp_path, "main/train.jsonl", "socratic/train.jsonl", "train.jsonl")
    for config, name in (("main", "main/train.jsonl"), (".", "train.jsonl")):
        [prompt] = hub(tmp_path, config=config)
        assert (prompt.messages[0].content, prompt.source) == (name, f"{name}#1")
    with pytest.raises(PromptError, match=r"no config 'other' .*it has"):
        hub(tmp_path, config="other")
    for key in ("config", "split"):
        with pytest.raises(ValueError, match="is of format hub"):
            PromptsSection.model_validate({"path": "p.jsonl", key: "test"})
    data: dict[str, Any] = {"prompts": {"format": "hub", "dataset": "set", "config": "main", "split": "test"}}
    apply(data, ["prompts.path=p.jsonl"])
    assert PromptsSection(**data["prompts"]).format == "auto"


# --- files that are none, and files that unpack without end


def no_file(kind: str, path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    for name in ("p.jsonl", "p.parquet", "p.jsonl.gz"):
        no_file(kind, Path(name))
        with pytest.raises(PromptError, match=f"{name}: there is no such file .*{kind}"):
            list(read_prompts(PromptsSection(path=name), Path()))
    if kind in ("pipe", "socket"):
        with pytest.raises(PromptError, match=rf"prompts\.query: .*{kind}"):
            asked(tmp_path, "SELECT * FROM read_csv('p.*')")
        Path("set").mkdir()
        no_file(kind, Path("set/train.jsonl"))
        with pytest.raises(PromptError, match=kind):
            hub(tmp_path)


@pytest.fixture
def little_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files may unpack to an eighth of what they may, so that the tests unpack less."""
    monkeypatch.setattr(row, "FREE", row.FREE // 8)
    monkeypatch.setattr(row, "RATIO", row.RATIO // 8)


@pytest.mark.usefixtures("little_free")
@pytest.mark.parametrize("codec", ["zstd", "brotli", "snappy"])
def test_a_small_parquet_file_that_unpacks_to_gigabytes(tmp_path: Path, codec: str) -> None:
    size = 2**20 if codec != "snappy" else 2**16
    once = pa.array(["x" * size])
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * (2**32 // size), pa.int32()), once)
    turns = pa.ListArray.from_arrays(
        pa.array(range(len(repeated) + 1), pa.int32()),
        pa.StructArray.from_arrays([pa.DictionaryArray.from_arrays(repeated.indices, pa.array(["user"])), repeated],
                                   ["role", "content"]))  # fmt: skip
    for name, column in (("prompt", repeated), ("messages", turns)):
        pq.write_table(pa.table({name: column}), tmp_path / "p.parquet", compression=codec, store_schema=False)
        assert (tmp_path / "p.parquet").stat().st_size < 100_000
        began = time.process_time()
        with pytest.raises(PromptError, match=r"p\.parquet: its [\d,]+ bytes unpack to more than 32 MiB"):
            list(read_prompts(PromptsSection(path="p.parquet"), tmp_path))
        assert time.process_time() - began < 20


def test_rows_without_end_are_refused_by_their_number(tmp_path: Path) -> None:
    table = pa.table({"prompt": pa.DictionaryArray.from_arrays(pa.array([0] * 2**25, pa.int8()), pa.array(["a"]))})
    pq.write_table(table, tmp_path / "p.parquet", store_schema=False, row_group_size=2**25)
    with pytest.raises(PromptError, match="unpack to more than"):
        next(read_prompts(PromptsSection(path="p.parquet"), tmp_path))


@pytest.mark.usefixtures("little_free")
def test_a_small_gz_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    member = gzip.compress((json.dumps({"prompt": "x" * 2**20}) + "\n").encode())
    (tmp_path / "p.jsonl.gz").write_bytes(member * 75)
    with pytest.raises(PromptError, match="unpack to more than"):
        list(read_prompts(PromptsSection(path="p.jsonl.gz"), tmp_path))


def test_a_row_of_parquet_is_as_long_as_a_line(tmp_path: Path) -> None:
    rows = ["a", "x" * (17 * 2**20), "b"]
    with pytest.raises(PromptError, match=r"p\.parquet, row 2: has more than 16 MiB"):
        parquet(tmp_path, pa.table({"prompt": rows}))
    many = [f"{n}" + "y" * 2**18 for n in range(100)]
    assert texts(parquet(tmp_path, pa.table({"prompt": many}))) == many
