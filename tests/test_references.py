"""References: where they come from, what is read of them, and what nothing is made from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from best_runs import Killed, Speaks, killed_after
from hypothesis import given
from hypothesis import strategies as st
from run_once import run_once
from small_project import table
from test_rewards import CONSTITUTION

from constitution.ask.replay import replayed
from constitution.ask.stored import Stored
from constitution.engines.base import Completion, Engine, Request
from constitution.errors import EngineError, EngineUnavailable, RecipeError, RequestRefused
from constitution.generate.reference import whole
from constitution.judge.agreement import agreement
from constitution.judge.extract import Extract
from constitution.judge.reference import Check, reference_of
from constitution.judge.reward import Reading
from constitution.judge.sources import Item
from constitution.pipeline import open_run, prepare
from constitution.recipe import ReferenceSection, load_recipe
from constitution.records import Failure, Response, Run, Score
from constitution.warehouse import Warehouse, ask, connect

RECIPE = """
name = "references"
constitution = "rewards@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
model = "fake-judge"
[sample.plain]
n = 3
[revise]
rounds = 2
[reference]
from = "revision"
[reward]
by = ["rule"]
rules = { words = [3, 60] }
[output]
window = 4
flush_seconds = 0.05
"""
CHECKED = "SELECT source, agrees, majority, readings, missing, least, principle_id, drop_reason FROM reference_checks"
TABLES = ("responses", "scores", "reference_checks", "rewards", "failures")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "principles" / "rewards").mkdir(parents=True)
    (tmp_path / "principles" / "rewards" / "1.0.0.toml").write_text(CONSTITUTION, encoding="utf-8")
    rows = [{"prompt": f"How does thing {n} work?", "truth": f"Like thing {n}."} for n in range(6)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


class Reads(Engine):
    """Says yes with this probability to each question, by a part of its words."""

    model = "judge"

    def __init__(self, *, said: Mapping[str, float] | None = None, fails: Mapping[str, EngineError] | None = None):
        self.said, self.fails, self.asked = said or {}, fails or {}, list[Request]()

    async def generate(self, request: Request) -> Completion:
        self.asked.append(request)
        shown = request.messages[0].content
        for words, error in self.fails.items():
            if words in shown:
                raise error
        p = next((p for words, p in self.said.items() if words in shown), 0.1 if "rude" in shown else 0.9)
        found = dict(zip(request.choices, (math.log(p), math.log(1 - p)), strict=True))
        return Completion("", "length", 10, 1, choice_logprobs=found)


async def worked(project: Path, policy: Engine, judge: Engine, *overrides: str, retry: bool = False) -> Run:
    """A run of the first prompt by these engines."""
    path = project / "recipe.toml"
    recipe = load_recipe(path, ["prompts.limit=1", "output.stop_at_failures=1.0", *overrides])
    plan = prepare(recipe.with_engines({"policy": policy, "judge": judge}), path, project / "w")
    async with open_run(plan, retry) as session:
        await session.walk()
        return await session.finish()


def rows_of(root: Path) -> list[list[tuple[Any, ...]]]:
    with connect(root) as connection:
        return [
            list(ask(connection, f"SELECT * EXCLUDE (created_at, run_id) FROM {name} ORDER BY id").rows)
            for name in TABLES
        ]


async def test_the_last_revision_is_the_reference_and_no_answer(project: Path) -> None:
    run = await run_once(project / "recipe.toml", project / "w", [])
    assert run.finished_at
    taken = """
        SELECT count(*), bool_and(r.text = p.text AND p.kind = 'revision' AND r.calls = 0 AND r.outcome = 'unchanged')
        FROM responses AS r JOIN responses AS p ON p.id = r.parent_id WHERE r.kind = 'reference' AND p.round = 2"""
    assert table(project / "w", taken) == [(6, True)]
    assert (run.counts["reference_checks"], run.counts["scores"]) == (6, 18)
    # No pair, reward, group, export or view of answers has it.
    assert table(project / "w", "SELECT count(*) FROM answers WHERE kind = 'reference'") == [(0,)]
    assert table(project / "w", "SELECT DISTINCT state, responses, rewards FROM chains") == [("complete", 6, 6)]
    apart = "FROM rewards SEMI JOIN (FROM responses WHERE kind = 'reference') AS r ON r.id = response_id"
    assert table(project / "w", apart) == []
    by_hand = """
        SELECT count(*), bool_and(c.least = s.least), bool_and(c.readings = 3), bool_and((c.least < 0.5) = (NOT v.kept))
        FROM reference_checks AS c JOIN checked_references AS v USING (response_id) JOIN (
            SELECT response_id, min(CASE good WHEN 'yes' THEN p_yes ELSE 1 - p_yes END) AS least
            FROM scores WHERE metric = 'reference' GROUP BY ALL
        ) AS s USING (response_id)"""
    assert table(project / "w", by_hand) == [(6, True, True, True)]
    assert [used.stage for used in run.usage][-1] == "reward-reference"


async def test_one_that_breaks_a_criterion_is_dropped_with_the_worst(project: Path) -> None:
    run = await worked(project, Speaks(), Reads(said={"brief?": 0.2, "rude?": 0.4}))
    assert run.finished_at
    assert table(project / "w", CHECKED) == [("revision", None, None, 3, 0, pytest.approx(0.2), "brief", "breaks")]
    assert run.counts["references_dropped"] == 1


async def test_what_was_asked_of_it_is_shown_again(project: Path) -> None:
    run = await run_once(project / "recipe.toml", project / "w", ["prompts.limit=1"])
    [(prompt_id,)] = table(project / "w", "SELECT id FROM prompts")
    stored = Stored.load(Warehouse(project / "w"), run.run_id, prompt_id)
    [reference] = [row for row in stored.responses if row.kind == "reference"]
    assert (await replayed(stored, reference)).note == "it is the text of another answer: no model was asked for it"
    scores = [row for row in stored.rows.values() if isinstance(row, Score)]
    assert len(scores) == 3
    for row in scores:
        [exchange] = (await replayed(stored, row)).exchanges
        assert row.question in exchange.messages[0].content
        assert reference.text in exchange.messages[0].content


@pytest.mark.parametrize(
    ("said", "over", "left"),
    [
        ({}, (), (3, 0, 0.9, "kind", None)),
        ({"rude?": 0.6}, (), (3, 0, 0.4, "kind", "breaks")),
        ({"rude?": 0.6}, ("reference.bar=0.3",), (3, 0, 0.4, "kind", None)),
        ({"rude?": 0.6}, ('reference.principles=["brief"]',), (1, 0, 0.9, "brief", None)),
        ({"rude?": 0.6}, ("reference.bar=0", 'reward.by=["rubric", "rule"]'), (0, 0, None, None, None)),
        ({}, ("reference.min_label_mass=1.0",), (0, 3, None, None, "readings-missing")),
    ],
)
async def test_what_is_read_of_it_decides(
    project: Path, said: dict[str, float], over: tuple[str, ...], left: tuple[Any, ...]
) -> None:
    class Part(Reads):
        async def generate(self, request: Request) -> Completion:
            done = await super().generate(request)
            assert done.choice_logprobs
            less = {label: value - 0.01 for label, value in done.choice_logprobs.items()}
            return Completion("", "length", 10, 1, choice_logprobs=less)

    await worked(project, Speaks(), Part(said=said), *over)
    [row] = table(project / "w", CHECKED.replace("source, agrees, majority, ", ""))
    assert row == tuple(pytest.approx(each) if isinstance(each, float) else each for each in left)


async def test_an_optional_criterion_is_not_asked_and_none_leaves_nothing_to_read_by(project: Path) -> None:
    file = project / "principles" / "rewards" / "1.0.0.toml"
    file.write_text(CONSTITUTION.replace('question = "Is it brief?"', 'question = "Is it brief?"\nkind = "optional"'))
    judge = Reads(said={"brief?": 0.01})
    await worked(project, Speaks(), judge)
    assert len(judge.asked) == 2
    assert table(project / "w", "SELECT drop_reason FROM reference_checks") == [(None,)]


async def test_a_missing_reading_is_no_number(project: Path) -> None:
    run = await worked(project, Speaks(), Reads(fails={"brief?": EngineUnavailable("away")}))
    assert run.counts["open"] == 1
    assert table(project / "w", CHECKED) == []
    assert table(project / "w", "SELECT state FROM chains") == [("open",)]
    assert table(project / "w", "SELECT kept FROM checked_references") == [(False,)]
    run = await worked(project, Speaks(), Reads(fails={"brief?": RequestRefused("no")}))
    assert run.finished_at
    assert run.counts["lost"] == 1
    assert table(project / "w", CHECKED + " WHERE missing = 1") == [
        ("revision", None, None, 2, 1, pytest.approx(0.9), "kind", "readings-missing")
    ]
    again = Reads()
    run = await worked(project, Speaks(), again, retry=True)
    assert len(again.asked) == 1
    assert table(project / "w", CHECKED) == [("revision", None, None, 3, 0, pytest.approx(0.9), "kind", None)]


async def test_without_a_whole_revision_there_is_none(project: Path) -> None:
    class Cut(Speaks):
        async def generate(self, request: Request) -> Completion:
            done = await super().generate(request)
            ended = "length" if request.step in ("initial", "revision-1", "revision-2") else done.finish_reason
            return Completion(done.text, ended, 3, 2)

    run = await worked(project, Cut(), Reads())
    assert run.finished_at
    failed = "SELECT step, error, message FROM failures"
    said = "no reference from revision: none of 2 revisions is whole"
    assert table(project / "w", failed) == [("reference", "NoReference", said)]
    assert table(project / "w", "SELECT state, stopped_by FROM chains") == [("complete", None)]
    warehouse = Warehouse(project / "w")
    [(prompt_id,)] = table(project / "w", "SELECT id FROM prompts")
    have = {row.id: row for row in warehouse.rows_of(run.run_id, [prompt_id])[prompt_id]}
    assert reference_of(prompt_id, have) == said
    assert reference_of(prompt_id, {}) is None


def answer(id: str, outcome: str = "ok", parent: str | None = None, **more: Any) -> Response:
    return Response(id, "r", "p", "revision", 1, "text", outcome, "m", parent, **more)  # type: ignore[arg-type]


def test_whole_is_what_came_to_its_end_where_it_was_written() -> None:
    first, cut = answer("a"), answer("b", "cut")
    same, late = answer("c", "unchanged", "b"), answer("d", "skipped", "a")
    copied = answer("e", copied_from="turn")
    assert [each.id for each in whole([first, cut, same, late, copied])] == ["a", "d"]


@pytest.mark.parametrize(
    ("reference", "samples", "extract", "found"),
    [
        ("It is 4.", ["So 4", "4.0", "it is 5"], Extract("number"), (2 / 3, True)),
        ("It is 5.", ["So 4", "4.0", "it is 5"], Extract("number"), (1 / 3, False)),
        ("It is 6.", ["So 4", "it is 5"], Extract("number"), (0.0, None)),
        ("It is 4.", ["So 4", "no idea"], Extract("number"), (1.0, None)),
        ("no idea", ["So 4", "4"], Extract("number"), (None, None)),
        ("It is 4.", ["none", "nothing"], Extract("number"), (None, None)),
        ("Yes.", ["Yes.", " Yes.\n", "No."], Extract("exact"), (2 / 3, True)),
        ("Perhaps.", ["Yes.", "Yes.", "No."], Extract("exact"), (0.0, False)),
        ("Yes.", ["Yes.", "No.", "Maybe."], Extract("exact"), (None, None)),
        ("Yes.", ["Yes.", "Yes.", "No.", "No."], Extract("exact"), (0.5, None)),
        ("Yes.", [], Extract("exact"), (None, None)),
    ],
)
def test_agreement_is_of_what_can_be_read(
    reference: str, samples: list[str], extract: Extract, found: tuple[float | None, bool | None]
) -> None:
    assert agreement(reference, samples, extract) == (pytest.approx(found[0]) if found[0] else found[0], found[1])


async def test_killed_anywhere_it_resumes_with_equal_rows_and_after_damage(project: Path) -> None:
    one = ["prompts.limit=1"]
    await run_once(project / "recipe.toml", project / "whole", one)
    whole_rows = rows_of(project / "whole")
    recipe = load_recipe(project / "recipe.toml", one)
    for rows in range(3, sum(map(len, whole_rows)), 7):
        root = project / f"cut-{rows}"
        with pytest.raises(Killed):
            await killed_after(prepare(recipe, project / "recipe.toml", root), rows)
        run = await run_once(project / "recipe.toml", root, one)
        assert run.finished_at
        assert rows_of(root) == whole_rows
    warehouse = Warehouse(root)
    for name in ("scores", "reference_checks", "responses"):
        [part] = warehouse.parts(name, run.run_id)
        part.write_bytes(part.read_bytes()[:-9] + b"otherwise")
        assert [each.table for each in warehouse.verify(run.run_id)] == [name]
        with warehouse.lock(run.run_id):
            assert warehouse.repair(run.run_id)
        await run_once(project / "recipe.toml", root, one)
        assert rows_of(root) == whole_rows
        assert warehouse.verify(run.run_id) == []


def test_a_given_reference_may_be_what_an_answer_comes_to_alone() -> None:
    said = ["So it is (B).", "Answer: B", "Answer: C"]
    assert agreement("b", said, Extract("choice"), given=True) == (2 / 3, True)
    assert agreement("b", said, Extract("choice")) == (None, None)


probability = st.floats(0, 1)


@given(st.lists(st.tuples(probability, probability, st.booleans()), max_size=6), probability, probability)
def test_no_missing_reading_becomes_a_number(
    read: list[tuple[float, float, bool]], bar: float, least_mass: float
) -> None:
    """read: of each criterion P(yes), label mass, and whether the reading is there."""
    section = ReferenceSection.model_validate({"from": "revision", "bar": max(bar, 1e-9), "min_label_mass": least_mass})
    items = [Item("p", "d", n, f"q{n}", "yes", 1.0, False, ("Y", "N"), lambda *_: ()) for n in range(len(read))]
    failure = Failure("f", "r", "p", "reward-reference", "RequestRefused", "no", False)
    found: list[tuple[Reading, Score | Failure | None]] = []
    for item, (p, mass, there) in zip(items, read, strict=True):
        row = score(item, p, mass) if there else failure
        found.append((Reading("reference", "judge", Speaks(), item), row))
    check = Check("r", section, tuple(items), None, Extract("exact"))  # type: ignore[arg-type]
    reference = Response("a", "r", "p", "reference", 0, "text", "ok", "m")
    made = check._row("c", reference, None, found, {})
    counted = [p for p, mass, there in read if there and mass >= least_mass]
    assert (made.readings, made.missing) == (len(counted), len(read) - len(counted))
    assert made.least == (min(counted) if counted else None)
    assert made.kept == (not made.missing and all(p >= section.bar for p in counted))
    assert (made.drop_reason == "breaks") == any(p < section.bar for p in counted)


def score(item: Item, p: float, mass: float) -> Score:
    return Score(
        "s", "r", "p", "a", "judge", "", "p", "d", "reference", "", item.number, item.question, "yes", 1.0, p, mass, "t"
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("rounds = 2", "rounds = 0", r"reference\.from: revision needs revise\.rounds of 1 or more"),
        ('from = "revision"', 'from = "nowhere"', r"reference\.from: has to be 'revision'"),
        ('from = "revision"', 'form = "revision"', r"reference\.form: unknown field; did you mean from\?"),
        ('from = "revision"', 'from = "revision"\nbar = 0\nprinciples = ["kind"]', "with bar = 0 it is not read"),
        ('from = "revision"', 'from = "revision"\nprinciples = ["plain"]', r"reference\.principles .* no principle"),
    ],
)
def test_what_cannot_be_had_is_refused(project: Path, before: str, after: str, said: str) -> None:
    assert before in RECIPE
    (project / "recipe.toml").write_text(RECIPE.replace(before, after), encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        prepare(load_recipe(project / "recipe.toml"), project / "recipe.toml", project / "w")
    assert not (project / "w").exists()
