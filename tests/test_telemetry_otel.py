"""Traces and metrics to an OpenTelemetry collector: what arrives, read from its protobufs."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from otlp_collector import Collector, attributes, collector
from run_once import run_once, stop_midway
from small_project import small_project
from test_telemetry import SECRET, Refusing

from constitution.cli import app
from constitution.engines import Engine
from constitution.errors import InputError
from constitution.pipeline import open_run, prepare
from constitution.recipe import FakeModel, load_recipe
from constitution.records import Run
from constitution.telemetry import CONTENT, OTEL, PROTOCOL, check
from constitution.telemetry.metrics import OBSERVED, READ
from rehearsal.server import FakeServer

PROMPTS = 8


@pytest.fixture
def otel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as here:
        set_up(monkeypatch, here.url)
        yield here


def set_up(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(OTEL, "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.delenv(CONTENT, raising=False)


async def work(recipe: Path, engines: Mapping[str, Engine] | None = None) -> Run:
    plan = prepare(load_recipe(recipe).with_engines(engines or {}), recipe, recipe.parent / "warehouse")
    async with open_run(plan) as session:
        await session.walk()
        return await session.finish()


def run(recipe: Path, engines: Mapping[str, Engine] | None = None) -> Run:
    return asyncio.run(work(recipe, engines))


def names(spans: list[Any]) -> Counter[str]:
    return Counter(span.name for span in spans)


def test_spans_of_prompts_and_of_their_requests(otel: Collector, tmp_path: Path) -> None:
    done = run(small_project(tmp_path, PROMPTS))
    spans = otel.spans()
    calls = {model: sum(used.calls for used in done.usage if used.model == model) for model in ("fake", "fake-judge")}
    found = names(spans)
    assert found == {
        "invoke_workflow priced": PROMPTS,
        "chat fake": calls["fake"],
        "chat fake-judge": calls["fake-judge"],
    }
    roots = {span.span_id: span for span in spans if not span.parent_span_id}
    assert len(roots) == len({span.trace_id for span in spans}) == PROMPTS  # a trace a prompt
    for span in spans:
        about = attributes(span.attributes)
        assert about["constitution.run_id"] == done.run_id
        assert span.kind == Span.SPAN_KIND_INTERNAL  # the fake engine is within this process
        assert span.status.code == Status.STATUS_CODE_UNSET
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span.span_id in roots:
            assert about["gen_ai.operation.name"] == "invoke_workflow"
            continue
        root = roots[span.parent_span_id]
        assert root.trace_id == span.trace_id
        assert about["gen_ai.conversation.id"] == attributes(root.attributes)["constitution.prompt_id"]
        assert root.start_time_unix_nano <= span.start_time_unix_nano
    chats = [attributes(span.attributes) for span in spans if span.parent_span_id]
    assert sum(each["gen_ai.usage.input_tokens"] for each in chats) == done.counts["prompt_tokens"]
    assert sum(each["gen_ai.usage.output_tokens"] for each in chats) == done.counts["completion_tokens"]
    assert {tuple(each["gen_ai.response.finish_reasons"]) for each in chats} <= {("stop",), ("length",)}
    resource = attributes(otel.traces[0].resource_spans[0].resource.attributes)
    assert (resource["service.name"], resource["constitution.run_id"]) == ("constitution", done.run_id)


def test_every_name_of_the_conventions_is_one_of_the_packages_own_list(otel: Collector, tmp_path: Path) -> None:
    """opentelemetry-semantic-conventions, which OpenTelemetry makes of its registry."""
    run(small_project(tmp_path, 2))
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    known |= {"gen_ai.workflow.name"}
    sent = {key for span in otel.spans() for key in attributes(span.attributes)}
    assert len(sent) > 12
    assert {key for key in sent if not key.startswith("constitution.")} <= known | {"error.type"}


def test_metrics_are_those_of_the_table_and_of_the_record(otel: Collector, tmp_path: Path) -> None:
    done = run(small_project(tmp_path, PROMPTS))

    def points(name: str) -> list[tuple[dict[str, Any], Any]]:
        metric = otel.last(name)
        kind = metric.WhichOneof("data")
        return [(attributes(point.attributes), point) for point in getattr(metric, kind).data_points]

    for metric in (*READ, *OBSERVED):
        told = otel.last(metric.name)
        if metric.name.startswith("constitution.server"):
            continue  # the fake engine has none
        assert told.unit == metric.unit
        kind = {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}[metric.kind]
        assert told.WhichOneof("data") == kind
        if kind == "sum":
            assert told.sum.is_monotonic
        if kind == "histogram":
            assert all(tuple(point.explicit_bounds) == metric.buckets for _, point in points(metric.name))
    rows = {about["constitution.table"]: point.as_int for about, point in points("constitution.rows")}
    assert {table: done.counts[table] for table in rows} == rows
    [(_, cost)] = points("constitution.cost")
    assert cost.as_double == done.cost
    used = sum(
        point.sum for about, point in points("gen_ai.client.token.usage") if about["gen_ai.token.type"] == "input"
    )
    assert used == done.counts["prompt_tokens"]
    assert sum(point.count for _, point in points("gen_ai.client.operation.duration")) == sum(
        each.calls for each in done.usage
    )
    assert [point.count for _, point in points("gen_ai.workflow.duration")] == [PROMPTS]


def test_no_text_leaves_and_errors_are_classes(otel: Collector, tmp_path: Path) -> None:
    judge = Refusing(FakeModel(engine="fake", model="strict"))
    done = run(small_project(tmp_path, PROMPTS), {"judge": judge})
    failed = [span for span in otel.spans() if span.status.code == Status.STATUS_CODE_ERROR and span.parent_span_id]
    assert len(failed) == done.engines["judge"]["failures"] > 0
    assert {attributes(span.attributes)["error.type"] for span in failed} == {"RequestRefused"}
    assert {span.status.message for span in otel.spans()} == {""}
    assert not [span for span in otel.spans() if span.events]  # where exceptions are recorded by default
    sent = b"".join(otel.raw)
    for words in (SECRET, "How does thing", "Like 3.", "thing 3 work"):
        assert words.encode() not in sent


def test_texts_are_in_spans_where_they_are_asked_for(
    otel: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the shape of gen-ai-input-messages.json and gen-ai-output-messages.json."""
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")
    run(small_project(tmp_path, 2))
    chats = [attributes(span.attributes) for span in otel.spans() if span.parent_span_id]
    asked = [json.loads(each["gen_ai.input.messages"]) for each in chats]
    assert {part["content"] for message in asked[0] for part in message["parts"]} & {
        "How does thing 0 work?", "How does thing 1 work?"}  # fmt: skip
    for each in chats:
        [answer] = json.loads(each["gen_ai.output.messages"])
        assert answer.keys() == {"role", "parts", "finish_reason"}
        assert [part["type"] for part in answer["parts"]] == ["text"]
    for message in (message for each in asked for message in each):
        assert message["role"] in ("system", "user", "assistant")
        assert all(part.keys() == {"type", "content"} for part in message["parts"])


