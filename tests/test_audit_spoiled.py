"""Answers that were spoiled on purpose: a run has them read, and the audit says what counts as no worse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_rows import Audited, Pair
from audit_rows import store as store_pairs
from run_once import run_once, stop_midway
from small_project import table

from constitution.ask.replay import replayed
from constitution.ask.stored import Stored
from constitution.errors import RecipeError
from constitution.identity import row_id
from constitution.recipe import load_recipe
from constitution.records import Perturbation, Score
from constitution.warehouse import Warehouse

CONSTITUTION = """
name = "spoiled"
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
name = "spoiled"
constitution = "spoiled@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[model.reward_model]
engine = "fake"
[sample.plain]
n = 2
[revise]
rounds = 1
[reward]
by = ["rubric", "grade", "model"]
perturbed = true
[perturb]
share = 1.0
kinds = ["polished", "terse"]
[output]
flush_seconds = 0.05
"""
PROMPTS = 6


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "principles" / "spoiled").mkdir(parents=True)
    (tmp_path / "principles" / "spoiled" / "1.0.0.toml").write_text(CONSTITUTION, encoding="utf-8")
    rows = [{"prompt": f"How does thing {n} work?"} for n in range(PROMPTS)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


async def test_a_run_has_spoiled_answers_read_and_not_rewarded(project: Path) -> None:
    path, root = project / "recipe.toml", project / "w"
    run = await run_once(path, root, [])
    spoiled = "FROM responses WHERE kind = 'perturbation'"
    assert table(root, f"SELECT count(*), bool_or(outcome = 'unchanged') {spoiled}") == [(2 * PROMPTS, False)]
    read = f"SELECT metric, count(*) FROM scores WHERE response_id IN (SELECT id {spoiled}) GROUP BY ALL ORDER BY 1"
    assert table(root, read) == [("grade", 2 * PROMPTS), ("model", 2 * PROMPTS), ("rubric", 4 * PROMPTS)]
    assert table(root, f"SELECT count(*) FROM rewards WHERE response_id IN (SELECT id {spoiled})") == [(0,)]
    assert table(root, "SELECT DISTINCT state, rewards FROM chains") == [("complete", 12)]
    found = Audited(root, run.run_id)
    assert {found("reward_exploited", subject=f"{source}/{kind}").n for source in ("rubric", "grade", "model")
            for kind in ("polished", "terse")} == {PROMPTS}  # fmt: skip
    [(prompt_id,)] = table(root, "SELECT min(prompt_id) FROM scores")
    stored = Stored.load(Warehouse(root), run.run_id, prompt_id)
    mine = {id for (id,) in table(root, f"SELECT id {spoiled}")}
    rows = [row for row in stored.rows.values() if isinstance(row, Score) and row.response_id in mine]
    assert len(rows) == 8
    for row in rows:
        assert (await replayed(stored, row)).doubt == ""


async def test_resumed_it_is_the_same(project: Path) -> None:
    path = project / "recipe.toml"
    await run_once(path, project / "whole", [])
    await stop_midway(path, project / "halves", [], 2)
    await run_once(path, project / "halves", [])
    rows = "SELECT id, response_id, p_yes, grades, raw FROM scores ORDER BY ALL"
    assert table(project / "halves", rows) == table(project / "whole", rows)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('[perturb]\nshare = 1.0\nkinds = ["polished", "terse"]\n', "", "reward.perturbed: no answer is spoiled"),
        ("perturbed = true", "", "there is no section \\[judge\\], nor reward.perturbed"),
        ('by = ["rubric", "grade", "model"]', 'by = ["rule"]\nrules = { refusal = "unwanted" }', "none of `by`"),
    ],
)
def test_what_would_read_nothing_is_refused(project: Path, before: str, after: str, said: str) -> None:
    assert before in RECIPE
    (project / "recipe.toml").write_text(RECIPE.replace(before, after), encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        load_recipe(project / "recipe.toml")


def pairs() -> list[Pair]:
    """Of each of 30 prompts one answer and one that was made of it, polished or terse in turn."""
    kinds: tuple[Perturbation, Perturbation] = ("polished", "terse")
    return [Pair(n, {}, "perturbation", perturbation=kinds[n % 2]) for n in range(30)]


def readings(all_pairs: list[Pair], values: dict[str, np.ndarray]) -> Iterator[Score]:
    """values: by source and place, (pairs, 2) of P(the good reply), before and after."""
    for n, pair in enumerate(all_pairs):
        a, b, *_ = pair.rows()
        for name, found in values.items():
            source, place, good, weight = name.split()
            for answer, value in ((a, found[n, 0]), (b, found[n, 1])):
                whole = source in ("grade", "model")
                p_yes = None if whole else float(value if good == "yes" else 1 - value)
                grades = (float(1 - value), 0.0, float(value)) if source == "grade" else None
                raw = float(value) if source == "model" else None
                yield Score(
                    row_id(answer.id, name), answer.run_id, pair.prompt.id, answer.id, "one", "", "kind", "d" * 64,
                    source, "", None if whole else int(place), "Is it?", None if whole else good, float(weight),  # type: ignore[arg-type]
                    p_yes, None if raw else 0.9, "t" * 64, grades=grades, raw=raw,
                )  # fmt: skip


def test_what_counts_as_no_worse(tmp_path: Path) -> None:
    draw, of = np.random.default_rng(3), pairs()
    names = (
        "rubric 0 yes 2",
        "rubric 1 no 1",
        "prompt-rubric 0 yes 3",
        "prompt-rubric 1 no -2",
        "grade 0 yes 1",
        "model 0 yes 1",
    )
    values = {name: draw.random((30, 2)) for name in names}
    values["model 0 yes 1"] = draw.normal(0, 9, (30, 2))
    values["rubric 1 no 1"][4] = values["rubric 0 yes 2"][4] = 0.7  # no better is no worse
    scores = list(readings(of, values))
    lost = next(score for score in scores if score.metric == "rubric" and score.criterion == 1)
    scores = [replace(score, label_mass=0.1) if score is lost else score for score in scores]
    warehouse = store_pairs(tmp_path, of, reward={"by": ["rubric"], "min_label_mass": 0.5})
    with warehouse.scoring("hand-0123456789ab"):
        warehouse.write_part("scores", "hand-0123456789ab", scores)
    found = Audited(tmp_path)
    for place, kind in enumerate(("polished", "terse")):
        own = np.arange(30) % 2 == place
        whole = own & (np.arange(30) > 0)  # the first pair's second criterion was not read before it was spoiled
        a, b, c, d, e, f = (values[name] for name in names)
        for source, rows, worth in (
            ("rubric", whole, 2 * a + b), ("prompt-rubric", own, 3 * c + 2 * d), ("grade", own, e),
            ("model", own, f),
        ):  # fmt: skip
            figure = found("reward_exploited", subject=f"{source}/{kind}")
            assert figure.value == pytest.approx(np.mean((worth[:, 1] >= worth[:, 0] - 1e-9)[rows]))
            assert figure.n == rows.sum()
            assert figure.low is not None
        for criterion, each, rows in ((1, a, own), (2, b, whole)):
            passed = rows & (each[:, 0] >= 0.5)
            figure = found("criterion_exploited", "one", "kind", f"{criterion}/{kind}")
            assert figure.value == pytest.approx(np.mean(each[passed, 1] >= 0.5))
            assert figure.n == passed.sum()


def test_without_any_it_says_what_it_takes(tmp_path: Path) -> None:
    store_pairs(tmp_path, pairs())
    found = Audited(tmp_path)
    for name in ("reward_exploited", "criterion_exploited"):
        assert found(name).value is None
        assert "reward.perturbed = true" in found(name).note
