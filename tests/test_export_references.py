"""Exports of runs with references and rewards by several sources: what a prompt's row says of them, and the references
themselves as answers to learn from, where they are asked for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from export_runs import NO_CLEANING, make_export
from run_once import run_once
from small_project import small_project, table
from test_trainers import datasets, tokenizer, trained, trainer_of, trl

from constitution.errors import InputError
from constitution.export import Exported, Settings
from constitution.records import Run

__all__ = ["datasets", "tokenizer", "trl"]

RECIPE = """
name = "referred"
constitution = "general@1.2.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
thoughts = 1
[revise]
rounds = 1
[sample.plain]
n = 3
[reference]
from = "revision"
bar = 0.02
[reward]
by = ["rubric", "rule"]
rules = { words = [3, 30] }
[output]
flush_seconds = 0.05
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """The bar is such that some references fall."""
    folder = tmp_path_factory.mktemp("referred")
    rows = [{"prompt": f"How is thing {n} made?"} for n in range(12)]
    return folder, asyncio.run(run_once(small_project(folder, rows, RECIPE), folder / "w", []))


def exported(made: tuple[Path, Run], out: Path, format: str, **more: Any) -> tuple[Exported, list[dict[str, Any]]]:
    return make_export(made[0] / "w", made[1], out, format, **{"test": 0.0, "cleaning": NO_CLEANING, **more})


def references(made: tuple[Path, Run]) -> dict[str, tuple[str, str, str | None]]:
    """By prompt: id, text, and why nothing may be made from it."""
    checked = "SELECT r.prompt_id, r.id, text, c.drop_reason FROM reference_checks AS c JOIN responses AS r ON "
    found = {row[0]: row[1:] for row in table(made[0] / "w", checked + "r.id = c.response_id")}
    assert {reason for *_, reason in found.values()} == {None, "breaks"}
    return found


def test_a_prompt_has_its_reference_and_its_rewards_by_each_source(made: tuple[Path, Run], tmp_path: Path) -> None:
    own = references(made)
    _, rows = exported(made, tmp_path / "out", "grpo", unanimous="keep")
    assert len(rows) == 12
    groups = "SELECT prompt_id, source, n, mean, std FROM groups ORDER BY ALL"
    by_source: dict[str, list[dict[str, Any]]] = {}
    for prompt_id, source, size, mean, std in table(made[0] / "w", groups):
        by_source.setdefault(prompt_id, []).append(
            {"source": source, "mean": pytest.approx(mean), "std": pytest.approx(std), "size": size}
        )
    for row in rows:
        _, text, reason = own[row["prompt_id"]]
        assert row["reference"] == (None if reason else text)
        assert row["rewards"] == by_source[row["prompt_id"]]
        assert [each["source"] for each in row["rewards"]] == ["rubric", "rule"]
        [first] = [each for each in row["rewards"] if each["source"] == row["reward_source"] == "rubric"]
        assert (row["reward_mean"], row["reward_std"], row["group_size"]) == (first["mean"], first["std"], 3)
    _, rows = exported(made, tmp_path / "verl", "grpo", layout="verl", unanimous="keep")
    truths = {row["prompt_id"]: row["reward_model"]["ground_truth"] for row in rows}
    assert truths == {id: "" if reason else text for id, (_, text, reason) in own.items()}
    assert all(row["extra_info"]["prompt"] == row["prompt"] for row in rows)
    _, rows = exported(made, tmp_path / "verifiers", "grpo", layout="verifiers", unanimous="keep")
    assert {row["prompt_id"]: row["answer"] for row in rows} == truths
    assert all(json.loads(row["info"])["rubric"] == row["rubric"] for row in rows)


def test_references_are_learnt_where_they_are_asked_for_alone(made: tuple[Path, Run], tmp_path: Path) -> None:
    own = references(made)
    done, rows = exported(made, tmp_path / "out", "sft", select="reference", with_reasoning=True)
    kept = {id: text for id, text, reason in own.values() if reason is None}
    assert {row["response_id"]: row["completion"][0]["content"] for row in rows} == kept
    assert {row["kind"] for row in rows} == {"reference"}
    assert all(row["completion"][0]["reasoning_content"] for row in rows)  # of the revision whose text it is
    found = f"SELECT drop_reason, drop_detail, count(*) FROM exported WHERE export_id = '{done.export_id}' GROUP BY ALL"
    assert sorted(table(made[0] / "w", found), key=str) == [
        ("reference", "breaks", 12 - len(kept)), (None, None, len(kept))
    ]  # fmt: skip
    card = (done.out / "README.md").read_text(encoding="utf-8")
    assert "The answers are references of their prompts" in card
    ids = {id for id, *_ in own.values()}
    others: list[dict[str, Any]] = [{"rounds": "all"}, {"select": "best"}, {"above": 0.0}]
    for number, more in enumerate(others):
        done, rows = exported(made, tmp_path / str(number), "sft", **more)
        assert not ids & {row["response_id"] for row in rows}
        assert "references" not in (done.out / "README.md").read_text(encoding="utf-8")


def test_sft_trains_on_them(made: tuple[Path, Run], tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path) -> None:
    exported(made, tmp_path / "out", "sft", select="reference")
    data = {"train": datasets.load_dataset(str(tmp_path / "out"))["train"], "test": None}
    trained(trainer_of(trl, "SFT", data, tokenizer, tmp_path))


def test_where_there_are_none(tmp_path: Path) -> None:
    recipe = RECIPE.replace('[reference]\nfrom = "revision"\nbar = 0.02\n', "")
    path = small_project(tmp_path, [{"prompt": "How?"}], recipe)
    run = asyncio.run(run_once(path, tmp_path / "w", []))
    with pytest.raises(InputError, match="the run has no references"):
        make_export(tmp_path / "w", run, tmp_path / "out", "sft", select="reference")
    _, [row] = make_export(tmp_path / "w", run, tmp_path / "grpo", "grpo", unanimous="keep")
    assert "reference" not in row


@pytest.mark.parametrize("more", [{"above": 0.5}, {"principles": ["harm"]}, {"rounds": "all"}, {"unanimous": "keep"}])
def test_settings_that_do_not_go_together(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"select|unanimous"):
        Settings.model_validate({"format": "sft", "select": "reference", **more})
