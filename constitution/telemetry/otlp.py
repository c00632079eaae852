"""`--otel`: traces and metrics to an OpenTelemetry collector, over OTLP/HTTP.

Where they go, what is sampled and how often is said by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_TRACES_SAMPLER, OTEL_METRIC_EXPORT_INTERVAL …); a program that has set up its own providers keeps them. Names
are those of the conventions for generative AI (open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md,
read 2026-11-30): a span a prompt (`invoke_workflow`), in it one a request (`chat`), whose id goes to the model's server
as `traceparent`, so that the server's own spans are its children.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from constitution import __version__
from constitution.engines.meter import Call
from constitution.engines.openai.http import OUTGOING
from constitution.records import Failure, Messages, Prompt
from constitution.telemetry.base import Source, ended_by, tokens_of
from constitution.telemetry.metrics import DURATION, ERROR, OPERATION, READ, TOKENS, WORKFLOW, Metric, Reading

SCOPE = "constitution"
PROMPT_ID, CONVERSATION = "constitution.prompt_id", "gen_ai.conversation.id"
WITHIN = ("vllm", "transformers", "fake")
"""Engines in this process; all others are asked elsewhere."""
LAST_SECONDS = 20.0
"""A run's end waits at most as long for what is still to be sent."""
FRESH_SECONDS = 1.0
"""What was read of the run so recently is what it says now: all instruments of one export read it."""
FINISH = {"tool_calls": "tool_call"}
"""Our words for how an answer ended → those of the conventions, where they differ."""

_logger = logging.getLogger(__name__)


