"""Runs with adaptive votes that are killed, or whose judges fail: the same votes are asked for, and none is lost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from adaptive_run import ADAPTIVE, JURY, PLANTED, SOUND, reopened
from pipeline_run import rows_of
from run_once import run_once, stop_midway
from small_project import small_project, table

from constitution.engines import Completion, Engine, Request
from constitution.engines.fake import FakeEngine
from constitution.errors import ContextTooLong
from constitution.pipeline import open_run, prepare
from constitution.recipe import FakeModel, load_recipe
from constitution.records import Failure, Judgement, Preference, Run
from constitution.warehouse import Warehouse


async def test_a_resumed_run_asks_for_the_same_votes(tmp_path: Path) -> None:
    recipe = small_project(tmp_path, 30, PLANTED)
    slow = ["model.judge.latency_s=0.002", "output.window=8", "output.flush_seconds=0.01", ADAPTIVE]
    for prompts in (3, 9, 17):
        await stop_midway(recipe, tmp_path / "w", slow, prompts)
    run = await run_once(recipe, tmp_path / "w", slow)
    clean = await run_once(recipe, tmp_path / "clean", [ADAPTIVE])
    assert run.run_id == clean.run_id
    assert run.counts["votes_spared"] > 0
    assert rows_of(tmp_path / "w", run.run_id) == rows_of(tmp_path / "clean", run.run_id)
    assert {**run.counts} == {**clean.counts}


@pytest.mark.parametrize("kept", [0, 1, 2])
async def test_killed_in_the_middle_of_any_wave_it_asks_for_the_rest(tmp_path: Path, kept: int) -> None:
    """Of every pair the votes of `kept` waves are there, and some of the next."""
    recipe, root = small_project(tmp_path, 20, PLANTED), tmp_path / "w"
    run = await run_once(recipe, root, [ADAPTIVE])
    clean = rows_of(root, run.run_id)
    warehouse = Warehouse(root)
    votes, labels = (warehouse.table(name, run.run_id) for name in ("judgements", "preferences"))
    some = [
        wave < kept or (wave == kept and int(id, 16) % 3 == 0)
        for wave, id in zip(votes["wave"].to_pylist(), votes["id"].to_pylist(), strict=True)
    ]
    assert 0 < sum(some) < len(votes)
    warehouse.replace_rows("judgements", run.run_id, votes.filter(some))
    warehouse.replace_rows("preferences", run.run_id, labels.slice(0, 0))
    reopened(root, run)
    again = await run_once(recipe, root, [ADAPTIVE])
    assert again.finished_at
    assert rows_of(root, run.run_id) == clean


async def test_what_a_start_has_asked_for_counts_though_less_would_have_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Votes of a later wave are there: those of a start that had less to decide by."""
    recipe, root = small_project(tmp_path, 20, PLANTED), tmp_path / "w"
    run = await run_once(recipe, root, [ADAPTIVE])
    rows = rows_of(root, run.run_id)
    warehouse = Warehouse(root)
    warehouse.replace_rows("preferences", run.run_id, warehouse.table("preferences", run.run_id).slice(0, 0))
    reopened(root, run)
    monkeypatch.setattr("constitution.labels.adaptive.change", lambda *_: 0.0)
    await run_once(recipe, root, [ADAPTIVE])
    assert rows_of(root, run.run_id) == rows


def counted(root: Path, run_id: str) -> None:
    """Every judge is asked for the same, and what it is asked for is a vote, or missing."""
    rows = rows_of(root, run_id, failures=True).values()
    labels = [row for row in rows if isinstance(row, Preference) and row.votes + row.votes_missing]
    votes = [row for row in rows if isinstance(row, Judgement)]
    failed = {row.id for row in rows if isinstance(row, Failure) and row.step == "vote"}
    asked = table(root, 'SELECT judge, asked, "cast", missing FROM missing_votes ORDER BY judge')
    assert [judge for judge, *_ in asked] == ["one", "two", "weak"]
    for judge, all_, cast, missing in asked:
        assert cast == sum(vote.judge == judge for vote in votes)
        assert missing == (len(failed) if judge == "weak" else 0) == all_ - cast
    assert sum(label.votes + label.votes_missing for label in labels) == sum(row[1] for row in asked)


