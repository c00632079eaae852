"""Tournaments among a prompt's samples: whole runs, what becomes of them where votes fail, and kills at every row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from pipeline_run import rows_of
from run_once import run_once, stop_midway
from small_project import small_project, table

from constitution.engines import Completion, Engine, Request, open_engines
from constitution.errors import EngineUnavailable, RecipeError, RequestRefused
from constitution.pipeline import open_run, prepare
from constitution.pipeline.label import labeller
from constitution.recipe import Recipe, load_recipe
from constitution.records import Failure, Preference, Response, Reward, Row, Run
from constitution.warehouse import Warehouse

RECIPE = """
name = "tournament"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
model = "fake-judge"
noise = 6
[sample.plain]
n = 7
[judge]
principles = 2
pairs = ["tournament"]
[output]
window = 4
flush_rows = 20
flush_seconds = 0.05
"""
JURY = RECIPE.replace("[model.judge]", '[model.jury.one]\nengine = "fake"\n[model.jury.two]')
STANDINGS = "SELECT * EXCLUDE created_at FROM rewards ORDER BY ALL"


class Policy(Engine):
    """Answers of a quality that follows from the seed."""

    model = "policy"

    async def generate(self, request: Request) -> Completion:
        return Completion(f"quality {request.seed}", "stop", 3, 2)


class Judge(Engine):
    """Prefers the better quality, the surer the further they are apart, and fails what it is told to. In qualities of
    seeds, which are below 2^31, the whole range is eight log-odds."""

    model = "judge"

    def __init__(self, fails: Callable[[Sequence[int]], Exception | None] = lambda shown: None) -> None:
        self.fails = fails
        self.asked: list[tuple[int, ...]] = []

    async def generate(self, request: Request) -> Completion:
        said = "\n".join(turn.content for turn in request.messages)
        shown = [int(found) for found in re.findall(r"quality (\d+)", said)][-2:]
        self.asked.append(tuple(sorted(shown)))
        if error := self.fails(shown):
            raise error
        p = 1 / (1 + math.exp((shown[1] - shown[0]) / 2**28))
        probabilities = dict(zip(request.choices, (0.98 * p, 0.98 * (1 - p)), strict=True))
        return Completion("", "length", 10, 1, choice_logprobs={name: math.log(q) for name, q in probabilities.items()})


async def judged(path: Path, judge: Judge, *overrides: str, retry: bool = False) -> Run:
    recipe = load_recipe(path, overrides).with_engines({"policy": Policy(), "judge": judge})
    async with open_run(prepare(recipe, path, path.parent / "w"), retry) as session:
        await session.walk()
        return await session.finish()


def rounds_of_prompt(rows: Iterable[Row]) -> list[set[frozenset[str]]]:
    """The stored pairs by round: the first that its two have not been in yet."""
    found: list[set[frozenset[str]]] = []
    for row in rows:
        if isinstance(row, Preference):
            met = {row.a_id, row.b_id}
            place = next((n for n, those in enumerate(found) if not any(met & each for each in those)), len(found))
            if place == len(found):
                found.append(set())
            found[place].add(frozenset(met))
    return found


async def test_a_run_of_it_finds_the_best_with_half_of_the_pairs(tmp_path: Path) -> None:
    path = small_project(tmp_path, 12, RECIPE.replace("n = 7", "n = 8"))
    run = await judged(path, Judge())
    assert run.finished_at
    pairs = table(
        tmp_path / "w", "SELECT kind, prompt_id, count(*), count(DISTINCT (a_id, b_id)) FROM preferences GROUP BY ALL"
    )
    assert {(kind, *counts) for kind, _, *counts in pairs} == {("tournament", 16, 16)}  # four rounds of four
    assert table(tmp_path / "w", "SELECT DISTINCT state, pairs_missing FROM chains") == [("complete", [])]
    met = "SELECT id, count(*) FROM (SELECT unnest([a_id, b_id]) AS id FROM preferences) GROUP BY ALL"
    assert {count for _, count in table(tmp_path / "w", met)} == {4}
    stood = table(
        tmp_path / "w",
        "SELECT source, count(*), min(readings), max(missing), bool_and(low < value AND value < high) FROM rewards "
        "GROUP BY ALL",
    )
    assert stood == [("votes", 96, 4, 0, True)]
    best = """
        SELECT count(*) FILTER (r.text = b.text) FROM groups AS g JOIN responses AS r ON r.id = best_id
        JOIN (SELECT prompt_id, arg_max(text, text[9:]::BIGINT) AS text FROM responses GROUP BY ALL) AS b
            ON b.prompt_id = g.prompt_id
        WHERE source = 'votes'"""
    [(found,)] = table(tmp_path / "w", best)
    assert found >= 11
    # Centred, and beating the others is shared out among all.
    each = "SELECT sum(raw) AS r, sum(value) AS v FROM rewards GROUP BY prompt_id"
    sums = f"SELECT max(abs(r)), max(abs(v - 4)) FROM ({each})"
    assert table(tmp_path / "w", sums) == [(pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))]


async def test_the_first_round_is_drawn_and_the_others_follow_from_labels(tmp_path: Path) -> None:
    path = small_project(tmp_path, 8, RECIPE)
    run = await run_once(path, tmp_path / "w", [])
    rows = Warehouse(tmp_path / "w")
    prompts = [prompt.id for part in rows.parts("prompts", run.run_id) for prompt in rows.read_prompts(part)]
    firsts = set()
    for own in rows.rows_of(run.run_id, prompts).values():
        labels = {(row.a_id, row.b_id): row for row in own if isinstance(row, Preference)}
        samples = sorted((row for row in own if isinstance(row, Response)), key=lambda row: row.round)
        place = {row.id: row.round for row in samples}
        assert all(place[a] < place[b] for a, b in labels)
        rounds = rounds_of_prompt(own)
        firsts.add(tuple(sorted(tuple(sorted(place[id] for id in pair)) for pair in rounds[0])))
    assert len(firsts) > 4
    again = await run_once(path, tmp_path / "other", ["seed=2"])
    first = "SELECT a_id FROM preferences"
    assert again.run_id != run.run_id
    assert len(table(tmp_path / "other", first)) == pytest.approx(len(table(tmp_path / "w", first)), abs=6)


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [(RECIPE, []), (RECIPE, ["judge.votes=adaptive", "judge.principles=all", "judge.sure=0.8"]), (JURY, [])],
)
async def test_killed_at_every_row_it_ends_the_same(tmp_path: Path, recipe: str, overrides: list[str]) -> None:
    """By the labeller alone, with what it had emitted up to the kill."""
    path = small_project(tmp_path, 1, recipe.replace("n = 7", "n = 5"))
    run = await run_once(path, tmp_path / "w", overrides)
    store, loaded = Warehouse(tmp_path / "w"), load_recipe(path, overrides)
    [prompt] = [prompt for part in store.parts("prompts", run.run_id) for prompt in store.read_prompts(part)]
    stored = rows_of(tmp_path / "w", run.run_id)
    answers = [row for row in stored.values() if isinstance(row, Response)]

    async def made(before: Sequence[Row]) -> list[Row]:
        have = {row.id: row for row in (*answers, *before)}
        emitted: list[Row] = list(before)

        async def emit(rows: Sequence[Row]) -> None:
            emitted.extend(rows)
            have.update({row.id: row for row in rows})

        assert not await _labelled(loaded, store, run, prompt.id, have, emit)
        return emitted

    whole = await made([])
    assert {row.id: row for row in whole} | {answer.id: answer for answer in answers} == stored
    assert sum(isinstance(row, Preference) for row in whole) == 8  # four rounds, and one of five sits out
    for kept in range(0, len(whole), 1 if len(whole) < 80 else 7):
        again = await made(whole[:kept])
        assert len(again) == len(whole)
        assert {row.id: row for row in again} == {row.id: row for row in whole}


async def _labelled(
    recipe: Recipe, store: Warehouse, run: Run, prompt_id: str, have: dict[str, Row], emit: object
) -> list[Failure]:
    constitution = store.read_principles(run.run_id)
    assert constitution is not None
    async with open_engines(recipe.model, answers=True) as engines:
        made = labeller(recipe, constitution, run, engines.judges)
        assert made is not None
        [prompt] = [
            p for part in store.parts("prompts", run.run_id) for p in store.read_prompts(part) if p.id == prompt_id
        ]
        answers = [row for row in have.values() if isinstance(row, Response)]
        return await made.label(prompt, answers, have, emit)  # type: ignore[arg-type]


async def test_a_run_that_was_stopped_goes_through_the_same_rounds(tmp_path: Path) -> None:
    path = small_project(tmp_path, 9, RECIPE)
    slow = ["model.judge.latency_s=0.002", "output.flush_seconds=0.01"]
    for prompts in (2, 5):
        await stop_midway(path, tmp_path / "w", slow, prompts)
    run = await run_once(path, tmp_path / "w", slow)
    clean = await run_once(path, tmp_path / "clean", [])
    assert rows_of(tmp_path / "w", run.run_id) == rows_of(tmp_path / "clean", clean.run_id)
    assert {**run.counts} == {**clean.counts}


async def test_a_label_that_may_still_come_holds_the_next_round(tmp_path: Path) -> None:
    path = small_project(tmp_path, 3, RECIPE.replace("n = 7", "n = 8"))
    clean = await judged(path, Judge())
    rows = rows_of(tmp_path / "w", clean.run_id)
    (tmp_path / "w").rename(tmp_path / "clean")
    judge = Judge(lambda shown: EngineUnavailable("away") if tuple(sorted(shown)) == judge.asked[0] else None)
    open_ = await judged(path, judge, "output.stop_at_failures=1")
    assert open_.finished_at is None
    states = table(tmp_path / "w", "SELECT state, count(*) FROM chains GROUP BY ALL ORDER BY ALL")
    assert states == [("complete", 2), ("open", 1)]
    held = "SELECT count(*) FROM preferences JOIN chains USING (prompt_id) WHERE state = 'open'"
    assert table(tmp_path / "w", held) == [(3,)]  # of the first round alone
    assert table(tmp_path / "w", "SELECT count(*) FROM rewards JOIN chains USING (prompt_id) WHERE state = 'open'") == [
        (0,)
    ]
    again = await judged(path, Judge(), "output.stop_at_failures=1")
    assert again.finished_at
    assert rows_of(tmp_path / "w", again.run_id) == rows


async def test_a_pair_that_failed_for_good_says_nothing_and_blocks_nothing(tmp_path: Path) -> None:
    path = small_project(tmp_path, 6, RECIPE.replace("n = 7", "n = 8"))
    run = await judged(
        path, Judge(lambda shown: RequestRefused("no") if sum(shown) % 5 == 0 else None), "output.stop_at_failures=1"
    )
    assert run.finished_at
    assert run.counts["lost"] > 0
    assert {n for _, n in table(tmp_path / "w", "SELECT prompt_id, count(*) FROM preferences GROUP BY ALL")} == {16}
    [(lost, stood)] = table(tmp_path / "w", "SELECT count(*) FILTER (p_b IS NULL), count(*) FROM preferences")
    assert 0 < lost < stood
    assert table(tmp_path / "w", "SELECT sum(readings), sum(missing) FROM rewards") == [(2 * (stood - lost), 2 * lost)]
    assert table(tmp_path / "w", "SELECT count(*) FROM rewards WHERE value IS NULL AND readings > 0") == [(0,)]
    assert table(tmp_path / "w", "SELECT DISTINCT state FROM chains") == [("complete",)]
    # What failed is tried again, and the rounds follow from all labels.
    again = await judged(path, Judge(), "output.stop_at_failures=1", retry=True)
    assert again.finished_at
    assert table(tmp_path / "w", "SELECT count(*), sum(missing) FROM rewards") == [(48, 0)]


async def test_equal_texts_stand_alike_and_one_without_text_says_so(tmp_path: Path) -> None:
    class Some(Policy):
        async def generate(self, request: Request) -> Completion:
            return Completion(
                ("", "quality 1", "quality 500000000", "quality 900000000")[request.seed % 4], "stop", 3, 2
            )

    path = small_project(tmp_path, 12, RECIPE)
    recipe = load_recipe(path).with_engines({"policy": Some(), "judge": Judge()})
    async with open_run(prepare(recipe, path, tmp_path / "w")) as session:
        await session.walk()
        assert (await session.finish()).finished_at
    assert table(tmp_path / "w", "SELECT DISTINCT state FROM chains") == [("complete",)]
    assert table(tmp_path / "w", "SELECT count(*) FROM rewards") == [(12 * 7,)]
    same = """SELECT max(n), max(values) FROM (SELECT count(*) AS n, count(DISTINCT (value, raw, low, high, readings))
        AS values FROM rewards AS w JOIN responses AS r ON r.id = response_id GROUP BY w.prompt_id, text)"""
    [(n, values)] = table(tmp_path / "w", same)
    assert n > 1
    assert values == 1
    silent = (
        "SELECT DISTINCT value, readings, reason FROM rewards JOIN responses AS r ON r.id = response_id WHERE text = ''"
    )
    assert table(tmp_path / "w", silent) == [(None, 0, "no-text")]
    best = "SELECT count(*) FROM groups JOIN responses AS r ON r.id = best_id WHERE text = 'quality 900000000'"
    there = "SELECT count(DISTINCT prompt_id) FROM responses WHERE text = 'quality 900000000'"
    assert table(tmp_path / "w", best) == table(tmp_path / "w", there)


@pytest.mark.parametrize("name", ["preferences", "rewards", "responses"])
async def test_what_is_damaged_is_made_again(tmp_path: Path, name: str) -> None:
    path = small_project(tmp_path, 3, RECIPE)
    run = await run_once(path, tmp_path / "w", [])
    rows, warehouse = rows_of(tmp_path / "w", run.run_id), Warehouse(tmp_path / "w")
    [part] = warehouse.parts(name, run.run_id)
    part.write_bytes(part.read_bytes()[:-9] + b"otherwise")
    with warehouse.lock(run.run_id):
        assert warehouse.repair(run.run_id)
    assert not any(isinstance(row, Reward) for row in rows_of(tmp_path / "w", run.run_id).values())
    await run_once(path, tmp_path / "w", [])
    assert rows_of(tmp_path / "w", run.run_id) == rows


async def test_all_pairs_stand_too(tmp_path: Path) -> None:
    path = small_project(tmp_path, 3, RECIPE.replace('"tournament"', '"all"').replace("n = 7", "n = 4"))
    await judged(path, Judge())
    assert table(tmp_path / "w", "SELECT DISTINCT source, readings FROM rewards") == [("votes", 3)]
    order = """SELECT count(*) FROM rewards AS x JOIN responses AS p ON p.id = x.response_id
        JOIN rewards AS y ON y.prompt_id = x.prompt_id JOIN responses AS q ON q.id = y.response_id
        WHERE x.value > y.value AND p.text[9:]::BIGINT < q.text[9:]::BIGINT"""
    assert table(tmp_path / "w", order) == [(0,)]


async def test_of_all_pairs_one_that_is_open_leaves_its_prompt_open(tmp_path: Path) -> None:
    text = RECIPE.replace('["tournament"]', '["best-worst", "all"]').replace("n = 7", "n = 4")
    rewards = """
