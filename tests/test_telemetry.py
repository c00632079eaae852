"""Metrics of a run at work for Prometheus: what its own parser reads is what the run's record says, and holds no text
of the data."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from pipeline_run import rows_of
from prometheus_client.parser import text_string_to_metric_families
from run_once import run_once
from small_project import ROOT, small_project
from warehouse_rows import run as stored

from constitution.cli import app
from constitution.cli.run import run as run_command
from constitution.engines import Engine
from constitution.engines.base import Completion, Request
from constitution.engines.fake import FakeEngine
from constitution.errors import InputError, RequestRefused
from constitution.pipeline import open_run, prepare
from constitution.recipe import FakeModel, load_recipe
from constitution.records import Run
from constitution.telemetry import METRICS, apart
from constitution.telemetry.base import Source
from constitution.telemetry.metrics import OBSERVED, OF_RUN, PARTS, READ, TABLES, plain
from constitution.telemetry.prometheus import address

PROMPTS = 12
DASHBOARD = ROOT / "deploy" / "grafana" / "constitution.json"
NAMES = {metric.prometheus: metric for metric in (*READ, *OBSERVED)}

Samples = Mapping[str, list[tuple[Mapping[str, str], float]]]
"""By the name of the sample: labels and value."""


def scraped(note: str) -> str:
    [url] = re.findall(r"metrics at (http://\S+)", note)
    with urllib.request.urlopen(url, timeout=10) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain")
        return str(reply.read().decode())


def parsed(text: str) -> Samples:
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(value for having, value in samples[name] if labels.items() <= having.items())


async def worked(recipe: Path, engines: Mapping[str, Engine] | None = None) -> tuple[Run, str]:
    """The run's record, and what was scraped when its last prompt had ended."""
    plan = prepare(load_recipe(recipe).with_engines(engines or {}), recipe, recipe.parent / "warehouse")
    async with open_run(plan) as session:
        await session.walk()
        text = await asyncio.to_thread(scraped, session.progress.note)
        return await session.finish(), text


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, str]:
    recipe = small_project(tmp_path_factory.mktemp("watched"), PROMPTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(METRICS, "0")
        run, text = asyncio.run(worked(recipe))
    return recipe, run, text


def test_what_is_scraped_is_what_the_record_says(whole: tuple[Path, Run, str]) -> None:
    _, run, text = whole
    samples, counts = parsed(text), run.counts
    families = {re.sub(r"_(bucket|count|sum|created|total)$", "", name) for name in samples}
    assert families <= {re.sub(r"_total$", "", name) for name in NAMES}
    assert all(labels["constitution_run_id"] == run.run_id for having in samples.values() for labels, _ in having)
    assert total(samples, "constitution_prompts") == total(samples, "constitution_prompts_done") == PROMPTS
    for table in TABLES:
        assert total(samples, "constitution_rows_total", constitution_table=table) == counts[table]
    for name in PARTS:
        assert total(samples, "constitution_rows_marked_total", constitution_count=name) == counts[name]
    assert counts["kept"] > 0
    assert total(samples, "constitution_cost_total", constitution_currency="USD") == run.cost
    for kind in ("input", "cached", "output"):
        name = {"input": "prompt", "output": "completion"}.get(kind, kind)
        assert total(samples, "constitution_tokens_total", constitution_token_kind=kind) == counts[f"{name}_tokens"]
    calls = sum(used.calls for used in run.usage)
    assert total(samples, "constitution_calls_total") == calls
    assert total(samples, "constitution_requests_total") == calls  # nothing was lost, so both are the same
    assert total(samples, "gen_ai_client_operation_duration_seconds_count", error_type="") == calls
    assert 0 < total(samples, "gen_ai_client_operation_duration_seconds_sum") < run.seconds * calls
    for kind in ("input", "output"):
        told = total(samples, "gen_ai_client_token_usage_sum", gen_ai_token_type=kind)
        assert told == total(samples, "constitution_tokens_total", constitution_token_kind=kind)
    assert total(samples, "gen_ai_workflow_duration_seconds_count", gen_ai_workflow_name="priced") == PROMPTS
    assert total(samples, "constitution_requests_in_flight") == 0
    [(info, one)] = samples["constitution_run_info"]
    assert (info["constitution_recipe"], info["constitution_constitution"], one) == ("priced", "general@1.1.0", 1)


def test_the_last_buckets_hold_all(
    whole: tuple[Path, Run, str],
) -> None:
    samples = parsed(whole[2])
    for metric in OBSERVED:
        counts = samples[f"{metric.prometheus}_count"]
        full = [value for labels, value in samples[f"{metric.prometheus}_bucket"] if labels["le"] == "+Inf"]
        assert sorted(full) == sorted(value for _, value in counts)
        edges = {float(labels["le"]) for labels, _ in samples[f"{metric.prometheus}_bucket"]}
        assert edges == {*metric.buckets, float("inf")}


def test_rows_are_the_same_and_nothing_listens_where_it_was_not_asked_for(
    whole: tuple[Path, Run, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(METRICS, raising=False)
    watched, run, _ = whole
    recipe = small_project(tmp_path / "plain", PROMPTS)

    async def listeners() -> list[object]:
        plan = prepare(load_recipe(recipe), recipe, recipe.parent / "warehouse")
        async with open_run(plan) as session:
            assert session._steps is not None
            assert session._steps.telemetry is None
            engines = session._state.cost.engines
            assert engines is not None
            return [engine._listener for engine in engines.distinct.values()]

    assert asyncio.run(listeners()) == [None, None]
    plain_run = asyncio.run(run_once(recipe, recipe.parent / "warehouse", []))
    assert plain_run.run_id == run.run_id
    assert rows_of(recipe.parent / "warehouse", run.run_id) == rows_of(watched.parent / "warehouse", run.run_id)


SECRET = "the prompt in the words of the server"


class Refusing(FakeEngine):
    """Refuses every third vote, in words that quote it."""

    def __init__(self, section: FakeModel) -> None:
        super().__init__(section)
        self.asked = 0

    async def generate(self, request: Request) -> Completion:
        self.asked += 1
        if request.choices and self.asked % 3 == 0:
            raise RequestRefused(f"400: {SECRET}: {request.messages[-1].content}")
        return await super().generate(request)


async def test_failures_are_told_by_their_class_and_no_text_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(METRICS, "127.0.0.1:0")
    recipe = small_project(tmp_path, PROMPTS)
    judge = Refusing(FakeModel(engine="fake", model="strict"))
    run, text = await worked(recipe, {"judge": judge})
    samples = parsed(text)
    refused = total(samples, "constitution_requests_failed_total", constitution_role="judge")
    assert refused == run.engines["judge"]["failures"] > 0
    name = "gen_ai_client_operation_duration_seconds_count"
    assert total(samples, name, error_type="RequestRefused", constitution_step="vote") == refused
    assert total(samples, "constitution_rows_total", constitution_table="failures") == run.counts["failures"] > 0
    # Of the prompts, the answers, the principles and the errors: not one word of three in a row.
    assert SECRET not in text
    for words in ("How does thing", "Like 3", "thing 3 work"):
        assert words not in text


def test_a_run_that_is_busy_for_long_tells_nothing_rather_than_something_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constitution.telemetry.base.READ_SECONDS", 0.05)
    told: list[Any] = []

    async def busy() -> None:
        source = Source(stored, SimpleNamespace(distinct={}), "3/16")  # type: ignore[arg-type]
        told.append(await asyncio.to_thread(source.read))
        thread = threading.Thread(target=lambda: told.append(source.read()))
        thread.start()
        time.sleep(0.3)  # noqa: ASYNC251
        thread.join()

    asyncio.run(busy())
    assert len(told[0]) > len(READ)
    assert told[1] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9400", ("127.0.0.1", 9400)),
        ("0.0.0.0:9400", ("0.0.0.0", 9400)),
        ("[::1]:0", ("::1", 0)),
        ("node-7.cluster:80", ("node-7.cluster", 80)),
        ("65536", None),
        ("-1", None),
        ("::1:80", None),
        ("http://x:80", None),
        ("metrics", None),
        ("9400:", None),
    ],
)
def test_where_it_listens(text: str, expected: tuple[str, int] | None) -> None:
    if expected:
        assert address(text) == expected
        return
    with pytest.raises(InputError, match="give a port, or host:port"):
        address(text)


@pytest.mark.parametrize(
    ("asked", "third"), [("9400", "9402"), ("0.0.0.0:9400", "0.0.0.0:9402"), ("[::1]:0", "[::1]:0"), ("0", "0")]
)
def test_shards_on_one_machine_have_a_port_each(asked: str, third: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(METRICS, asked)
    apart(1)
    assert os.environ[METRICS] == asked
    apart(3)
    assert os.environ[METRICS] == third


def test_what_cannot_be_had_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(METRICS, raising=False)
    recipe = small_project(tmp_path, 1)
    wrong = CliRunner().invoke(app, ["run", str(recipe), "--metrics", "port"])
    assert isinstance(wrong.exception, InputError)
    assert METRICS not in os.environ
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv(METRICS, str(taken.getsockname()[1]))
        with pytest.raises(InputError, match="cannot listen there: Address already in use"):
            asyncio.run(worked(recipe))


def test_the_option_is_over_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(METRICS, raising=False)
    recipe = small_project(tmp_path / "p", 2)
    done = CliRunner().invoke(run_command, [str(recipe), "--metrics", "0"])
    assert done.exit_code == 0, done.output
    assert "metrics at http://127.0.0.1:" in done.output
    assert METRICS not in os.environ


# --- the dashboard

WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LANGUAGE = {"sum", "rate", "by", "count", "min", "histogram_quantile", "le"}
"""What PromQL brings, as far as the dashboard uses it."""


def queries() -> list[str]:
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def named(query: str) -> list[tuple[str, set[str]]]:
    """Each metric that a query names, with the labels that it takes of it."""
    bare = re.sub(r'"[^"]*"', '""', query)
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", bare) for label in group.split(",")}
    selected = re.findall(r"([a-zA-Z_:]\w*)\{([^}]*)\}", bare)
    rest = re.sub(r"by \([^)]*\)|\{[^}]*\}|\[[^\]]*\]", "", bare)
    assert sorted(set(WORD.findall(rest)) - LANGUAGE) == sorted({name for name, _ in selected}), query
    return [(name, grouped | set(re.findall(r"([a-zA-Z_]\w*)\s*[=!]", matchers))) for name, matchers in selected]


def test_every_query_of_the_dashboard_names_metrics_and_labels_that_a_run_exports(
    whole: tuple[Path, Run, str],
) -> None:
    exported = {name: set().union(*(labels for labels, _ in having)) for name, having in parsed(whole[2]).items()}
    # The fake engine has no servers; the names are the table's all the same.
    for metric in READ:
        name = metric.prometheus + ("_total" if metric.kind == "counter" else "")
        exported.setdefault(name, {plain(label) for label in (*OF_RUN, *metric.labels)})
    assert len(queries()) >= 15
    for query in queries():
        asked = named(query)
        assert asked, query
        for name, labels in asked:
            assert name in exported, query
            assert "constitution_run_id" in labels, query
            assert labels <= exported[name], (query, labels - exported[name])


def test_the_dashboard_is_a_classic_one_of_grafana() -> None:
    """As the documentation of its JSON model has it: a grid of 24 columns, unique ids, a data source that is chosen."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time", "refresh"} <= board.keys()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables.keys() == {"datasource", "run"}
    assert "label_values(constitution_run_info, constitution_run_id)" in json.dumps(variables["run"])
