"""Several judges in one run: whose votes they are, which engines they share, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chains import Rows, Scripted, answer, labeller, prompt, said
from run_once import run_once, stop_midway
from small_project import small_project, table

from constitution.cli.serve import servers
from constitution.engines.base import Completion, Request
from constitution.errors import EngineError, EngineUnavailable, RecipeError, RequestRefused
from constitution.pipeline import prepare
from constitution.pipeline.report import report
from constitution.recipe import JudgeSection, Models, load_recipe
from constitution.records import Failure, Judgement, Preference, Row, Run, Usage
from constitution.warehouse import Warehouse

RECIPE = """
name = "jury"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
gold = "good"
families = { good = "person" }
[model.policy]
engine = "fake"
family = "fake"
[model.jury.one]
engine = "fake"
model = "first-model"
position_bias = 0.5
[model.jury."two.5"]
engine = "fake"
model = "second-model"
[model.jury.weak]
engine = "fake"
model = "third-model"
failure_rate = 0.5
[revise]
rounds = 1
[judge]
principles = 2
pairs = ["first-last", "given"]
[output]
slice = 20
window = 8
flush_seconds = 0.05
"""
PROMPTS = 40
SOUND = "model.jury.weak.failure_rate=0"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return small_project(tmp_path, PROMPTS, RECIPE)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Run]:
    """Two runs of the recipe below one folder: in `w` a judge fails half the time, in `sound` none does."""
    folder = tmp_path_factory.mktemp("jury")
    recipe = small_project(folder, PROMPTS, RECIPE)
    runs = [asyncio.run(run_once(recipe, folder / name, each)) for name, each in (("w", []), ("sound", [SOUND]))]
    return folder, runs[0], runs[1]


def rows_of(warehouse: Path, run_id: str) -> dict[str, Row]:
    store = Warehouse(warehouse)
    ids = [each.id for part in store.parts("prompts", run_id) for each in store.read_prompts(part)]
    return {row.id: row for rows in store.rows_of(run_id, ids).values() for row in rows}


def test_one_judge_of_three_fails_half_the_time(ran: tuple[Path, Run, Run]) -> None:
    folder, run, _ = ran
    assert run.finished_at
    assert (run.counts["open"], run.counts["lost"]) == (0, 0)
    rows = rows_of(folder / "w", run.run_id).values()
    labels = [row for row in rows if isinstance(row, Preference)]
    votes = [row for row in rows if isinstance(row, Judgement)]
    failures = [row for row in rows if isinstance(row, Failure) and row.step == "vote"]
    assert {(label.prompt_id, label.kind) for label in labels} == {
        (row.prompt_id, kind) for row in labels for kind in ("first-last", "given")
    }
    assert len(labels) == 2 * PROMPTS
    votable = [label for label in labels if label.drop_reason != "identical"]
    # Every vote that was to be cast is a row or a failure; those of the sound judges are all there.
    cast = {judge: sum(vote.judge == judge for vote in votes) for judge in ("one", "two.5", "weak")}
    assert cast["one"] == cast["two.5"] == 4 * len(votable)
    assert cast["weak"] + len(failures) == 4 * len(votable)
    assert {failure.judge for failure in failures} == {"weak"}
    assert 0.35 < len(failures) / (4 * len(votable)) < 0.65
    # Missing are the votes that failed, and those that stand there without their other order.
    cast_by = Counter((vote.pair_id, vote.judge, vote.principle_id) for vote in votes)
    alone = sum(count == 1 for count in cast_by.values())
    missing = sum(label.votes_missing for label in labels)
    assert missing == len(failures) + alone == run.counts["votes_missing"] > 0
    assert all(label.p_b is not None and label.votes + label.votes_missing == 12 for label in votable)
    assert f"| votes not counted | {missing} |" in report(run)
    assert "finished" in report(run)
    assert "not finished" not in report(run)


def test_what_the_sound_judges_say_is_what_they_say_alone(ran: tuple[Path, Run, Run]) -> None:
    folder, broken, sound = ran
    assert broken.run_id == sound.run_id  # how surely a judge answers is no part of what it says
    some, every = (rows_of(folder / name, sound.run_id) for name in ("w", "sound"))
    votes = {id: row for id, row in some.items() if isinstance(row, Judgement)}
    assert {id: every[id] for id in votes} == votes
    by_model = table(folder / "sound", "SELECT judge, count(*) FROM judgements GROUP BY ALL ORDER BY ALL")
    assert [judge for judge, _ in by_model] == ["one", "two.5", "weak"]
    assert len({count for _, count in by_model}) == 1
    principles = "SELECT count(*) FROM (SELECT pair_id, principle_id, count(DISTINCT judge) AS n FROM judgements GROUP "
    assert table(folder / "sound", principles + "BY ALL) WHERE n <> 3") == [(0,)]  # drawn once for all of them


async def test_a_run_that_the_quorum_finished_stays_finished(recipe: Path, tmp_path: Path) -> None:
    run = await run_once(recipe, tmp_path / "w", [])
    before = rows_of(tmp_path / "w", run.run_id)
    # As a process leaves it that was killed between its last row and its record.
    path = tmp_path / "w" / "runs" / f"{run.run_id}.json"
    record = json.loads(path.read_text(encoding="utf-8")) | {"finished_at": None}
    path.write_text(json.dumps(record), encoding="utf-8")
    again = await run_once(recipe, tmp_path / "w", [SOUND])
    assert (again.finished_at is not None, again.starts) == (True, 2)
    assert rows_of(tmp_path / "w", run.run_id) == before
    assert {**again.counts, "seconds": 0} == {**run.counts, "seconds": 0}
    assert again.engines["judge weak"]["calls"] == run.engines["judge weak"]["calls"]


async def test_more_than_the_quorum_failing_leaves_the_run_open_until_they_answer(recipe: Path, tmp_path: Path) -> None:
    everyone = ["judge.quorum=3"]
    broken = await run_once(recipe, tmp_path / "w", everyone)
    assert broken.finished_at is None
    assert broken.counts["open"] > 0
    labelled = {row.id: row for row in rows_of(tmp_path / "w", broken.run_id).values() if isinstance(row, Preference)}
    assert len(labelled) < 2 * PROMPTS
    assert all(label.votes_missing == 0 for label in labelled.values())
    mended = await run_once(recipe, tmp_path / "w", [*everyone, SOUND])
    assert mended.run_id == broken.run_id
    assert mended.finished_at
    assert mended.counts["votes_missing"] == 0
    clean = await run_once(recipe, tmp_path / "clean", [*everyone, SOUND])
    kept, whole = (rows_of(tmp_path / folder, clean.run_id) for folder in ("w", "clean"))
    assert {id: row for id, row in kept.items() if not isinstance(row, Failure)} == whole
    assert {id: kept[id] for id in labelled} == labelled


async def test_stopped_midway_no_vote_is_cast_twice_and_no_label_remade(recipe: Path, tmp_path: Path) -> None:
    slow = ["model.policy.latency_s=0.01", "model.jury.one.latency_s=0.01"]
    await stop_midway(recipe, tmp_path / "w", slow, prompts=10)
    [stopped] = Warehouse(tmp_path / "w").runs()
    part = rows_of(tmp_path / "w", stopped.run_id)
    assert any(isinstance(row, Preference) for row in part.values())
    done = await run_once(recipe, tmp_path / "w", [])
    whole = rows_of(tmp_path / "w", done.run_id)
    assert {id: whole[id] for id in part} == part
    store = Warehouse(tmp_path / "w")
    ids = [each.id for path in store.parts("prompts", done.run_id) for each in store.read_prompts(path)]
    assert sum(len(rows) for rows in store.rows_of(done.run_id, ids).values()) == len(whole)  # no id stands twice
    assert sum(isinstance(row, Preference) for row in whole.values()) == 2 * PROMPTS


async def test_record_view_and_engines_agree_on_each_judges_calls(recipe: Path, tmp_path: Path) -> None:
    run = await run_once(recipe, tmp_path / "w", ["judge.method=score", "prompts.limit=5", SOUND])
    query = (
        "SELECT stage, model, calls, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost FROM usage"
    )
    assert {Usage(*row) for row in table(tmp_path / "w", query)} == set(run.usage)
    votes = {one.model: one.calls for one in run.usage if one.stage == "vote"}
    assert votes == {name: run.engines[f"judge {name}"]["calls"] for name in ("one", "two.5", "weak")}
    assert votes["one"] == 2 * table(tmp_path / "w", "SELECT count(*) FROM judgements WHERE judge = 'one'")[0][0]


def test_provenance_names_the_model_of_each_vote_and_families_are_with_the_answers(
    ran: tuple[Path, Run, Run],
) -> None:
    folder, _, run = ran
    assert list(run.models) == ["policy", "judge one", "judge two.5", "judge weak"]
    votes = table(
        folder / "sound",
        "SELECT model, model_identity, count(*) FROM provenance((SELECT id FROM preferences WHERE kept LIMIT 1)) "
        "WHERE part = 'vote' GROUP BY ALL ORDER BY ALL",
    )
    assert [(model, count) for model, _, count in votes] == [("one", 4), ("two.5", 4), ("weak", 4)]
    assert all(json.loads(identity) == run.models[f"judge {model}"] for model, identity, _ in votes)
    assert len({identity for _, identity, _ in votes}) == 3
    families = table(folder / "sound", "SELECT DISTINCT kind, round, family FROM responses ORDER BY ALL")
    assert families == [("given", 0, "person"), ("given", 1, None), ("initial", 0, "fake"), ("revision", 1, "fake")]


def test_names_and_members_decide_the_run_and_prices_do_not(recipe: Path, tmp_path: Path) -> None:
    def run_id(*overrides: str) -> str:
        return prepare(load_recipe(recipe, overrides), recipe, tmp_path / "w").run_id

    ids = [
        run_id(),
        run_id("model.jury.other.engine=fake"),
        run_id("model.jury.one.position_bias=0.6"),
        run_id("model.policy.family=elsewhere"),
        run_id("judge.quorum=3"),
    ]
    recipe.write_text(RECIPE.replace("[model.jury.one]", "[model.jury.uno]"), encoding="utf-8")
    ids.append(run_id())
    assert len(set(ids)) == len(ids)
    recipe.write_text(RECIPE, encoding="utf-8")
    assert run_id("model.jury.one.price.input=1", "model.jury.one.latency_s=0.1") == ids[0]


def test_serve_prints_one_command_for_each_member_that_needs_its_own() -> None:
    def openai(model: str, port: int) -> dict[str, Any]:
        return {"engine": "openai", "model": model, "base_url": f"http://host:{port}/v1"}

    models = Models.model_validate(
        {
            "policy": openai("m", 1),
            "jury": {"a": openai("m", 1), "b": {**openai("n", 2), "family": "x"}, "c": openai("n", 2)},
        }
    )
    assert [remarks[0] for remarks, _ in servers(models)] == ["policy and judge a", "judge b and judge c"]


def test_faults_in_a_jury_are_told_by_its_name(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.jury\.one\.latensy_s: unknown field; did you mean latency_s"):
        load_recipe(recipe, ["model.jury.one.latensy_s=1"])
    with pytest.raises(RecipeError, match=r"quorum: more than there are judges"):
        load_recipe(recipe, ["judge.quorum=4"])


@pytest.mark.parametrize("section", ["jury", "judge"])
def test_judges_without_votes_are_refused(recipe: Path, tmp_path: Path, section: str) -> None:
    text = RECIPE.split("[judge]")[0]
    if section == "judge":
        text = text.split("[model.jury.one]")[0] + "[model.judge]\nengine = 'fake'\n"
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=rf"model\.{section}: there would be no votes"):
        prepare(load_recipe(recipe), recipe, tmp_path / "w")
    assert not (tmp_path / "w").exists()


# --- the quorum, pair by pair

SECTION = JudgeSection(pairs=("first-last",))


def voting(p_first: float) -> Completion:
    return said("", logprobs={"A": -(10**-p_first), "B": -2.0})


def failing(error: type[EngineError], name: str, principle: str = "by honest?") -> Scripted:
    """A judge that fails on one of the principles, both ways round."""

    def reply(request: Request) -> Completion | Exception:
        asked = request.messages[0].content
        return error("no") if principle in asked else voting(0.5)

    return Scripted(reply, name)


ANSWERS = (answer(0, "one answer"), answer(1, "another answer"))


@pytest.mark.parametrize(
    ("errors", "quorum", "labels", "told"),
    [
        ((EngineUnavailable, None, None), 2, 1, 0),  # two are enough
        ((EngineUnavailable, EngineUnavailable, None), 2, 0, 4),  # and one is not: a restart may bring the others
        ((RequestRefused, RequestRefused, None), 2, 1, 4),  # no vote can still come; what is lost is told
        ((RequestRefused, EngineUnavailable, None), 2, 0, 4),
        ((EngineUnavailable, EngineUnavailable, None), 1, 1, 0),
        ((RequestRefused, EngineUnavailable, EngineUnavailable), 3, 0, 6),
        ((EngineUnavailable,), 1, 0, 2),  # a judge alone is waited for
        ((RequestRefused,), 1, 1, 2),
    ],
)
async def test_a_pair_is_labelled_when_the_quorum_is_there_or_nobody_is_left_to_wait_for(
    errors: tuple[type[EngineError] | None, ...], quorum: int, labels: int, told: int
) -> None:
    engines = [
        failing(error, f"j{place}") if error else Scripted(lambda request: voting(0.5), f"j{place}")
        for place, error in enumerate(errors)
    ]
    voting_on, rows = labeller(SECTION, *engines, quorum=quorum), Rows()
    failures = await voting_on.label(prompt(), ANSWERS, {}, rows.put)
    found = [row for row in rows.all if isinstance(row, Preference)]
    assert (len(found), len(failures)) == (labels, told)
    broken = sum(error is not None for error in errors)
    assert sum(isinstance(row, Failure) for row in rows.all) == 2 * broken
    for label in found:
        assert (label.votes, label.votes_missing) == (6 * len(errors) - 2 * broken, 2 * broken)
    # A restart asks nobody for votes on a labelled pair, and says of it what was said before.
    asked = [len(engine.requests) for engine in engines]
    again = Rows()
    second = await voting_on.label(prompt(), ANSWERS, rows.have, again.put)
    assert {failure.id for failure in second} == {failure.id for failure in failures}
    if labels:
        assert again.all == []
        assert [len(engine.requests) for engine in engines] == asked
