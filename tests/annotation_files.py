"""Files of annotations for the tests."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner, Result
from judging_rows import Scene

from constitution.cli import app
from constitution.records import Annotation
from constitution.warehouse.annotations import AnnotationFile, read_annotations


def laid_out(root: Path) -> Path:
    """A warehouse of three pairs."""
    scene = Scene()
    for number in range(3):
        scene.pair(a=f'one, "{number}"\nand more', b=f"two {number}")
    scene.write(root)
    return root


def write(root: Path, rows: Sequence[dict[str, Any]], name: str = "ann.csv") -> Path:
    """`rows` as a file of the kind that its name says, beside the warehouse."""
    path = root.parent / name
    if ".csv" in name or ".tsv" in name:
        with gzip.open(path, "wt", newline="") if name.endswith(".gz") else path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if ".tsv" in name else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif "json" in name:
        text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    else:
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def read(root: Path, rows: Sequence[dict[str, Any]], name: str = "ann.csv", **settings: Any) -> AnnotationFile:
    return read_annotations(root, write(root, rows, name), **settings)


def command(root: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--warehouse", str(root)])


def values(annotations: Sequence[Annotation]) -> list[tuple[str, float]]:
    return [(annotation.pair_id or annotation.response_id or "", annotation.value) for annotation in annotations]
