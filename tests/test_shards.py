"""Runs in shards: the rows are those of the run as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from shard_runs import same, shards, whole

from constitution.pipeline.shard import dealt
from constitution.records import Shard

ROOT = Path(__file__).parents[1]
FAKE = sorted(
    path.stem
    for path in (ROOT / "recipes").glob("*.toml")
    if not any(f'engine = "{engine}"' in path.read_text() for engine in ("vllm", "openai", "transformers", "pocket"))
)
FEW = ["deliberative", "ultrafeedback", "compute-as-teacher"]
"""Of these, in every run of the tests: a chain with votes, rewards and pairs of samples, references and rubrics."""


def test_every_slice_is_dealt_once_and_evenly() -> None:
    slices = [Path(f"part-{n}.parquet") for n in range(50)]
    hands = [dealt("run", slices, Shard(number, 8)) for number in range(1, 9)]
    assert sorted(path for hand in hands for path in hand) == sorted(slices)
    assert {len(hand) for hand in hands} == {6, 7}
    assert hands[0] != [path for path in slices if path in slices[::8]]  # what comes first in a source is spread
    assert dealt("another", slices, Shard(1, 8)) != hands[0]
    assert dealt("run", slices, Shard(1, 1)) == slices


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.torture) for name in FAKE]
)
def test_rows_of_shards_are_those_of_the_whole_run(name: str, tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / f"{name}.toml"
    found = shards(recipe, tmp_path / "w", 3)
    assert [each["done"] for each in found] == [True] * 3
    assert [bool(each["finished"]) for each in found] == [False, False, True]
    assert found[0]["left"] == ["shard 2/3: not begun", "shard 3/3: not begun"]
    same(tmp_path / "w", whole(recipe, tmp_path / "whole"))
