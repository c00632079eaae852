"""A run in MLflow: what MLflow itself reads back from its store, written once and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from judging_rows import RUN as JUDGED
from judging_rows import Scene
from small_project import small_project
from warehouse_rows import run as stored

from constitution.audit import audit
from constitution.cli import app
from constitution.cli.audit import audit as audit_command
from constitution.errors import InputError
from constitution.records import Figure
from constitution.scheduling import scheduled
from constitution.telemetry import MLFLOW, check, log
from constitution.telemetry.experiments import PARAM_MOST, log_run, metrics_of, named, settings
from constitution.warehouse import Warehouse

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(params=["file", pytest.param("sqlite", marks=pytest.mark.torture)])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of MLflow's own; to make the tables of a database takes it ten seconds."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return {"file": f"file://{tmp_path / 'mlruns'}", "sqlite": f"sqlite:///{tmp_path / 'mlflow.db'}"}[request.param]


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> Callable[[], list[Any]]:
    """All runs of an experiment of this test, as MLflow's client reads them."""
    name = tmp_path.name
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    monkeypatch.delenv(MLFLOW, raising=False)

    def read() -> list[Any]:
        client = mlflow.MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(name)
        return list(client.search_runs([found.experiment_id])) if found else []

    return read


def test_a_run_with_its_figures_is_one_run_there_however_often_it_is_written(
    experiment: Callable[[], list[Any]], uri: str, tmp_path: Path
) -> None:
    scene = Scene()
    for _ in range(4):
        scene.pair()
    scene.write(tmp_path / "warehouse")
    store = Warehouse(tmp_path / "warehouse")
    log_run(store.root, JUDGED, uri)
    [bare] = experiment()
    assert not [name for name in bare.data.metrics if name.startswith("figures/")]
    figures = audit(store.root, JUDGED, replicates=100)
    log_run(store.root, JUDGED, uri)
    [told] = experiment()
    assert told.info.run_id == bare.info.run_id
    assert told.data.tags["constitution.run_id"] == told.info.run_name == JUDGED
    run = store.find_run(JUDGED)
    assert dict(metrics_of(run, figures)) == told.data.metrics
    measured = [figure for figure in figures if figure.value is not None]
    assert len(measured) > 5
    names = [name for name in told.data.metrics if name.startswith("figures/") and name.endswith("/value")]
    assert len(names) == len(measured)
    assert told.data.tags["constitution.figures_not_measured"] == str(len(figures) - len(measured))
    assert told.data.params == settings(run)
    assert told.info.status == ("FINISHED" if run.finished_at else "FAILED")


def test_what_a_later_start_says_otherwise_is_a_tag(
    experiment: Callable[[], list[Any]], uri: str, tmp_path: Path
) -> None:
    store, run = Warehouse(tmp_path / "warehouse"), replace(stored(), recipe={"output": {"window": 8}, "seed": 1})
    for each in (
        run,
        replace(run, recipe={"output": {"window": 16}, "seed": 1, "new": [1, "ü"]}, stopped="failures: x y"),
    ):
        store.write_run(each)
        log_run(store.root, run.run_id, uri)
    [told] = experiment()
    assert told.data.params == {"output.window": "8", "seed": "1", "new": '[1, "ü"]'}
    assert told.data.tags["output.window"] == "16"
    assert "seed" not in told.data.tags
    assert told.data.tags["constitution.stopped"] == "failures"  # and none of a server's words
    assert told.info.status == "FAILED"
    store.write_run(replace(run, finished_at="2026-11-30T12:00:00+00:00"))
    log_run(store.root, run.run_id, uri)
    [told] = experiment()
    assert (told.info.status, told.info.end_time) == ("FINISHED", 1_796_040_000_000)


def test_more_settings_and_figures_than_one_request_takes(
    experiment: Callable[[], list[Any]], uri: str, tmp_path: Path
) -> None:
    store = Warehouse(tmp_path / "warehouse")
    recipe = {f"setting{n}": {"x": n + 1} for n in range(250)} | {
        "long": "x" * (PARAM_MOST + 1),
        "key": "sk-" + "a" * 40,
    }
    run = replace(stored(), recipe=recipe, counts={f"count{n}": n for n in range(1500)})
    store.write_run(run)
    log_run(store.root, run.run_id, uri)
    [told] = experiment()
    assert len(told.data.params) == 252
    assert told.data.params["long"].startswith("(6,001 characters, digest ")
    assert told.data.params["key"] == "***"
    assert sum(name.startswith("counts/") for name in told.data.metrics) == 1500


def test_names_that_become_alike_are_still_two() -> None:
    judges = ["org/model:a", "org/model;a", "org/model_a", "../x", "ü" * 300, "x" * 300]
    names = [named(f"figures/kappa/{judge}") for judge in judges]
    assert len(set(names)) == len(judges)
    assert named("org/model_a 1.0-b:c") == "org/model_a 1.0-b:c"
    figures = [Figure("r", "kappa", 0.5, 10, judge=judge) for judge in judges]
    from mlflow.utils.validation import _validate_metric_name

    for name, _ in metrics_of(stored(), figures):
        _validate_metric_name(name)  # type: ignore[no-untyped-call]


def test_flows_and_the_audit_write_it_where_they_are_told_to(
    experiment: Callable[[], list[Any]], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    scene.pair()
    scene.write(tmp_path / "warehouse")

    async def flow() -> None:
        async with scheduled() as schedule:
            await schedule.end(JUDGED, str(tmp_path / "warehouse"), "audited", "")

    asyncio.run(flow())
    assert experiment() == []  # not asked for
    monkeypatch.setenv(MLFLOW, uri)
    asyncio.run(flow())
    assert len(experiment()) == 1
    monkeypatch.delenv(MLFLOW)
    words = ["--mlflow", uri, "--replicates", "100", "--out", str(tmp_path / "r.html"), "--warehouse"]
    done = CliRunner().invoke(audit_command, [*words, str(tmp_path / "warehouse")])
    assert done.exit_code == 0, done.output
    [told] = experiment()
    assert [name for name in told.data.metrics if name.startswith("figures/")]


def test_a_store_that_does_not_take_it_fails_nothing_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Warehouse(tmp_path / "warehouse")
    store.write_run(stored())
    monkeypatch.setenv(MLFLOW, "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING, "constitution"):
        log(store.root, stored().run_id)
    [said] = [record.getMessage() for record in caplog.records if record.name.startswith("constitution")]
    assert "was not written to MLflow (`constitution audit --mlflow` does it again)" in said


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constitution.telemetry.find_spec", lambda name: None)
    monkeypatch.setenv(MLFLOW, "sqlite:///x.db")
    with pytest.raises(InputError, match="MLflow is not installed"):
        check()
    monkeypatch.delenv(MLFLOW)
    check()
    result = CliRunner().invoke(app, ["run", str(small_project(tmp_path, 1)), "--mlflow", "sqlite:///x.db"])
    assert isinstance(result.exception, InputError)