async def test_a_judge_of_three_that_fails_half_the_time(tmp_path: Path) -> None:
    recipe, root = small_project(tmp_path, 24, JURY), tmp_path / "w"
    run = await run_once(recipe, root, [ADAPTIVE, "model.jury.one.model=one", "perturb.share=0.2"])
    assert run.finished_at
    assert run.counts["votes_missing"] > 0
    counted(root, run.run_id)
    whole = {row.votes + row.votes_missing + row.votes_spared for row in rows_of(root, run.run_id).values()
             if isinstance(row, Preference)}  # fmt: skip
    assert whole == {0, 3 * 32}
    assert run.counts["votes_spared"] > 0
    # Votes that no label waits for are not asked for again, and its prompts stay finished.
    reopened(root, run)
    before = rows_of(root, run.run_id, failures=True)
    again = await run_once(recipe, root, [ADAPTIVE, "model.jury.one.model=one", "perturb.share=0.2", SOUND])
    assert again.finished_at
    assert rows_of(root, run.run_id, failures=True) == before


async def test_a_wave_that_a_judge_has_failed_is_waited_for(tmp_path: Path) -> None:
    """And then the votes are those of a run in which none failed."""
    recipe, root = small_project(tmp_path, 12, JURY), tmp_path / "w"
    strict = [ADAPTIVE, "model.jury.one.model=one", "judge.quorum=3", "output.stop_at_failures=1"]
    broken = await run_once(recipe, root, strict)
    assert broken.finished_at is None
    waves = [row.wave for row in rows_of(root, broken.run_id).values() if isinstance(row, Judgement)]
    mended = await run_once(recipe, root, [*strict, SOUND])
    assert mended.finished_at
    clean = await run_once(recipe, tmp_path / "clean", [*strict, SOUND])
    assert rows_of(root, mended.run_id) == rows_of(tmp_path / "clean", clean.run_id)
    assert max(waves) < max(row.wave for row in rows_of(root, mended.run_id).values() if isinstance(row, Judgement)), (
        "no wave before the one that failed was whole"
    )
    assert mended.counts["votes_missing"] == 0


class Blind(Engine):
    """A judge whose context is too small for a third of the prompts when it is asked for some word."""

    def __init__(self, word: str | None) -> None:
        self.word = word
        self._sound = FakeEngine(FakeModel(engine="fake", model="blind", noise=6.0))

    @property
    def model(self) -> str:
        return "blind"

    def describe(self) -> Mapping[str, str]:
        return {"name": "blind", "engine": "blind"}

    async def generate(self, request: Request) -> Completion:
        said = any(self.word in turn.content for turn in request.messages) if self.word is not None else False
        if said and int(request.affinity, 16) % 3 == 0:
            raise ContextTooLong("blind: the prompt has more tokens than the model takes")
        return await self._sound.generate(request)


async def judged(recipe: Path, root: Path, word: str | None, retry_failed: bool = False) -> Run:
    loaded = load_recipe(recipe, [ADAPTIVE, "output.stop_at_failures=1"]).with_engines({"judge": Blind(word)})
    async with open_run(prepare(loaded, recipe, root), retry_failed) as session:
        await session.walk()
        return await session.finish()


@pytest.mark.parametrize("word", ["", "dodging", " person "])
async def test_what_failed_for_good_is_tried_again(tmp_path: Path, word: str) -> None:
    recipe, root = small_project(tmp_path, 16, PLANTED), tmp_path / "w"
    before = await judged(recipe, root, word)
    assert before.finished_at
    assert before.counts["votes_missing"] > 0
    whole(root)
    done = await judged(recipe, root, None, retry_failed=True)
    clean = await judged(recipe, tmp_path / "clean", None)
    assert done.finished_at
    assert (done.counts["lost"], done.counts["votes_missing"]) == (0, 0)
    whole(root)
    ours, theirs = (rows_of(where, done.run_id) for where in (root, tmp_path / "clean"))
    if word:  # a start that had less to decide by may have asked for more
        votes = {id: row for id, row in theirs.items() if isinstance(row, Judgement)}
        assert votes.items() <= ours.items()
    else:
        assert ours == theirs
        assert {**done.counts, "failures": 0} == {**clean.counts, "failures": 0}


def whole(root: Path) -> None:
    """Every vote that was asked for has a row, or is missing, and all that might be are asked for or spared."""
    query = """
        SELECT count(DISTINCT p.votes + p.votes_missing + p.votes_spared),
            sum(p.votes_spared) > 0
        FROM preferences AS p WHERE p.votes + p.votes_missing > 0"""
    [(grids, spared)] = table(root, query)
    assert (grids, spared) == (1, True)
    assert table(root, 'SELECT asked - "cast" - missing FROM missing_votes') == [(0,)]
