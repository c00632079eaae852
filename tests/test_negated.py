"""Criteria asked a second time, negated: what a run reads, that no reward is made of it, and what the audit says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_rows import Audited
from chains import Scripted
from group_rows import RUN, Answer, score, store
from run_once import run_once, stop_midway
from sklearn.metrics import cohen_kappa_score
from small_project import small_project, table

from constitution import load_recipe, run, templates
from constitution.ask.replay import replayed
from constitution.ask.stored import Stored
from constitution.audit.summary import summary
from constitution.engines.base import Completion, Request
from constitution.errors import RecipeError
from constitution.identity import row_id
from constitution.records import Criterion, Message, Score
from constitution.templates.wording import ENGLISH, read_wording
from constitution.warehouse import Warehouse

CONSTITUTION = """
name = "asked"
version = "1.0.0"
description = "Of tests."
[[principles]]
id = "kind"
critique_request = "Is it unkind?"
revision_request = "Make it kind."
comparison_question = "Which answer is kinder?"
[[principles.criteria]]
question = "Is it kind?"
[[principles.criteria]]
question = "Is it rude?"
good = "no"
"""
RECIPE = """
name = "asked"
constitution = "asked@1.0.0"
[prompts]
path = "prompts.jsonl"
field = "prompt"
rubric = "rubric"
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
noise = 0.0
[sample.plain]
n = 2
[rubric]
from = ["given"]
[reward]
by = ["rubric", "prompt-rubric"]
perturbed = true
negated = true
[revise]
rounds = 1
[perturb]
share = 1.0
kinds = ["polished"]
[output]
flush_seconds = 0.05
"""
PROMPTS = 5
WHY = (Message("user", "Why?"),)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "principles" / "asked"
    folder.mkdir(parents=True)
    (folder / "1.0.0.toml").write_text(CONSTITUTION, encoding="utf-8")
    rubric = [{"question": "Does it say how?", "weight": 1.0}, {"question": "Does it invent a source?", "weight": -2.0}]
    rows = [{"prompt": f"How does thing {n} work?", "rubric": rubric} for n in range(PROMPTS)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


async def test_a_run_asks_twice_and_rewards_by_the_first(project: Path) -> None:
    path, root = project / "recipe.toml", project / "w"
    done = await run_once(path, root, [])
    assert table(root, "SELECT message FROM failures") == []
    sql = """
        SELECT s.metric, count(*), bool_and(abs(s.p_yes + n.p_yes - 1) < 1e-9 AND s.good <> n.good),
            bool_or(s.question <> n.question OR s.weight <> n.weight OR s.id = n.id)
        FROM scores AS s JOIN scores AS n ON n.metric = s.metric || '-negated' AND n.response_id = s.response_id
            AND n.principle_id = s.principle_id AND n.criterion = s.criterion
            AND n.rubric_id IS NOT DISTINCT FROM s.rubric_id
        GROUP BY ALL ORDER BY 1 DESC"""
    read = 4 * PROMPTS * 2  # two samples, an answer and its revision, two criteria
    assert table(root, sql) == [("rubric", read, True, False), ("prompt-rubric", read, True, False)]
    again = "SELECT count(*) FROM scores JOIN responses AS r ON r.id = response_id WHERE metric LIKE '%-negated' AND "
    assert table(root, again + "r.kind = 'perturbation'") == [(0,)]
    calls = dict(table(root, "SELECT stage, calls FROM usage WHERE stage LIKE 'reward-%'"))
    assert calls["reward-rubric-negated"] == calls["reward-prompt-rubric-negated"] > 0
    await run_once(path, project / "once", ["reward.negated=false"])
    rewards = "SELECT source, prompt_id, value, raw, readings, missing FROM rewards ORDER BY ALL"
    assert table(root, rewards) == table(project / "once", rewards)
    assert table(project / "once", "SELECT count(*) FROM scores WHERE metric LIKE '%-negated'") == [(0,)]
    found = Audited(root, done.run_id)
    judge = next(figure.judge for figure in found.figures if figure.figure == "criterion_negated")
    for place in ("1", "2"):
        figure = found("criterion_negated", judge, "kind", place)
        assert (figure.value, figure.n) == (1, 2 * PROMPTS)  # samples are a group
    [(prompt_id,)] = table(root, "SELECT min(prompt_id) FROM scores")
    stored = Stored.load(Warehouse(root), done.run_id, prompt_id)
    rows = [row for row in stored.rows.values() if isinstance(row, Score) and row.metric.endswith("-negated")]
    assert len(rows) == 16
    for row in rows:
        shown = await replayed(stored, row)
        assert shown.doubt == ""
        assert not row.calls or 'Is the right reply to that "no"?' in shown.exchanges[0].request.messages[0].content


async def test_resumed_it_is_the_same(project: Path) -> None:
    path = project / "recipe.toml"
    await run_once(path, project / "whole", [])
    await stop_midway(path, project / "halves", [], 2)
    await run_once(path, project / "halves", [])
    rows = "SELECT id, metric, response_id, p_yes, good, calls FROM scores ORDER BY ALL"
    assert table(project / "halves", rows) == table(project / "whole", rows)


def test_a_judge_that_always_says_yes_is_consistent_in_nothing(tmp_path: Path) -> None:
    def yes(request: Request) -> Completion:
        if request.choices:
            return Completion("Y", "length", 9, 1, 0, {"Y": -0.05, "N": -4.0})
        return Completion(f"So {request.seed % 7}.", "stop", 9, 9, 0)

    prompts = [{"prompt": f"Why {n}?"} for n in range(12)]
    recipe = RECIPE.replace('rubric = "rubric"\n', "").replace('[rubric]\nfrom = ["given"]\n', "")
    recipe = recipe.replace('["rubric", "prompt-rubric"]', '["rubric"]').replace("perturbed = true\n", "")
    recipe = recipe.partition("[revise]")[0].replace("asked@1.0.0", "general@1.2.0")
    path = small_project(tmp_path, prompts, recipe)
    engine = Scripted(yes)
    done = run(load_recipe(path), tmp_path / "w", engines={"policy": engine, "judge": engine})
    found = Audited(tmp_path / "w", done.run_id)
    own = [figure for figure in found.figures if figure.figure == "criterion_negated"]
    assert own
    assert {figure.value for figure in own} == {0}
    assert {figure.value for figure in found.figures if figure.figure == "criterion_negated_kappa"} == {0}
    [count] = [figure for figure in found.figures if figure.figure == "criteria_negated"]
    assert count.value == count.n == len(own)
    assert "asked the other way round, it says the opposite no more often than by chance" in summary(
        tmp_path / "w", done.run_id
    )


@pytest.mark.parametrize("by", ['["grade"]', '["rule"]\nrules = { refusal = "unwanted" }'])
def test_what_asks_no_criteria_cannot_be_asked_twice(project: Path, by: str) -> None:
    text = RECIPE.replace('["rubric", "prompt-rubric"]', by).replace("perturbed = true\n", "")
    (project / "recipe.toml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="negated: criteria are asked a second time"):
        load_recipe(project / "recipe.toml")


@pytest.mark.parametrize("german", [False, True])
def test_the_request_begins_as_the_first_one_and_ends_otherwise(german: bool) -> None:
    wording = read_wording(Path(__file__).parent / "german", "german") if german else ENGLISH
    asked = [
        templates.rubric_messages(WHY, "So.", Criterion("Is it kind?"), "0a1b2c", wording.of(texts))
        for texts in (templates.RUBRIC, templates.RUBRIC_NEGATED)
    ]
    first, second = ([turn.content for turn in messages] for messages in asked)
    assert first[1] == second[1]
    same = first[0].rindex("]\n\n")
    assert first[0][:same] == second[0][:same]
    said = "Ist „nein“ die richtige Erwiderung darauf?" if german else 'Is the right reply to that "no"?'
    assert said in second[0]
    assert said not in first[0]
    assert "Is it kind?" in second[0]


ANSWERS = [Answer(n // 3, n % 3, "sample", "a", f"word {n}", {"rule": (0.5, 0.0)}, {}) for n in range(90)]


def readings(values: dict[str, np.ndarray]) -> Iterator[Score]:
    """values: by judge (answers, 2): P(yes) to the question, whose good reply is no, and to its opposite."""
    for judge, found in values.items():
        for answer, (first, second) in zip(ANSWERS, found, strict=True):
            row = replace(score(answer), judge=judge, criterion=1, good="no", p_yes=float(first))
            yield replace(row, id=row_id(answer.id, judge))
            yield replace(
                row, id=row_id(answer.id, judge, "n"), metric="rubric-negated", good="yes", p_yes=float(second)
            )


def test_figures_by_hand(tmp_path: Path) -> None:
    draw = np.random.default_rng(8)
    first = draw.random(90)
    sure = np.column_stack([first, np.where(draw.random(90) < 0.9, 1 - first, first)])
    values = {
        "coin": draw.random((90, 2)), "sure": sure, "yes": np.full((90, 2), 0.9), "tied": np.full((90, 2), 0.5),
        "few": draw.random((90, 2)), "same": np.tile([0.9, 0.2], (90, 1)),
    }  # fmt: skip
    scores = list(readings(values))
    lost = {row_id(ANSWERS[n].id, "sure", *also) for n, also in ((4, ("n",)), (5, ()))}
    under = row_id(ANSWERS[6].id, "sure", "n")
    few = {row_id(answer.id, "few", "n") for answer in ANSWERS[19:]}
    scores = [replace(row, label_mass=0.1) if row.id == under else row for row in scores if row.id not in lost | few]
    store(tmp_path, ANSWERS, [], scores, reward={"by": ["rubric"], "negated": True, "min_label_mass": 0.5})
    found = Audited(tmp_path, RUN)
    there = np.isin(np.arange(90), (4, 5, 6), invert=True)
    for judge, rows in (("coin", np.full(90, True)), ("sure", there), ("few", np.arange(90) < 19)):
        yes, again = (values[judge][rows] >= 0.5).T
        share, kappa = (found(name, judge, "kind", "2") for name in ("criterion_negated", "criterion_negated_kappa"))
        assert share.value == pytest.approx(np.mean(yes != again))
        assert share.n == kappa.n == rows.sum()
        assert kappa.value == pytest.approx(cohen_kappa_score(yes, ~again))
        for figure in (share, kappa):
            assert figure.value is not None
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low < figure.value < figure.high
    for judge in ("yes", "tied"):
        assert found.value("criterion_negated", judge, "kind", "2") == 0
        assert found.value("criterion_negated_kappa", judge, "kind", "2") == 0
    assert found.value("criterion_negated", "same", "kind", "2") == 1
    assert found("criterion_negated_kappa", "same", "kind", "2").note.startswith("all replies are the same")
    counts = {judge: found("criteria_negated", judge) for judge in values}
    assert {judge: (row.value, row.n) for judge, row in counts.items()} == {
        "coin": (1, 1), "sure": (0, 1), "yes": (1, 1), "tied": (1, 1), "few": (None, 0), "same": (None, 0),
    }  # fmt: skip
    assert counts["few"].note == "of none are 20 answers, with both replies"
    said = [line for line in summary(tmp_path, RUN).splitlines() if "contradicts itself" in line]
    assert [line.split(" | ")[1] for line in said] == ["coin", "tied", "yes"]


def test_where_nothing_was_asked_twice_it_says_what_it_takes(tmp_path: Path) -> None:
    store(tmp_path, ANSWERS, [], [row for row in readings({"one": np.full((90, 2), 0.9)}) if row.metric == "rubric"])
    found = Audited(tmp_path, RUN)
    for name in ("criterion_negated", "criterion_negated_kappa", "criteria_negated"):
        assert (found(name).value, found(name).note) == (
            None, "nothing was asked a second time: reward.negated = true in the recipe"
        )  # fmt: skip
