"""A reward that is missing, whatever its source, is no number in any view or export."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from export_runs import make_export
from hypothesis import given, settings
from hypothesis import strategies as st
from small_project import table
from warehouse_rows import CONSTITUTION, RUN, prompt, run

from constitution.errors import InputError
from constitution.records import Preference, Response, Reward, RewardReason, RewardSource, Run
from constitution.warehouse import Warehouse

SOURCES: tuple[RewardSource, ...] = ("rubric", "prompt-rubric", "model", "match", "last-token")
REASONS: dict[RewardSource, RewardReason] = {
    "rubric": "readings-missing",
    "prompt-rubric": "no-rubric",
    "model": "no-spread",
    "match": "unread",
    "last-token": "readings-missing",
}
Values = dict[str, dict[RewardSource, float | None]]
"""By response."""

READ = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
GROUPS = st.lists(
    st.lists(st.fixed_dictionaries(dict.fromkeys(SOURCES, READ)), min_size=2, max_size=4),
    min_size=3,
    max_size=6,
)


def stored(root: Path, groups: list[list[dict[RewardSource, float | None]]]) -> tuple[tuple[Path, Run], Values]:
    """A finished run of samples with these rewards."""
    values = {f"{n}-{place}": each for n, group in enumerate(groups) for place, each in enumerate(group)}
    owners = {id: prompt(int(id.partition("-")[0])).id for id in values}
    warehouse = Warehouse(root)
    warehouse.write_principles(RUN, CONSTITUTION)
    warehouse.write_prompts(RUN, 0, [prompt(number) for number in range(len(groups))])
    answers = [
        Response(id, RUN, owner, "sample", 0, f"This is what answer {id} says.", "ok", "m", sampler="plain")
        for id, owner in owners.items()
    ]
    warehouse.write_part("responses", RUN, answers)
    rewards = [
        Reward(
            f"{id}-{source}", RUN, owners[id], id, source, value, value, int(value is not None), int(value is None),
            None, None, ("judge",), REASONS[source] if value is None else None,
        )
        for id, own in values.items()
        for source, value in own.items()
    ]  # fmt: skip
    warehouse.write_part("rewards", RUN, rewards)
    pairs = [
        Preference(f"{n}-pair", RUN, prompt(n).id, "all", f"{n}-0", f"{n}-1", 0.9, 2, 0, 1.0, 1.0, 0.9, None)
        for n in range(len(groups))
    ]
    warehouse.write_part("preferences", RUN, pairs)
    recipe = {"name": "missing", "sample": {"plain": {"n": 4}}, "reward": {"by": list(SOURCES), "combine": "mean"}}
    made = replace(run(), recipe=recipe | {"judge": {"pairs": ["all"]}})
    warehouse.write_run(made)
    warehouse.rebuild_views()
    return (root, made), values


def known(values: Values, source: RewardSource) -> dict[str, float]:
    return {id: value for id, own in values.items() if (value := own[source]) is not None}


def group_of(id: str) -> str:
    return id.partition("-")[0]


@settings(max_examples=3, deadline=None)
@given(GROUPS)
def test_a_missing_reward_is_no_number(groups: list[list[dict[RewardSource, float | None]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made, values = stored(Path(folder) / "warehouse", groups)
        for source in SOURCES:
            there = known(values, source)
            own: dict[str, list[float]] = {}
            for id, value in there.items():
                own.setdefault(group_of(id), []).append(value)
            query = f"SELECT response_id FROM advantages WHERE source = '{source}'"
            assert {id for (id,) in table(made[0], query)} <= there.keys()
            sizes = table(made[0], f"SELECT best_id, n, mean FROM groups WHERE source = '{source}' AND n > 0")
            assert {group_of(id): (n, mean) for id, n, mean in sizes} == {
                number: (len(each), pytest.approx(statistics.fmean(each))) for number, each in own.items()
            }
        source = SOURCES[len(groups) % len(SOURCES)]
        exported(made, Path(folder), source, known(values, source))


def exported(made: tuple[Path, Run], folder: Path, source: RewardSource, there: dict[str, float]) -> None:
    """What each format by rewards takes of answers with rewards, and of no others."""

    def rows(name: str, format: str, **chosen: Any) -> list[dict[str, Any]]:
        try:
            return make_export(*made, folder / name, format, test=0.0, source=source, **chosen)[1]
        except InputError as error:
            if "no row is left" not in str(error):
                raise
            return []

    above = rows("above", "sft", above=-10.0)
    assert {row["response_id"] for row in above} == there.keys()
    assert {row["response_id"] for row in rows("best", "sft", select="best")} <= there.keys()
    labelled = rows("kto", "kto", good=0.5)
    assert {row["response_id"]: row["label"] for row in labelled} == {id: value >= 0.5 for id, value in there.items()}
    gaps = rows("gaps", "reward", margin="gap", min_gap=0.0)
    for row in gaps:
        assert row["margin"] == pytest.approx(there[row["chosen_id"]] - there[row["rejected_id"]])
    numbers = {prompt(number).id: str(number) for number in range(9)}
    for row in rows("grpo", "grpo", unanimous="keep"):
        own = [value for id, value in there.items() if group_of(id) == numbers[row["prompt_id"]]]
        assert row["reward_mean"] == (pytest.approx(statistics.fmean(own)) if own else None)
        assert row["group_size"] == (len(own) or None)