class OTLPExporter:
    def __init__(self, source: Source, content: bool) -> None:
        """content: spans also hold what was asked and answered."""
        self._source = source
        self._content = content
        self._open: dict[str, Span] = {}
        """The spans of prompts in the window, by the id of their first turn."""
        self._ended = 0
        """Spans that are to be sent."""
        self._sent = _Sent()
        self._read: list[Reading] = []
        self._read_at = 0.0
        self._closed = False
        tracers, meters = self._providers()
        self._tracer = tracers.get_tracer(SCOPE, __version__)
        meter = meters.get_meter(SCOPE, __version__)
        self._histograms = {
            metric: meter.create_histogram(
                metric.name, metric.unit, metric.about, explicit_bucket_boundaries_advisory=metric.buckets
            )
            for metric in (DURATION, TOKENS, WORKFLOW)
        }
        for metric in READ:
            kind = "counter" if metric.kind == "counter" else "gauge"
            create = getattr(meter, f"create_observable_{kind}")
            create(metric.name, [self._reader(metric)], metric.unit, metric.about)

    def _providers(self) -> tuple[Any, Any]:
        """The program's, or ones of this run alone, which close with it."""
        tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
        self._own: list[Any] = []
        resource = _resource(self._source)
        self.note = "traces and metrics to the program's OpenTelemetry"
        if not isinstance(tracers, TracerProvider):
            exporter = OTLPSpanExporter()
            self._sent = _Sent(exporter)
            tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
            tracers.add_span_processor(BatchSpanProcessor(self._sent))
            self._own.append(tracers)
            self.note = f"traces and metrics to {exporter._endpoint.removesuffix('/v1/traces')}"
            _sdk.mute()  # what did not arrive is said once, at the end
        if not isinstance(meters, MeterProvider):
            reader = PeriodicExportingMetricReader(OTLPMetricExporter())
            meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
            self._own.append(meters)
        return tracers, meters

    # --- spans

    def begun(self, call: Call) -> None:
        within = self._source.providers.get(call.role, "") in WITHIN
        parent = trace.set_span_in_context(self._prompt_span(call.request.affinity, call.began))
        about = self._source.of_call(call)
        span = self._tracer.start_span(
            f"{about[OPERATION]} {call.model}",
            parent,
            SpanKind.INTERNAL if within else SpanKind.CLIENT,
            start_time=call.began,
        )
        if span.is_recording():  # what is not sampled costs little
            span.set_attributes({**self._source.of_run, **about, **self._asked(call)})
        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers, trace.set_span_in_context(span))
        OUTGOING.set(headers)
        call.note = span

    def _asked(self, call: Call) -> dict[str, Any]:
        request, sampling = call.request, call.request.sampling
        about: dict[str, Any] = {
            CONVERSATION: request.affinity,
            "gen_ai.request.max_tokens": 1 if request.choices else sampling.max_tokens,
            "gen_ai.request.seed": request.seed,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
        }
        if sampling.stop:
            about["gen_ai.request.stop_sequences"] = sampling.stop
        if self._content:
            about["gen_ai.input.messages"] = _messages(request.messages)
        return about

    def ended(self, call: Call) -> None:
        span: Span = call.note
        OUTGOING.set(None)
        about = {**self._source.of_run, **self._source.of_call(call)}
        failed = ended_by(call) if call.error else {}
        self._histograms[DURATION].record(call.seconds, about | failed)
        for kind, tokens in tokens_of(call):
            self._histograms[TOKENS].record(tokens, about | kind)
        if (done := call.completion) and span.is_recording():
            span.set_attributes(
                {
                    "gen_ai.response.finish_reasons": [FINISH.get(done.finish_reason, done.finish_reason)],
                    "gen_ai.usage.input_tokens": done.prompt_tokens,
                    "gen_ai.usage.output_tokens": done.completion_tokens,
                    "gen_ai.usage.cache_read.input_tokens": done.cached_tokens,
                    "gen_ai.usage.reasoning.output_tokens": done.reasoning_tokens,
                }
            )
            if self._content:
                span.set_attribute("gen_ai.output.messages", _answered(done.text, done.reasoning, done.finish_reason))
        self._end(span, failed.get(ERROR, ""), call.began + round(call.seconds * 1e9))

    def worked(self, prompt: Prompt, failure: Failure | None, seconds: float) -> None:
        error = failure.error if failure else ""
        about = {**self._source.of_run, **self._source.of_prompt()} | ({ERROR: error} if error else {})
        self._histograms[WORKFLOW].record(seconds, about)
        if span := self._open.pop(prompt.first_id or prompt.id, None):
            self._end(span, error)

    def _prompt_span(self, prompt_id: str, began: int) -> Span:
        """What is open for the prompt; else one that begins with this request."""
        if not (span := self._open.get(prompt_id)):
            about = {**self._source.of_run, **self._source.of_prompt(), OPERATION: "invoke_workflow"}
            span = self._open[prompt_id] = self._tracer.start_span(
                f"invoke_workflow {self._source.recipe}",
                trace.set_span_in_context(trace.INVALID_SPAN),
                attributes=about | {PROMPT_ID: prompt_id},
                start_time=began,
            )
        return span

    def _end(self, span: Span, error: str, at: int | None = None) -> None:
        if error:
            span.set_attribute(ERROR, error)
            span.set_status(Status(StatusCode.ERROR))  # without a description: an error's words may quote the data
        self._ended += span.is_recording()
        span.end(at)

    # --- metrics

    def _reader(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(options: CallbackOptions) -> Iterable[Observation]:
            for each in self._readings():
                if each.metric is metric:
                    yield Observation(each.value, {**self._source.of_run, **each.labels})

        return read

    def _readings(self) -> list[Reading]:
        if self._closed:
            return []
        if time.monotonic() - self._read_at > FRESH_SECONDS:
            self._read = self._source.read()
            self._read_at = time.monotonic()
        return self._read

    def close(self) -> None:
        for span in self._open.values():  # of prompts that were cancelled
            self._end(span, "CancelledError")
        self._read_at = 0.0

        def shut() -> None:
            try:
                for each in self._own:
                    each.shutdown()
            finally:
                if self._sent.inner:
                    _sdk.unmute()

        # A collector that does not answer would hold up the run's end.
        last = threading.Thread(target=shut, name="OpenTelemetry's end", daemon=True)
        last.start()
        last.join(LAST_SECONDS)
        self._closed = True
        if self._sent.inner and self._sent.count < self._ended:
            lost = self._ended - self._sent.count
            _logger.warning(
                "OpenTelemetry: %s of %s spans did not arrive (%s)", f"{lost:,}", f"{self._ended:,}", self.note
            )


class _Sdk:
    """The SDK's own log, which several runs of a process mute, each until its last thread has ended."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("opentelemetry")
        self._mutex = threading.Lock()
        self._muted = 0
        self._level = logging.NOTSET

    def mute(self) -> None:
        with self._mutex:
            if not self._muted:
                self._level = self._logger.level
                self._logger.setLevel(logging.CRITICAL)
            self._muted += 1

    def unmute(self) -> None:
        with self._mutex:
            self._muted -= 1
            if not self._muted:
                self._logger.setLevel(self._level)


_sdk = _Sdk()


class _Sent(SpanExporter):
    """Counts what arrived."""

    def __init__(self, inner: SpanExporter | None = None) -> None:
        self.inner = inner
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert self.inner is not None
        result = self.inner.export(spans)
        self.count += len(spans) if result is SpanExportResult.SUCCESS else 0
        return result

    def shutdown(self) -> None:
        if self.inner is not None:
            self.inner.shutdown()


def _resource(source: Source) -> Resource:
    """The process; a name that the environment gives it is kept."""
    about = {"service.version": __version__, **source.of_run}
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create(about if named else {"service.name": SCOPE, **about})


def _messages(messages: Messages) -> str:
    """As gen-ai-input-messages.json has it."""
    return json.dumps([{"role": each.role, "parts": [_text(each.content)]} for each in messages])


def _answered(text: str, reasoning: str | None, finish_reason: str) -> str:
    """As gen-ai-output-messages.json has it."""
    parts = [{"type": "reasoning", "content": reasoning}] if reasoning else []
    message = {"role": "assistant", "parts": [*parts, _text(text)]}
    return json.dumps([message | {"finish_reason": FINISH.get(finish_reason, finish_reason)}])


def _text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}
