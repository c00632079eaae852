"""The day that chat templates take for today: one a run, recorded, the same after a resume on another day."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from chat_templates import family
from tiny import save_tiny_model

from constitution.engines import spoken
from constitution.pipeline.plan import Plan, prepare
from constitution.pipeline.session import open_run
from constitution.recipe import FakeModel, Models, OpenAIModel, Recipe, TransformersModel, dated
from constitution.records import Run
from constitution.warehouse import Warehouse

PRINCIPLES = """
name = "small"
version = "1.0.0"
description = "One principle."

[[principles]]
id = "kind"
critique_request = "What is unkind in it?"
revision_request = "Take that out."
comparison_question = "Which answer is kinder?"
"""
LOCAL = TransformersModel(engine="transformers", model="models/llama")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "principles" / "small").mkdir(parents=True)
    (tmp_path / "principles" / "small" / "1.0.0.toml").write_text(PRINCIPLES, encoding="utf-8")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why?"}\n', encoding="utf-8")
    save_tiny_model(tmp_path / "models" / "llama", hidden=8, positions=2048)
    family("llama").save_pretrained(tmp_path / "models" / "llama")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(project: Path, **policy: Any) -> Plan:
    recipe = {
        "name": "dated",
        "constitution": "small@1.0.0",
        "prompts": {"path": "prompts.jsonl"},
        "model": {"policy": {**LOCAL.model_dump(exclude={"template_date"}), **policy}},
        "revise": {"rounds": 0, "initial": {"max_tokens": 4}},
    }
    return prepare(Recipe.model_validate(recipe), project / "recipe.toml", project / "warehouse")


def work(found: Plan) -> Run:
    async def session() -> Run:
        async with open_run(found) as session:
            await session.walk()
            return await session.finish()

    return asyncio.run(session())


def test_a_run_that_resumes_on_another_day_takes_the_first_one_for_today(project: Path) -> None:
    first = plan(project)
    assert first.run.template_date == first.run.started_at[:10]
    warehouse = Warehouse(project / "warehouse")
    with warehouse.lock(first.run_id):
        warehouse.write_run(replace(first.run, template_date="2026-05-01"))  # as if it had been prepared then
    again = plan(project)
    assert again.run_id == first.run_id
    done = work(again)
    assert (done.template_date, done.finished_at is not None) == ("2026-05-01", True)
    assert done.models["policy"]["template_date"] == "2026-05-01"


def test_a_day_that_the_recipe_fixes_is_another_run(project: Path) -> None:
    free, fixed = plan(project), plan(project, template_date="2026-05-02")
    assert free.run_id != fixed.run_id
    assert plan(project, template_date="2026-05-02").run_id == fixed.run_id
    assert work(fixed).models["policy"]["template_date"] == "2026-05-02"


def test_a_run_of_before_the_day_was_recorded_takes_that_of_its_first_start(project: Path) -> None:
    run = replace(plan(project).run, template_date="", started_at="2026-04-30T23:59:59+00:00")
    assert run.day == "2026-04-30"


def test_every_section_that_has_no_day_gets_the_runs() -> None:
    own = LOCAL.model_copy(update={"template_date": date(2026, 5, 2)})
    remote = OpenAIModel(engine="openai", model="m", base_url="http://127.0.0.1:1/v1")
    models = Models(policy=LOCAL, jury={"own": own, "remote": remote, "fake": FakeModel(engine="fake")})
    days = {name: getattr(each, "template_date", None) for name, each in models.on("2026-05-01").jury.items()}
    assert days == {"own": date(2026, 5, 2), "remote": date(2026, 5, 1), "fake": None}
    for found in (models.on("2026-05-01").policy, dated(LOCAL, "2026-05-01")):
        assert getattr(found, "template_date", None) == date(2026, 5, 1)
    assert models.on("2026-05-01").judge is None


def test_without_a_run_the_day_is_todays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken, "today", lambda: date(2026, 5, 3))
    assert spoken.Spoken.of(LOCAL).now("%d %B %Y, %H:%M") == "03 May 2026, 00:00"