[reward]
by = ["rule"]
rules = { wanted = ["[02468]$"] }
"""
    path = small_project(tmp_path, 2, text + rewards)
    met: list[Sequence[int]] = []

    def fails(shown: Sequence[int]) -> Exception | None:
        met.append(sorted(shown))
        return EngineUnavailable("away") if met[-1] == met[0] else None

    run = await judged(path, Judge(fails), "output.stop_at_failures=1.0")
    assert run.counts["open"] == 1
    states = "SELECT state, pairs_missing, pairs FROM chains ORDER BY ALL"
    assert table(tmp_path / "w", states) == [("complete", [], 6), ("open", ["all"], 5)]
    await judged(path, Judge(), "output.stop_at_failures=1.0")
    assert table(tmp_path / "w", states) == [("complete", [], 6)] * 2


async def test_beside_pairs_of_other_kinds_no_two_are_compared_twice(tmp_path: Path) -> None:
    two = """[sample.plain]
n = 3
[sample.kind]
n = 3
[reward]
by = ["rubric"]
"""
    kinds = 'pairs = ["best-worst", "contrast", "tournament"]\ncontrast = ["plain", "kind"]'
    text = RECIPE.replace("[sample.plain]\nn = 7\n", two).replace('pairs = ["tournament"]', kinds)
    path = small_project(tmp_path, 4, text.replace("general@1.1.0", "general@1.2.0"))
    run = await run_once(path, tmp_path / "w", ["judge.tournament.rounds=9"])
    labels = [row for row in rows_of(tmp_path / "w", run.run_id).values() if isinstance(row, Preference)]
    assert {row.kind for row in labels} == {"contrast", "best-worst", "tournament"}
    assert len(labels) == len({frozenset((row.a_id, row.b_id)) for row in labels})
    # Nine rounds are more than there are: every text has met every other.
    met = """SELECT p.prompt_id, count(DISTINCT (least(a.text, b.text), greatest(a.text, b.text))) FROM preferences AS p
        JOIN responses AS a ON a.id = a_id JOIN responses AS b ON b.id = b_id WHERE a.text <> b.text GROUP BY ALL"""
    texts = "SELECT prompt_id, count(DISTINCT text) AS n, n * (n - 1) // 2 FROM responses GROUP BY ALL"
    found = dict(table(tmp_path / "w", met))
    assert found == {id: pairs for id, _, pairs in table(tmp_path / "w", texts)}
    stood = "SELECT source, count(value), max(readings) FROM rewards GROUP BY ALL ORDER BY ALL"
    assert table(tmp_path / "w", stood)[1][:2] == ("votes", 24)
    assert table(tmp_path / "w", "SELECT DISTINCT state FROM chains") == [("complete",)]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("n = 7", "n = 1", "tournament needs two samples or more"),
        ('["tournament"]', '["tournament", "all"]', "all has every pair of a tournament"),
        ("principles = 2", "principles = 2\ntournament = { rounds = 0 }", "rounds"),
        ("[judge]", '[reward]\nby = ["votes"]\n[judge]', "reward.by"),
        ("principles = 2", 'confirm = "reward"', "a tournament goes by votes"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, before: str, after: str, said: str) -> None:
    path = small_project(tmp_path, 1, RECIPE.replace(before, after))
    with pytest.raises(RecipeError, match=said):
        load_recipe(path)
