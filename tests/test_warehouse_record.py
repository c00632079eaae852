"""A run's record whose fields are of other types."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from warehouse_rows import run

from constitution.errors import DamagedPart
from constitution.records import Run, ShardRecord, Usage
from constitution.warehouse import record

RUN = replace(
    run(),
    usage=(Usage("vote", "m", 1, 2, 0, 3),),
    cost=3,
    counts={"prompts": 2},
    repairs=("a part",),
    authors=("ann@a", "b@b"),
)


def test_a_record_is_read_as_it_was_written() -> None:
    assert record.parse(record.render(RUN), "r", Run) == RUN
    shard = ShardRecord("r", 3, 16, "a", 7, "ann", "2026", "2026", usage=RUN.usage, counts={"prompts": 2}, cost=0.5)
    assert record.parse(record.render(shard), "s", ShardRecord) == shard
    with pytest.raises(DamagedPart, match=r"^s: cannot be read as a shard: .*recipe"):
        record.parse(record.render(RUN), "s", ShardRecord)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"run_id": 7}, "record.run_id"),
        ({"starts": True}, "record.starts"),
        ({"starts": 1.0}, "record.starts"),
        ({"seconds": "1"}, "record.seconds"),
        ({"cost": "3"}, "record.cost"),
        ({"finished_at": 1}, "record.finished_at"),
        ({"counts": {"prompts": None}}, "record.counts.prompts"),
        ({"templates": {"set": {"vote.txt": 1}}}, "record.templates.set.vote.txt"),
        ({"engines": {"policy": []}}, "record.engines.policy"),
        ({"usage": [{"calls": "1"}]}, "record.usage.0.calls"),
        ({"usage": {}}, "record.usage"),
        ({"repairs": ["a", 1]}, "record.repairs.1"),
        ({"unheard": 1}, "unheard"),
        ({"usage": [{"calls": 1}]}, "stage"),
    ],
)
def test_a_field_of_another_type_is_named(changed: dict[str, Any], named: str) -> None:
    text = json.dumps(json.loads(record.render(RUN)) | changed)
    with pytest.raises(DamagedPart, match=f"^r: cannot be read as a run: .*{named}"):
        record.parse(text.encode(), "r", Run)
