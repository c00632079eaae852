"""`constitution audit` on a real run: figures, report, headline, and what cannot be."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from report_page import Page, differences
from small_project import RECIPE, small_project
from warehouse_rows import fill

from constitution.cli import app
from constitution.errors import InputError, WarehouseError
from constitution.pipeline import open_run, prepare
from constitution.recipe import load_recipe
from constitution.warehouse import Warehouse

JUDGED = (
    RECIPE.replace('"bad"]', '"bad"]\ngold = "good"')
    .replace('model = "fake-judge"', 'model = "fake-judge"\nposition_bias = 0.8')
    .replace('["first-last", "given"]', '["first-last", "parent", "given"]')
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse of a run of forty prompts."""
    folder = tmp_path_factory.mktemp("judged")
    path = small_project(folder, 40, JUDGED)

    async def go() -> None:
        plan = await asyncio.to_thread(prepare, load_recipe(path, []), path, folder / "warehouse", False)
        async with open_run(plan) as session:
            await session.walk()
            assert (await session.finish()).finished_at

    asyncio.run(go())
    return folder / "warehouse"


def call(root: Path, *words: str) -> str:
    done = CliRunner().invoke(app, ["audit", "--warehouse", str(root), *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_run_is_audited_and_every_number_of_its_report_is_its_querys(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    said = call(root, "--out", str(out), "--replicates", "100")
    run = Warehouse(root).runs()[-1]
    figures = Warehouse(root).read_figures(run.run_id)
    page = Page(out.read_text(encoding="utf-8"))
    assert differences(page, root) == []
    assert run.run_id in said
    assert f"Report: {out} ({sum(f.value is not None for f in figures)} figures" in said.replace("\n", " ")
    assert "not finished" not in said
    [bias] = [f for f in figures if f.figure == "position_bias" and not f.principle_id]
    assert bias.value is not None
    assert f"{bias.value:.1%}".replace("%", "\N{NO-BREAK SPACE}%") in said
    for name in ("alignment", "reliability", "position-bias", "principle-win-rate", "round-changed", "most-position"):
        assert page.exhibits[name].rows, name
    assert "no answer was perturbed" in page.exhibits["missing"].text


def test_an_unfinished_run_is_audited_as_far_as_it_is(tmp_path: Path) -> None:
    fill(tmp_path / "warehouse")
    said = call(tmp_path / "warehouse", "--out", str(tmp_path / "r.html"), "--replicates", "100")
    assert "The run is not finished: these are figures of what there is so far." in said
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert differences(page, tmp_path / "warehouse") == []


def test_the_newest_run_with_preferences_is_the_default(root: Path, tmp_path: Path) -> None:
    warehouse = Warehouse(root)
    run = warehouse.runs()[-1]
    warehouse.write_run(replace(run, run_id="later", started_at="2999-01-01T00:00:00+00:00"))
    try:
        said = call(root, "--out", str(tmp_path / "r.html"), "--replicates", "100")
    finally:
        (root / "runs" / "later.json").unlink()
    assert said.startswith(run.run_id)


def test_a_run_is_found_by_how_its_id_begins(root: Path, tmp_path: Path) -> None:
    run = Warehouse(root).runs()[-1]
    assert call(root, run.run_id[:9], "--out", str(tmp_path / "r.html"), "--replicates", "100").startswith(run.run_id)


def test_what_cannot_be_audited(root: Path, tmp_path: Path) -> None:
    def refused(*words: str) -> None:
        CliRunner().invoke(app, ["audit", *words], catch_exceptions=False)

    with pytest.raises(InputError, match="nobody: there is no such run"):
        refused("nobody", "--warehouse", str(root))
    with pytest.raises(WarehouseError, match="there is no warehouse here"):
        refused("--warehouse", str(tmp_path / "nowhere"))
    Warehouse(tmp_path / "empty").rebuild_views()
    with pytest.raises(InputError, match="no run has preferences"):
        refused("--warehouse", str(tmp_path / "empty"))
