"""Prompts as they are read from rows, queries and Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.records import Prompt


def of(folder: Path, *rows: Any, **settings: Any) -> list[Prompt]:
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_prompts(PromptsSection(path="p.jsonl", **settings), folder))


def asked(folder: Path, query: str, **settings: Any) -> list[Prompt]:
    return list(read_prompts(PromptsSection(format="sql", query=query, **settings), folder))


def parquet(folder: Path, table: pa.Table, name: str = "p.parquet", **settings: Any) -> list[Prompt]:
    pq.write_table(table, folder / name)
    return list(read_prompts(PromptsSection(path=name, **settings), folder))


def texts(prompts: list[Prompt]) -> list[str]:
    return [prompt.messages[-1].content for prompt in prompts]
