"""What reads a run of scripted turns: exports keep a conversation together, audits draw it whole, a trial and the later
questions see its turns."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from small_project import small_project, table
from test_turns import RECIPE, work

from constitution.ask.impact import sample_pairs
from constitution.audit import audit
from constitution.audit.evidence import load
from constitution.cli.show import show
from constitution.export import export
from constitution.export.settings import Cleaning, Settings
from constitution.labels import Rules
from constitution.labels.run_votes import RunVotes
from constitution.pipeline.relabel import relabel_run
from constitution.recipe import load_recipe
from constitution.records import Run
from constitution.trial import try_recipe
from constitution.warehouse import Warehouse, connect

TOPICS = ("bread", "tides", "clocks", "moss", "chess", "glass", "trains", "bees", "salt", "paper")
ROWS = [
    {
        "turns": [
            f"Tell me in some detail how {topic} came to be what it is today, with dates, and name three people.",
            "Shorter.",
            "And now?",
        ]
    }
    for topic in TOPICS
]
# Begins as the first one does, and continues otherwise: the same conversation up to there.
ROWS.append({"turns": [ROWS[0]["turns"][0], "In French."]})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("turns")
    recipe = small_project(folder, ROWS, RECIPE.replace("share = 0.3", "share = 1.0"))
    return folder / "w", asyncio.run(work(recipe, folder / "w"))


def exported(root: Path, out: Path, format: str = "dpo", **cleaning: Any) -> list[dict[str, Any]]:
    [run_id] = Warehouse(root).run_ids()
    settings = Settings(format=format, test=0.5, cleaning=Cleaning(**{"dedupe": "off", **cleaning}))
    made = export(root, run_id, settings, out)
    rows = table(root, f"SELECT id, prompt_id, split, drop_reason FROM exported WHERE export_id = '{made.export_id}'")
    assert sum(pq.read_metadata(path).num_rows for path in out.rglob("*.parquet")) == sum(
        row[2] is not None for row in rows
    )
    return [dict(zip(("id", "prompt_id", "split", "drop_reason"), row, strict=True)) for row in rows]


@pytest.mark.parametrize("format", ["dpo", "sft", "grpo"])
def test_a_conversation_is_of_one_split(format: str, done: tuple[Path, Run], tmp_path: Path) -> None:
    root, _ = done
    rows = exported(root, tmp_path / "out", format)
    conversation = dict(table(root, "SELECT id, conversation_id FROM prompts"))
    sides: dict[str, set[str]] = {}
    for row in rows:
        if row["split"]:
            sides.setdefault(conversation[row["prompt_id"]], set()).add(row["split"])
    assert all(len(found) == 1 for found in sides.values())
    assert {side for found in sides.values() for side in found} == {"train", "test"}
    alike = [
        id
        for id, source in table(root, "SELECT id, source FROM prompts WHERE turn = 1")
        if source.endswith(("#1", "#11"))
    ]
    assert len(alike) == 2
    assert len({side for id in alike for side in sides.get(id, ())}) == 1, "they begin with the same words"


def test_turns_of_one_conversation_are_no_near_duplicates(done: tuple[Path, Run], tmp_path: Path) -> None:
    root, _ = done
    rows = exported(root, tmp_path / "out", dedupe="near", near=0.8)
    assert "near-duplicate" not in {row["drop_reason"] for row in rows}
    turns = dict(table(root, "SELECT id, turn FROM prompts"))
    assert {turns[row["prompt_id"]] for row in rows if row["split"]} == {1, 2, 3}


def test_a_bootstrap_draws_conversations(done: tuple[Path, Run]) -> None:
    root, run = done
    figures = audit(root, run.run_id, replicates=50)
    assert figures
    evidence = load(root, run.run_id, replicates=50)
    counted = evidence.connection.execute("SELECT count(*), count(DISTINCT cluster) FROM audit.prompts").fetchall()
    assert counted == [(32, 11)]


def test_labels_are_calibrated_by_other_conversations(done: tuple[Path, Run]) -> None:
    root, run = done
    with connect(root) as connection:
        votes = RunVotes.read(connection, run.run_id, Rules(), {})
        found = dict(zip(votes.column("id"), votes.conversations(), strict=True))
    query = "SELECT p.id, q.conversation_id FROM preferences AS p JOIN prompts AS q ON q.id = p.prompt_id"
    assert found == dict(table(root, query))


def test_labels_are_made_again_and_pairs_are_drawn_of_all_turns(done: tuple[Path, Run]) -> None:
    root, run = done
    before = table(root, "SELECT * EXCLUDE (created_at) FROM preferences ORDER BY id")
    store = Warehouse(root)
    with store.lock(run.run_id):
        relabel_run(store, run.run_id, Rules.of_run(run))
    assert table(root, "SELECT * EXCLUDE (created_at) FROM preferences ORDER BY id") == before
    drawn = sample_pairs(store, run.run_id, 1000)
    assert {prompt.turn for prompt, _ in drawn} == {1, 2, 3}
    assert all(pair.a.prompt_id == prompt.id for prompt, pair in drawn)


def test_rows_of_later_turns_are_shown_as_they_were_asked(done: tuple[Path, Run]) -> None:
    root, _ = done
    query = (
        "SELECT r.id FROM responses AS r JOIN prompts AS p ON p.id = r.prompt_id WHERE turn = 3 AND kind = '{}' LIMIT 1"
    )
    ids = [table(root, query.format(kind))[0][0] for kind in ("initial", "revision", "perturbation")]
    ids += table(
        root, "SELECT j.id FROM judgements AS j JOIN prompts AS p ON p.id = j.prompt_id WHERE turn = 3 LIMIT 1"
    )[0]
    ids += table(root, "SELECT id FROM prompts WHERE turn = 3 LIMIT 1")[0]
    for id in ids:
        shown = CliRunner().invoke(show, [id, "--warehouse", str(root)])
        assert shown.exit_code == 0, shown.output
        assert "And now?" in shown.output


def test_a_trial_works_whole_conversations(tmp_path: Path) -> None:
    recipe = small_project(tmp_path, ROWS, RECIPE)
    trial = asyncio.run(try_recipe(load_recipe(recipe), recipe, tmp_path / "w", 4))
    assert (trial.population, trial.worked) == (11, 4)
    assert trial.run.counts["turns"] in (7, 8)
    initial = next(step for step in trial.steps if step.name == "initial")
    assert len(initial.prompts) == 4 + trial.run.counts["turns"]
    calls = trial.forecast["calls"]
    assert calls.value is not None
    assert calls.value > 11 * 3 * 5, "an answer, two critiques and two revisions, of some 32 turns"
