"""Shards that resume, by other numbers too, that spend one budget, that stop together, and that lost what they made."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from adaptive_run import ADAPTIVE, PLANTED
from click.testing import CliRunner
from odd_server import OddServer
from odd_server import project as served
from run_once import stop_midway
from shard_runs import SMALL, rows, same, shards, the_run, whole
from small_project import small_project
from test_retry_failed import Small
from test_tournament import RECIPE as TOURNAMENT
from test_turns import RECIPE as TURNS
from test_turns import scripts

from constitution.cli import app
from constitution.pipeline import admission, open_run, session, state
from constitution.pipeline.dealing import dealt
from constitution.pipeline.shard import prepare_run, run_shard, stop_shards, work_shard
from constitution.records import Shard
from constitution.warehouse import Warehouse

SETTLED = ("judge.aggregate=dawid-skene", "judge.control=style")
SLOW = ("model.policy.latency_s=0.01",)


@pytest.mark.parametrize("kind", ["turns", "tournament", "adaptive", "settled"])
def test_rows_of_every_kind_are_those_of_the_whole_run(kind: str, tmp_path: Path) -> None:
    kinds: dict[str, tuple[str, Any]] = {
        "turns": (TURNS, scripts(6)),
        "tournament": (TOURNAMENT, 4),
        "adaptive": (PLANTED, 4),
        "settled": ("", 10),
    }
    text, prompts = kinds[kind]
    recipe = small_project(tmp_path, prompts, *([text] if text else []))
    more = (*SMALL, *{"adaptive": (ADAPTIVE,), "settled": SETTLED}.get(kind, ()))
    assert shards(recipe, tmp_path / "w", 3, more)[-1]["finished"]
    same(tmp_path / "w", whole(recipe, tmp_path / "whole", more))


async def _some(recipe: Path, warehouse: Path, shard: Shard, prompts: int) -> None:
    """A start of the shard that ends in good order after that number of prompts."""
    async with open_run(prepare_run(recipe, warehouse, SMALL), shard=shard) as at_work:
        await at_work.begin(at_work.plan.parts[: prompts // 2])


def test_resumed_in_other_numbers_and_as_a_whole_no_row_is_lost_or_doubled(tmp_path: Path) -> None:
    recipe, root = small_project(tmp_path, 40), tmp_path / "w"
    asyncio.run(stop_midway(recipe, root, list(SMALL), 8))
    begun = the_run(root)
    asyncio.run(_some(recipe, root, Shard(1, 3), 4))
    first = work_shard(str(recipe), str(root), 2, 3, overrides=SMALL)
    assert (first["done"], first["finished"]) == (True, None)
    assert first["left"][0].startswith("shard 1/3: 4 of 14 prompts, last seen ")
    assert first["left"][1] == "shard 3/3: not begun"
    dealt = Warehouse(root).shards(begun.run_id)
    assert [(each.number, each.of, each.starts) for each in dealt] == [(0, 3, 1), (1, 3, 1), (2, 3, 1)]
    assert dealt[0].seconds == begun.seconds
    [one, two] = shards(recipe, root, 2)
    assert (one["done"], two["done"], one["finished"] is None) == (True, True, True)
    same(root, whole(recipe, tmp_path / "whole"))
    run, records = the_run(root), Warehouse(root).shards(begun.run_id)
    assert (run.shards, run.starts, [each.number for each in records]) == (2, 3, [0, 1, 2])
    assert run.seconds == pytest.approx(sum(each.seconds for each in records), abs=0.01)
    assert run.engines["policy"]["calls"] >= sum(use.calls for use in run.usage if use.stage != "vote")


def test_a_run_of_shards_is_gone_on_with_as_a_whole(tmp_path: Path) -> None:
    recipe, root = small_project(tmp_path, 20), tmp_path / "w"
    work_shard(str(recipe), str(root), 2, 3, overrides=SMALL)
    of_shard = the_run(root).seconds
    same(whole(recipe, root), whole(recipe, tmp_path / "whole"))
    assert (the_run(root).shards, Warehouse(root).shards(the_run(root).run_id)) == (0, [])
    assert the_run(root).seconds > of_shard > 0
    assert the_run(root).starts == 2


def test_what_has_ended_loads_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, root = small_project(tmp_path, 20), tmp_path / "w"
    before = work_shard(str(recipe), str(root), 1, 2, overrides=SMALL)

    def no_model(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    with monkeypatch.context() as patch:
        patch.setattr(session, "open_engines", no_model)
        again = work_shard(str(recipe), str(root), 1, 2, overrides=SMALL)
    assert (again["done"], again["counts"], again["seconds"]) == (True, before["counts"], before["seconds"])
    assert work_shard(str(recipe), str(root), 2, 2, overrides=SMALL)["finished"]
    with monkeypatch.context() as patch:
        patch.setattr(session, "open_engines", no_model)
        assert [each["finished"] for each in shards(recipe, root, 2)] == [the_run(root).finished_at] * 2


def test_more_shards_than_slices(tmp_path: Path) -> None:
    recipe = small_project(tmp_path, 20)
    found = shards(recipe, tmp_path / "w", 5, ("output.slice=10",))
    assert sorted(each["counts"]["prompts"] for each in found) == [0, 0, 0, 10, 10]
    same(tmp_path / "w", whole(recipe, tmp_path / "whole", ("output.slice=10",)))


def test_what_an_ended_shard_lost_is_found_and_made_again(tmp_path: Path) -> None:
    recipe, root = small_project(tmp_path, 20), tmp_path / "w"
    run_id = work_shard(str(recipe), str(root), 1, 2, overrides=SMALL)["run_id"]
    Warehouse(root).parts("judgements", run_id)[1].unlink()
    two = work_shard(str(recipe), str(root), 2, 2, overrides=SMALL)
    assert (two["done"], two["finished"], len(two["left"])) == (True, None, 1)
    assert two["left"][0].startswith("shard 1/2: ")
    assert work_shard(str(recipe), str(root), 1, 2, overrides=SMALL)["finished"]
    same(root, whole(recipe, tmp_path / "whole"))
    assert the_run(root).repairs


async def _together(recipe: Path, root: Path, of: int, *overrides: str) -> list[dict[str, Any]]:
    plan = prepare_run(recipe, root, ("output.slice=5", *overrides))
    return list(await asyncio.gather(*(run_shard(plan, Shard(number, of)) for number in range(1, of + 1))))


def test_shards_spend_one_budget(tmp_path: Path) -> None:
    recipe, root = small_project(tmp_path, 100), tmp_path / "w"
    cost = the_run(whole(recipe, tmp_path / "whole", ("output.slice=5",))).cost
    assert cost is not None
    limit = 0.4 * cost
    found = asyncio.run(_together(recipe, root, 4, *SLOW, f"budget.limit={limit}"))
    stopped = the_run(root)
    assert stopped.cost is not None
    assert limit - 12 * cost / 100 < stopped.cost < limit + 8 * cost / 100  # as a run as a whole: its window is 8
    # A fast shard may come to the end of its prompts before the money does.
    assert {each["done"] or str(each["stopped"]).partition(":")[0] for each in found} in ({"budget"}, {"budget", True})
    assert stopped.stopped.startswith("budget: ")
    # The same again spends no more than is left, and a higher limit resumes it, in another number of shards.
    asyncio.run(_together(recipe, root, 4, *SLOW, f"budget.limit={limit}"))
    again = the_run(root).cost
    assert again is not None
    assert stopped.cost <= again < max(limit, stopped.cost) + 3 * cost / 100
    asyncio.run(_together(recipe, root, 2, f"budget.limit={2 * cost}"))
    same(root, tmp_path / "whole")
    assert the_run(root).cost == pytest.approx(cost, abs=1e-6)


def test_shards_stop_together_for_failures_and_when_they_are_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "HEARTBEAT", 0.05)
    monkeypatch.setattr(admission, "LEAST", 5)
    recipe, root = small_project(tmp_path, 400), tmp_path / "w"
    failing = ("output.slice=5", "model.judge.failure_rate=0.9", *SLOW)

    async def began(number: int, starts: int) -> None:
        warehouse, [run_id] = Warehouse(root), Warehouse(root).run_ids()
        while not ((found := warehouse.read_shard(run_id, Shard(number, 2))) and found.starts == starts):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def work(share: float) -> list[dict[str, Any]]:
        plans = [prepare_run(recipe, root, (*failing, f"output.stop_at_failures={each}")) for each in (share, 1.0)]
        second = asyncio.create_task(run_shard(plans[1], Shard(2, 2)))
        starts = 1 + (share == 1.0)
        await began(2, starts)  # what stopped a shard before it began does not stop it
        first = asyncio.create_task(run_shard(plans[0], Shard(1, 2)))
        if share == 1.0:
            await began(1, starts)
            stop_shards(str(root), plans[0].run_id, "enough")
        return list(await asyncio.gather(first, second))

    one, two = asyncio.run(work(0.01))
    assert str(one["stopped"]).startswith("failures: engines failed ")
    assert two["stopped"] == f"{one['stopped']} (shard 1/2)"
    # What stopped the last start does not stop this one.
    assert [each["stopped"] for each in asyncio.run(work(1.0))] == ["request: enough"] * 2
    assert the_run(root).stopped == "request: enough (shard 1/2)"


async def test_a_finished_run_is_opened_once_for_what_it_lost(tmp_path: Path) -> None:
    small = Small(3, 11)
    async with OddServer(small) as server:
        recipe, root = served(tmp_path / "p", "judge", server.base_url, 16), tmp_path / "w"

        async def work(retry_failed: bool) -> list[dict[str, Any]]:
            plan = prepare_run(recipe, root, SMALL)
            return [await run_shard(plan, Shard(number, 3), retry_failed) for number in (1, 2, 3)]

        await work(False)
        lost = the_run(root)
        assert (lost.counts["lost"], bool(lost.finished_at)) == (2, True)
        assert [bool(each["finished"]) for each in await work(False)] == [True] * 3
        small.things.clear()
        assert [bool(each["finished"]) for each in await work(True)] == [False, False, True]
    assert the_run(root).counts["lost"] == 0
    assert the_run(root).counts["votes_missing"] == 0 < lost.counts["votes_missing"]
    assert len(rows(root, "responses")) == the_run(root).counts["responses"]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_project(tmp_path, 10)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["run", str(recipe), "--set", "output.slice=2", *words])
        hint = getattr(result.exception, "hint", "")
        return result.exit_code, f"{result.output}{result.exception or ''}{hint}"

    for words, why in (
        (("--shard", "1/2", "--shards", "2"), "give one of --shard, --shards and --prepare"),
        (("--shard", "1/2", "--fresh"), "--prepare --fresh"),
        (("--shard", "1/2", "--prefect"), "flows/scale.py"),
        (("--shard", "3/2"), "there is no such shard"),
        (("--shards", "10001"), "not in the range 1<=x<=10000"),
        (("--flow", str(Path(__file__).parents[1] / "flows" / "scale.py")), "prefect deployment run"),
    ):
        code, output = run(*words)
        assert (code != 0, why in output) == (True, True), output
    code, output = run("--prepare")
    [run_id] = Warehouse(tmp_path / "warehouse").run_ids()
    assert (code, output.strip()) == (0, run_id)
    code, output = run("--shard", "2/2", "--resume", run_id)
    assert (code, "shard 2/2: finished" in output, "Shard 1/2: not begun" in output) == (0, True, True)
    code, output = run("--shard", "1/2", "--resume", run_id)
    assert (code, "The run finished on " in output) == (0, True), output
    assert run("--shards", "2") == (0, run("--shards", "2")[1])

    code, output = run("--limit", "2", "--prepare")
    alone = output.strip()
    empty = next(
        Shard(n, 2) for n in (1, 2) if not dealt(alone, Warehouse(tmp_path / "warehouse").slices(alone), Shard(n, 2))
    )
    code, output = run("--shard", str(empty), "--resume", alone)
    assert (code, "No slice of the prompts is dealt to it" in output) == (0, True), output
    code, output = run("--limit", "2", "--shards", "2")
    assert (code, "The 2 prompts are in 1 slice, so 1 of the shards have nothing to do" in output) == (0, True), output
    code, output = run("--limit", "7", "--shards", "6")
    assert (code, "6 of the shards" in output, "--set output.slice=1 makes" in output) == (0, False, True), output
