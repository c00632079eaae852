"""Exports with and without what the model thought before its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chat_templates import tokenizer
from export_runs import NO_CLEANING, make_run

from constitution.errors import InputError
from constitution.export import Settings, export
from constitution.export.formats import FORMATS
from constitution.records import Run
from constitution.warehouse import connect

HIDDEN = "I might say"
"""What every thought of the fake engine begins with."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("thinking")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return make_run(folder, "thinking", 'method = "score"', prompts=12, thoughts=1)


def rows_of(out: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return [row for path in sorted((out / "data").rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("format_", [name for name, spec in FORMATS.items() if not spec.source])
def test_no_export_has_it_unless_it_is_asked_for(folder: Path, run: Run, tmp_path: Path, format_: str) -> None:
    export(folder / "warehouse", run.run_id, Settings(format=format_, cleaning=NO_CLEANING), tmp_path / "out")
    assert HIDDEN not in str(rows_of(tmp_path / "out"))
    assert "reasoning" not in str(rows_of(tmp_path / "out"))
    assert HIDDEN not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("format_", [name for name, spec in FORMATS.items() if "with_reasoning" in spec.settings])
def test_with_it_each_answer_has_what_led_to_its_text(folder: Path, run: Run, tmp_path: Path, format_: str) -> None:
    settings = Settings(format=format_, with_reasoning=True, cleaning=NO_CLEANING)
    export(folder / "warehouse", run.run_id, settings, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    with connect(folder / "warehouse") as connection:
        query = "SELECT w.id, r.reasoning FROM written AS w JOIN responses AS r ON r.id = w.written_id"
        thoughts = dict(connection.execute(query).fetchall())
    seen = 0
    for row in rows:
        answers = [(row[side][-1], row[f"{side}_id"]) for side in ("chosen", "rejected") if side in row]
        answers += [(row["completion"][-1], row["response_id"])] if "completion" in row else []
        for message, id in answers:
            assert list(message) == ["role", "content", "reasoning_content"]
            assert message["reasoning_content"] == thoughts[id]
            seen += message["reasoning_content"] is not None
        for turns in (row.get("chosen", []), row.get("prompt", [])):
            assert all(turn.get("reasoning_content") is None for turn in turns[:-1])
    assert seen > len(rows) / 3
    columns = {field.name for field in FORMATS[format_].fields}
    assert set(rows[0]) == columns


def test_chat_templates_find_it(folder: Path, run: Run, tmp_path: Path) -> None:
    """By the key that templates read, in messages as `datasets` hands them to trainers."""
    datasets: Any = pytest.importorskip("datasets")

    settings = Settings(format="sft", with_reasoning=True, cleaning=NO_CLEANING, where="kind <> 'given'")
    export(folder / "warehouse", run.run_id, settings, tmp_path / "out")
    row = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))[0]
    template = (
        "{% for m in messages %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    text = tokenizer(template, ("<|end|>",)).apply_chat_template(row["prompt"] + row["completion"], tokenize=False)
    assert f"<think>{HIDDEN}" in text


def test_grpo_has_no_answers_to_have_it(folder: Path, run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="with-reasoning is for"):
        Settings(format="grpo", with_reasoning=True)

    with pytest.raises(InputError):
        export(folder / "warehouse", "nothing", Settings(format="sft", with_reasoning=True), tmp_path / "out")