SERVED = """
name = "served"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "openai"
model = "fake"
base_url = "{url}"
[revise]
rounds = 1
"""


async def test_a_server_is_sent_the_trace_that_its_request_is_part_of(otel: Collector, tmp_path: Path) -> None:
    """W3C trace context: by it the spans of a vLLM server are children of ours."""
    async with FakeServer() as server:
        await work(small_project(tmp_path, 3, SERVED.format(url=server.base_url)))
        headers = [{name.lower(): value for name, value in each.headers.items()} for each in server.requests]
    spans = {span.span_id.hex(): span for span in otel.spans() if span.parent_span_id}
    sent = [each["traceparent"] for each in headers if "traceparent" in each]
    assert len(sent) == len(spans) == 9
    for each in sent:
        version, trace, span, flags = each.split("-")
        assert (version, int(flags, 16) & 1, spans[span].trace_id.hex()) == ("00", 1, trace)
        assert spans[span].kind == Span.SPAN_KIND_CLIENT


@pytest.mark.parametrize("fault", ["gone", "refuses"])
def test_a_collector_that_does_not_take_it_holds_nothing_up_and_what_is_lost_is_said(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("constitution.telemetry.otlp.LAST_SECONDS", 1.0)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    recipe = small_project(tmp_path, 3)
    with collector() as here, caplog.at_level(logging.WARNING):
        here.status = 400
        with socket.socket() as shut:
            shut.bind(("127.0.0.1", 0))  # and does not listen
            set_up(monkeypatch, here.url if fault == "refuses" else f"http://127.0.0.1:{shut.getsockname()[1]}")
            began = time.monotonic()
            done = run(recipe)
            took = time.monotonic() - began
    assert done.finished_at
    assert took < done.seconds + 15
    spans = 3 + sum(used.calls for used in done.usage)
    for thread in threading.enumerate():
        if thread.name == "OpenTelemetry's end":
            thread.join(60)
    [said] = [record.getMessage() for record in caplog.records if record.name.startswith("constitution")]
    assert said.startswith(f"OpenTelemetry: {spans} of {spans} spans did not arrive (traces and metrics to http://127")
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]
    assert logging.getLogger("opentelemetry").level == logging.NOTSET


async def test_what_is_sampled_and_a_run_that_is_cancelled(
    otel: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Spans that are open when a run is stopped end with it; a sampler takes whole prompts."""
    recipe = small_project(tmp_path, 60)
    await stop_midway(recipe, recipe.parent / "warehouse", [], 5)
    stopped = [attributes(span.attributes).get("error.type") for span in otel.spans() if not span.parent_span_id]
    assert len(stopped) > 5
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    otel.traces.clear()
    await run_once(recipe, recipe.parent / "warehouse", [])
    spans = otel.spans()
    roots = {span.span_id for span in spans if not span.parent_span_id}
    assert 10 < len(roots) < 50
    assert {span.parent_span_id for span in spans} - {b""} == roots
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (OTEL, "yes", "says neither yes nor no"),
        (CONTENT, "everything", "is no value of it"),
        (PROTOCOL, "grpc", "grpc is not spoken here"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "grpc is not spoken here"),
    ],
)
def test_what_cannot_be_had_is_refused(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OTEL, "1")
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        check()


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    recipe = small_project(tmp_path, 1)
    result = CliRunner().invoke(app, ["run", str(recipe), "--otel"])
    assert isinstance(result.exception, InputError)
    assert "OpenTelemetry is not installed" in str(result.exception)
    assert result.exception.hint == "pip install 'constitution[watch]'"
