"""Whole runs by each method of judging, and what docs/recipes.md says of them."""

from __future__ import annotations

import re
import textwrap
import tomllib
from pathlib import Path

import pytest
from run_once import run_once

from constitution import templates
from constitution.errors import RecipeError
from constitution.judge.methods import METHODS
from constitution.judge.read import outgrade
from constitution.recipe import JudgeSection
from constitution.records import Failure, Judgement, Method
from constitution.warehouse import Warehouse, ask, connect

DOCS = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
RECIPE = """
name = "methods"
constitution = "listed@1.0.0"
[prompts]
format = "sql"
query = "SELECT 'How does thing ' || n || ' work?' AS prompt FROM range(3) t(n)"
[model.policy]
engine = "fake"
[judge]
principles = 2
"""
LISTED = """
name = "listed"
version = "1.0.0"
description = "Three principles, two of them with a checklist."
""" + "".join(
    f"""
[[principles]]
id = "{id}"
critique_request = "Point out what is not {id} in your answer."
revision_request = "Rewrite the answer so that it is {id}."
comparison_question = "Which answer is more {id}?"
{criteria}
"""
    for id, criteria in (
        ("careful", '[[principles.criteria]]\nquestion = "Is the answer careful?"'),
        ("modest", '[[principles.criteria]]\nquestion = "Is the answer careless?"\ngood = "no"\nweight = 2.0'),
        ("bare", ""),
    )
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "principles" / "listed"
    folder.mkdir(parents=True)
    (folder / "1.0.0.toml").write_text(LISTED, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("method", METHODS)
async def test_a_run_keeps_each_vote_whole_and_its_templates(project: Path, method: Method) -> None:
    settings = [f"judge.method={method}", 'judge.only=["careful", "modest"]', "judge.repeats=2"]
    if METHODS[method].sampled:
        settings[-1] = "judge.verdict.n=2"
    run = await run_once(project / "recipe.toml", project / "warehouse", settings)
    assert run.finished_at
    assert set(run.templates) == {templates.REVISE.digest, METHODS[method].templates.digest}
    with connect(project / "warehouse") as connection:
        votes = [
            Judgement(**dict(zip(answer.columns, row, strict=True)))
            for answer in [ask(connection, "SELECT * EXCLUDE created_at FROM judgements")]
            for row in answer.rows
        ]
        [(expected,)] = ask(connection, "SELECT sum(votes) + sum(votes_missing) FROM preferences").rows
    assert votes
    assert len(votes) == expected
    for row in votes:
        assert row.template_digest in run.templates
        assert (row.rationale is None) == (method not in ("rationale", "verdict"))
        grades = {"score": 9, "rubric": 1}.get(method)
        assert grades == (row.read_first and len(row.read_first)) == (row.read_second and len(row.read_second))
        if method == "score":
            assert row.read_first
            assert row.read_second
            assert outgrade(row.read_first, row.read_second) == pytest.approx(row.p_first)
    again = await run_once(project / "recipe.toml", project / "warehouse", settings)
    assert again.starts == run.starts  # it was finished
    failures = list(Warehouse(project / "warehouse").rows_of(run.run_id, [votes[0].prompt_id])[votes[0].prompt_id])
    assert not any(isinstance(row, Failure) for row in failures)


async def test_the_expected_grade_by_the_query_in_the_docs(project: Path) -> None:
    settings = ["judge.method=score", 'judge.only=["careful", "modest"]']
    await run_once(project / "recipe.toml", project / "warehouse", settings)
    [query] = re.findall(r"\n    (SELECT principle_id, first_id,\n(?:    .*\n)+)", DOCS)
    with connect(project / "warehouse") as connection:
        found = list(ask(connection, query).rows)
        votes = list(ask(connection, "SELECT read_first FROM judgements").rows)
    assert len(found) == len(votes) > 0
    for (*_, grade), (read,) in zip(found, votes, strict=True):
        assert grade == pytest.approx(sum(g * p for g, p in enumerate(read, 1)) / sum(read))
        assert 1 <= grade <= 9


def test_the_docs_examples_are_recipes() -> None:
    text = re.split(r"\n##+ ", DOCS.partition("### Methods\n")[2])[0]
    examples = re.findall(r"\n    \[judge\]\n((?:    .+\n)+)", text)
    sections = [JudgeSection.model_validate(tomllib.loads(textwrap.dedent(example))) for example in examples]
    assert {section.method for section in sections} == {"rationale", "rubric"}
    assert re.findall(r"^\*\*([a-z]+)\.\*\*", text, re.MULTILINE) == list(METHODS)


async def test_principles_without_criteria_cannot_judge_by_rubric(project: Path) -> None:
    with pytest.raises(RecipeError, match=r"rubric needs criteria, and listed@1\.0\.0 has none for bare"):
        await run_once(project / "recipe.toml", project / "warehouse", ["judge.method=rubric"])
    assert not (project / "warehouse").exists()


async def test_every_method_is_a_run_of_its_own(project: Path) -> None:
    settings = ['judge.only=["careful", "modest"]']
    ids = {
        (await run_once(project / "recipe.toml", project / "warehouse", [*settings, f"judge.method={method}"])).run_id
        for method in METHODS
    }
    assert len(ids) == len(METHODS)
