"""Exports of real runs of the fake engine: what trainers load, what was left out and why, and what is refused."""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_runs import NO_CLEANING, ODD, make_export, make_run
from hypothesis import given
from hypothesis import strategies as st
from small_project import table
from warehouse_rows import RUN, fill

from constitution.errors import InputError, QueryError, WarehouseError
from constitution.export import Cleaning, Settings, export, make
from constitution.export.formats import FORMATS
from constitution.export.write import _blocks
from constitution.records import Run
from constitution.warehouse import Warehouse

IDS = {"dpo": "pair_id", "reward": "pair_id", "robust": "pair_id", "sft": "response_id", "kto": "response_id"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def root(folder: Path) -> Path:
    return folder / "warehouse"


@pytest.fixture(scope="module")
def voted(folder: Path) -> Run:
    """Compared in both orders by three principles."""
    return make_run(folder, "voted", "principles = 3")


@pytest.fixture(scope="module")
def graded(folder: Path) -> Run:
    """Graded one by one."""
    return make_run(folder, "graded", 'method = "score"\nprinciples = 2')


@pytest.mark.parametrize("format", [name for name, spec in FORMATS.items() if not spec.source])
def test_every_candidate_is_accounted_for(root: Path, graded: Run, tmp_path: Path, format: str) -> None:
    done, rows = make_export(root, graded, tmp_path / "out", format, test=0.3)
    assert done.rows.keys() == {"train", "test"}
    query = f"FROM exported WHERE run_id = '{graded.run_id}' AND export_id = '{done.export_id}'"
    file = pq.ParquetFile(done.out / done.files[0].path)
    assert not any(pa.types.is_dictionary(field.type) for field in file.schema_arrow)
    assert file.schema_arrow.metadata is None

    fates = table(root, f"SELECT id, split, drop_reason, format {query}")
    assert len({id for id, *_ in fates}) == len(fates) == done.candidates
    assert all((split is None) != (reason is None) for _, split, reason, _ in fates)
    assert Counter(reason for _, _, reason, _ in fates if reason) == done.dropped
    written = {row[IDS.get(format, "prompt_id")]: row["split"] for row in rows}
    assert written == {id: split for id, split, *_ in fates if split}
    assert {made for *_, made in fates} == {format}
    every = {
        "sft": "responses WHERE kind <> 'perturbation' AND",
        "kto": "responses WHERE kind <> 'perturbation' AND id IN (SELECT unnest([first_id, second_id]) FROM judgements)"
        " AND",
        "grpo": "prompts WHERE",
    }.get(format, "preferences WHERE")
    assert [(done.candidates,)] == table(root, f"SELECT count(*) FROM {every} run_id = '{graded.run_id}'")


def test_the_rows_are_the_runs_byte_for_byte(root: Path, voted: Run, tmp_path: Path) -> None:
    _, rows = make_export(root, voted, tmp_path / "dpo", "dpo")
    asked = dict(table(root, f"SELECT id, messages FROM prompts WHERE run_id = '{voted.run_id}'"))
    texts = dict(table(root, f"SELECT id, text FROM responses WHERE run_id = '{voted.run_id}'"))
    labels = {
        id: about
        for id, *about in table(
            root,
            "SELECT id, prompt_id, chosen_id, rejected_id, p_chosen, kind, agreement, consistency, votes, label_by "
            f"FROM preferences WHERE run_id = '{voted.run_id}' AND kept",
        )
    }
    assert {row["pair_id"] for row in rows} == labels.keys()
    for row in rows:
        names = ("prompt_id", "chosen_id", "rejected_id", "p_chosen", "kind", "agreement", "consistency", "votes")
        assert [row[name] for name in (*names, "label_by")] == labels[row["pair_id"]]
        assert row["prompt"] == asked[row["prompt_id"]]
        assert row["chosen"] == [{"role": "assistant", "content": texts[row["chosen_id"]]}]
        assert row["rejected"] == [{"role": "assistant", "content": texts[row["rejected_id"]]}]
        assert (row["run_id"], row["constitution"]) == (voted.run_id, "general@1.1.0")
    assert ODD in {row["prompt"][-1]["content"] for row in rows}
    assert {len(row["prompt"]) for row in rows} == {1, 4}
    # The order is that of the prompts.
    in_order = table(root, f"SELECT id FROM prompts WHERE run_id = '{voted.run_id}' ORDER BY slice, position")
    places = {id: place for place, (id,) in enumerate(in_order)}
    order = [places[row["prompt_id"]] for row in rows if row["split"] == "train"]
    assert order == sorted(order)

    _, rewards = make_export(root, voted, tmp_path / "reward", "reward", clip=0.8)
    pairs = {row["pair_id"]: row for row in rows}
    assert len(rewards) == len(rows)
    for row in rewards:
        same = pairs[row["pair_id"]]
        assert row["chosen"] == same["prompt"] + same["chosen"]
        assert row["rejected"] == same["prompt"] + same["rejected"]
        p = min(same["p_chosen"], 0.8)
        assert row["margin"] == pytest.approx(math.log(p / (1 - p)))
    assert len({row["margin"] for row in rewards}) > 5


def test_a_conversation_is_on_one_side_whatever_asks_it(root: Path, voted: Run, graded: Run, tmp_path: Path) -> None:
    """Prompts that are asked again share it; so do formats and runs. Another seed makes another split."""
    splits = []
    for seed in (1, 2):
        sides: dict[str, set[str]] = {}
        asked: dict[str, set[str]] = {}
        for number, (run, format) in enumerate([(voted, "dpo"), (graded, "kto"), (graded, "grpo")]):
            _, rows = make_export(root, run, tmp_path / f"{seed}-{number}", format, test=0.4, seed=seed)
            for row in rows:
                sides.setdefault(json.dumps(row["prompt"]), set()).add(row["split"])
                asked.setdefault(json.dumps(row["prompt"]), set()).add(row["prompt_id"])
        assert max(len(ids) for ids in asked.values()) == 2
        assert all(len(side) == 1 for side in sides.values())
        assert 0.1 < sum(side == {"test"} for side in sides.values()) / len(sides) < 0.7
        splits.append(sides)
    assert splits[0] != splits[1]


def test_the_same_run_and_settings_give_the_same_bytes(root: Path, voted: Run, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        done, _ = make_export(root, voted, tmp_path / name, "robust", min_margin=0.05)
        paths = sorted(path for path in done.out.rglob("*") if path.is_file())
        contents.append({str(path.relative_to(done.out)): path.read_bytes() for path in paths})
    assert contents[0] == contents[1]
    assert {"README.md", "manifest.json"} < contents[0].keys()
    manifest = json.loads(contents[0]["manifest.json"])
    assert {entry["path"] for entry in manifest["files"]} == contents[0].keys() - {"README.md", "manifest.json"}
    assert sum(entry["rows"] for entry in manifest["files"]) == sum(manifest["counts"]["kept"].values())
    assert manifest["counts"]["candidates"] == done.candidates
    assert str(tmp_path) not in json.dumps(manifest)
    # Made again, an export takes the place of the one before in the table.
    stored = table(
        root, f"SELECT count(*) FROM exported WHERE run_id = '{voted.run_id}' AND export_id = '{done.export_id}'"
    )
    assert stored == [(done.candidates,)]


def test_each_filter_leaves_out_what_it_says(root: Path, voted: Run, tmp_path: Path) -> None:
    kept = {row["pair_id"]: row for row in make_export(root, voted, tmp_path / "all", "dpo", test=0)[1]}
    rounds = dict(
        table(root, "SELECT p.id, CASE WHEN r.kind <> 'given' THEN r.round END FROM preferences p JOIN responses r "
              f"ON r.id = p.b_id WHERE p.run_id = '{voted.run_id}'")
    )  # fmt: skip
    filters: list[tuple[str, dict[str, Any], Any]] = [
        ("min-margin", {"min_margin": 0.2}, lambda row: row["p_chosen"] >= 0.7),
        ("min-agreement", {"min_agreement": 0.9}, lambda row: row["agreement"] >= 0.9),
        ("inconsistent", {"consistent_only": True}, lambda row: row["consistency"] == 1),
        ("round", {"rounds": (1,)}, lambda row: rounds[row["pair_id"]] == 1),
        ("where", {"where": "list_contains(tags, 'odd') -- said so"}, lambda row: "odd" in row["tags"]),
        ("where", {"where": "votes > 2 AND kind = 'given'"}, lambda row: row["votes"] > 2 and row["kind"] == "given"),
    ]  # fmt: skip
    for number, (reason, setting, holds) in enumerate(filters):
        done, rows = make_export(root, voted, tmp_path / str(number), "dpo", **setting)
        expected = {id for id, row in kept.items() if holds(row)}
        assert {row["pair_id"] for row in rows} == expected
        assert 0 < len(expected) < len(kept)
        assert done.dropped[reason] == len(kept) - len(expected)
    # The pipeline's own reasons stand before all others.
    not_kept = f"FROM preferences WHERE run_id = '{voted.run_id}' AND NOT kept"
    own = table(root, f"SELECT drop_reason, count(*) {not_kept} GROUP BY ALL")
    assert dict(own).items() <= done.dropped.items()
    assert "perturbation" in done.dropped


def test_sampled_labels_are_the_soft_ones_in_the_mean(root: Path, voted: Run, tmp_path: Path) -> None:
    hard = {row["pair_id"]: row for row in make_export(root, voted, tmp_path / "hard", "dpo")[1]}
    turned = []
    for seed in range(3):
        _, rows = make_export(root, voted, tmp_path / f"{seed}", "dpo", labels="sampled", seed=seed)
        assert {row["pair_id"] for row in rows} == hard.keys()
        for row in rows:
            as_it_was = hard[row["pair_id"]]
            is_turned = row["chosen_id"] != as_it_was["chosen_id"]
            turned.append(is_turned)
            other = "rejected" if is_turned else "chosen"
            assert row["chosen"] == as_it_was[other]
            p = as_it_was["p_chosen"]
            assert row["p_chosen"] == pytest.approx(1 - p if is_turned else p)
    expected = [1 - row["p_chosen"] for row in hard.values()] * 3
    deviation = math.sqrt(sum(p * (1 - p) for p in expected))
    assert deviation > 3
    assert abs(sum(turned) - sum(expected)) < 4 * deviation


def test_robust_shards_are_of_like_noise(root: Path, voted: Run, tmp_path: Path) -> None:
    done, rows = make_export(root, voted, tmp_path / "robust", "robust", shards=3)
    by_config: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_config.setdefault(row["config"], []).append(row)
    assert len(by_config) == 3
    sizes = [len(shard) for shard in by_config.values()]
    assert max(sizes) - min(sizes) <= 1
    noisiest = -1.0
    for config, shard in sorted(by_config.items()):
        noise = [1 - row["p_chosen"] for row in shard]
        assert {row["epsilon"] for row in shard} == {float(config.removeprefix("eps-"))}
        assert shard[0]["epsilon"] == pytest.approx(sum(noise) / len(noise), abs=0.0051)
        assert min(noise) >= noisiest
        noisiest = max(noise)
    assert all(file.path.startswith(f"data/{file.config}/") for file in done.files)


def test_nothing_is_half_there(root: Path, voted: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails late leaves neither a folder nor rows, and what was there stays."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "sub" / "out"
    settings = Settings(format="dpo", seed=77, cleaning=NO_CLEANING)
    with monkeypatch.context() as patch:
        patch.setattr(make, "write_card", fail)
        with pytest.raises(WarehouseError, match="No space left"):
            export(root, voted.run_id, settings, out)
    assert list(out.parent.iterdir()) == []
    assert table(root, f"SELECT count(*) FROM exported WHERE export_id = '{settings.export_id}'") == [(0,)]

    export(root, voted.run_id, settings, out)
    before = (out / "manifest.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(make, "write_card", fail)
        with pytest.raises(WarehouseError):
            export(root, voted.run_id, Settings(format="sft"), out, overwrite=True)
    assert (out / "manifest.json").read_bytes() == before
    export(root, voted.run_id, Settings(format="sft"), out, overwrite=True)
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["format"] == "sft"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


KILLED = """
import os, signal, sys
from pathlib import Path
from constitution.export import Settings, export, make
make.write_card = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
export(Path(sys.argv[1]), sys.argv[2], Settings(format="dpo"), Path(sys.argv[3]), overwrite=True)
"""


def test_what_a_killed_export_left_goes(root: Path, voted: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(root, voted.run_id, Settings(format="sft"), out)
    killed = subprocess.run([sys.executable, "-c", KILLED, root, voted.run_id, out], check=False)
    assert killed.returncode == -signal.SIGKILL
    [left] = [path for path in tmp_path.iterdir() if path != out]
    at_work, theirs = (tmp_path / f".out.{sign * 16}.tmp" for sign in "01")
    at_work.mkdir()
    theirs.mkdir()
    (theirs / "mine.txt").write_text("mine")
    lock = os.open(at_work, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        export(root, voted.run_id, Settings(format="grpo"), out, overwrite=True)
    finally:
        os.close(lock)
    assert not left.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"out", at_work.name, theirs.name}


def test_a_folder_with_anything_else_is_left_alone(root: Path, voted: Run, tmp_path: Path) -> None:
    settings = Settings(format="dpo")
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty, and no export"):
        export(root, voted.run_id, settings, tmp_path, overwrite=True)
    with pytest.raises(InputError, match="is a file"):
        export(root, voted.run_id, settings, tmp_path / "note.txt", overwrite=True)
    (tmp_path / "empty").mkdir()
    done = export(root, voted.run_id, settings, tmp_path / "empty")
    with pytest.raises(InputError, match="there is an export already"):
        export(root, voted.run_id, settings, done.out)
    # Nor goes what somebody put beside an export's files, or has a manifest of another kind.
    trained = done.out / "trained" / "model.bin"
    trained.parent.mkdir()
    trained.write_text("mine")
    with pytest.raises(InputError, match="is not of the export"):
        export(root, voted.run_id, settings, done.out, overwrite=True)
    (tmp_path / "site").mkdir()
    for text in ('{"name": "site", "files": []}', "[]", "{", "null"):
        (tmp_path / "site" / "manifest.json").write_text(text)
        with pytest.raises(InputError, match="not empty, and no export"):
            export(root, voted.run_id, settings, tmp_path / "site", overwrite=True)
    assert trained.read_text() == "mine"
    # A link stays one.
    trained.unlink()
    (tmp_path / "link").symlink_to(done.out)
    export(root, voted.run_id, settings, tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "link" / "manifest.json").is_file()
    assert not trained.parent.exists()


@pytest.mark.parametrize(
    "where",
    [
        "nothing = 1",
        "true) UNION ALL SELECT id FROM (DELETE FROM export.dropped",
        "true); DROP TABLE export.dropped; --",
        "id IN (WITH x AS (COPY prompts TO 'x') SELECT 1)",
        "id IN (SELECT content FROM read_text('/etc/hostname'))",
        "p >",
        "p > ?",
    ],
)
def test_a_condition_may_only_read(root: Path, voted: Run, tmp_path: Path, where: str) -> None:
    with pytest.raises(QueryError, match="--where"):
        export(root, voted.run_id, Settings(format="dpo", where=where), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_is_said(root: Path, voted: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="there is no run nobody"):
        export(root, "nobody", Settings(format="dpo"), out)
    with pytest.raises(InputError, match="kto needs a judgement of each answer by itself") as caught:
        export(root, voted.run_id, Settings(format="kto"), out)
    assert 'judge.method = "score"' in caught.value.hint
    with pytest.raises(InputError, match=r"no row is left: .*\d+ where"):
        export(root, voted.run_id, Settings(format="dpo", where="p > 2"), out)
    with pytest.raises(InputError, match="'unheard'"):
        export(root, voted.run_id, Settings(format="dpo", principles=("unheard",)), out)
    assert not out.exists()


def test_an_open_run_is_exported_as_far_as_it_is(tmp_path: Path) -> None:
    warehouse = fill(tmp_path / "warehouse")
    done = export(
        warehouse.root, RUN, Settings(format="dpo", test=0, cleaning=Cleaning(dedupe="exact")), tmp_path / "o"
    )
    assert (done.finished, done.rows, done.dropped) == (False, {"train": 5}, {})


def test_a_row_whose_text_is_gone_is_an_error(tmp_path: Path) -> None:
    warehouse = fill(tmp_path / "warehouse")
    warehouse.write_prompts(RUN, 0, [])
    with pytest.raises(WarehouseError, match="not in the warehouse"):
        export(warehouse.root, RUN, Settings(format="dpo"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_compacted_as_the_export_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that were listed and are gone make no difference to what is read later."""
    warehouse = fill(tmp_path / "warehouse")
    listed = warehouse.parts
    gone = [tmp_path / "gone.parquet"]
    monkeypatch.setattr(
        Warehouse, "parts", lambda _, *of: [*listed(*of), *(gone if of[0] not in ("clauses", "figures") else [])]
    )
    done = export(warehouse.root, RUN, Settings(format="dpo", test=0), tmp_path / "out")
    assert done.rows["train"]


@given(st.lists(st.integers(0, 9), max_size=8), st.lists(st.integers(1, 7), max_size=12))
def test_rows_come_in_blocks_of_the_sizes_that_are_asked_for(batches: list[int], sizes: list[int]) -> None:
    numbers = iter(range(sum(batches)))
    made = [pa.record_batch({"n": pa.array([next(numbers) for _ in range(size)], pa.int64())}) for size in batches]
    blocks = _blocks(iter(made), sizes)
    taken: list[int] = []
    for size in sizes:
        if len(taken) + size > sum(batches):
            with pytest.raises(WarehouseError):
                next(blocks)
            return
        taken += next(blocks).column("n").to_pylist()
    assert taken + [n for block in blocks for n in block.column("n").to_pylist()] == list(range(sum(batches)))


def test_the_warehouse_is_as_it_was(root: Path, voted: Run, tmp_path: Path) -> None:
    def stored() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and "exported" not in path.parts and path.suffix in (".parquet", ".json")
        }

    before = stored()
    make_export(root, voted, tmp_path / "out", "dpo")
    assert stored() == before
    assert Warehouse(root).read_run(voted.run_id) == voted
