"""A run that resumes takes up first what has the most left to do."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.identity import row_id
from constitution.warehouse.tally import most_left_first


def _written(path: Path, column: str, numbers: range) -> Path:
    pq.write_table(pa.table({column: [row_id(number) for number in numbers]}), path)
    return path


def test_slices_with_the_most_left_come_first_and_equal_ones_in_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "a [folder] that's odd"
    folder.mkdir()
    slices = [_written(folder / f"part-{n}.parquet", "id", range(10 * n, 10 * n + 10)) for n in range(5)]
    done = [
        _written(folder / "one.parquet", "prompt_id", range(13)),  # of slice 0 all, of slice 1 some
        _written(folder / "two.parquet", "prompt_id", range(20, 29)),  # of slice 2 all but one
    ]
    assert most_left_first(slices, done) == [slices[n] for n in (3, 4, 1, 2, 0)]
    assert most_left_first(slices, []) == slices


def test_a_slice_that_cannot_be_read_leaves_the_order_as_it_is(tmp_path: Path) -> None:
    slices = [_written(tmp_path / f"part-{n}.parquet", "id", range(n, n + 1)) for n in range(2)]
    done = [_written(tmp_path / "done.parquet", "prompt_id", range(1))]
    assert most_left_first(slices, done) == [slices[1], slices[0]]
    slices[1].write_bytes(b"not Parquet")
    assert most_left_first(slices, done) == slices
