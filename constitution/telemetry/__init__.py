"""A run's metrics and traces, for those who ask for them. Off by default, and then nothing of it is imported.

    CONSTITUTION_METRICS=9400         Prometheus reads them at 127.0.0.1:9400 while the run works
    CONSTITUTION_OTEL=1               they go to an OpenTelemetry collector, with traces (extra `watch`)
    CONSTITUTION_MLFLOW=URI           the run and its figures are written to MLflow when it ends (extra `watch`)

The environment says it, so that the processes of a run's shards, and the workers of a scheduler, do the same. No text
of a prompt or an answer leaves the process, unless it is asked for by name.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from constitution.engines import Engines
from constitution.errors import InputError
from constitution.records import Run
from constitution.secrets import hide_keys
from constitution.shown import brief, printable
from constitution.telemetry.base import Exporter, Source, Telemetry

__all__ = ["METRICS", "MLFLOW", "OTEL", "Telemetry", "apart", "check", "log", "telemetry"]

METRICS, OTEL, MLFLOW = "CONSTITUTION_METRICS", "CONSTITUTION_OTEL", "CONSTITUTION_MLFLOW"
"""[HOST:]PORT; 1; the URI of a tracking server or store."""
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""OpenTelemetry's own variable for texts in spans."""
WITH, WITHOUT = ("true", "span_only", "span_and_event"), ("", "false", "no_content", "event_only")
"""Its values, in any case; of events there are none here."""
_logger = logging.getLogger(__name__)
PROTOCOL, OURS = "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"


@asynccontextmanager
async def telemetry(now: Callable[[], Run], engines: Engines, shard: str = "") -> AsyncIterator[Telemetry | None]:
    """What the environment asks for, of the run that is at work on these engines, for as long as the block lasts; None:
    nothing. now: the run's record as of now. Raises InputError for what cannot be had."""
    if not (os.environ.get(METRICS) or _otel()):
        yield None
        return
    source = Source(now, engines, shard)
    exporters: list[Exporter] = []
    try:
        for opened in _opened(source):
            exporters.append(opened)
        watching = Telemetry(tuple(exporters))
        for role, engine in engines.distinct.items():
            engine.listen(role, watching)
        yield watching
    finally:
        for each in exporters:
            await asyncio.to_thread(each.close)


def check() -> None:
    """Raises InputError for what the environment asks for and cannot be had, before anything starts."""
    if where := os.environ.get(METRICS):
        from constitution.telemetry.prometheus import address

        address(where)
    if os.environ.get(MLFLOW) and find_spec("mlflow") is None:
        raise InputError("--mlflow: MLflow is not installed", hint="pip install 'constitution[watch]'")
    if not _otel():
        return
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--otel: OpenTelemetry is not installed ({error.name})", hint="pip install 'constitution[watch]'"
        ) from None
    _content()
    for name in (PROTOCOL, PROTOCOL.replace("OTLP", "OTLP_TRACES"), PROTOCOL.replace("OTLP", "OTLP_METRICS")):
        if os.environ.get(name, OURS) != OURS:
            raise InputError(f"{name}: {os.environ[name]} is not spoken here", hint=f"set it to {OURS}, or unset it")


def apart(number: int) -> None:
    """In the process of the shard of this number, from 1, on a machine that has the others too: its port is the one
    that was asked for and the number less one."""
    if where := os.environ.get(METRICS):
        host, _, port = where.rpartition(":")
        if port.isdecimal() and int(port):  # 0: each takes a free one
            os.environ[METRICS] = f"{host}{':' if host else ''}{int(port) + number - 1}"


def log(warehouse: Path, run_id: str) -> None:
    """Writes the run, as it is in the warehouse, to MLflow, where the environment asks for it. A server that does not
    take it fails nothing: it is said, and the next call writes all of it."""
    if not (uri := os.environ.get(MLFLOW)):
        return
    check()
    from constitution.telemetry.experiments import log_run

    try:
        log_run(warehouse, run_id, uri)
    except Exception as error:  # MLflow's own, its database's, its HTTP client's
        said = printable(brief(hide_keys(f"{type(error).__name__}: {error}")))
        _logger.warning("%s was not written to MLflow (`constitution audit --mlflow` does it again): %s", run_id, said)


def _opened(source: Source) -> Iterator[Exporter]:
    check()
    if where := os.environ.get(METRICS):
        from constitution.telemetry.prometheus import PrometheusExporter

        yield PrometheusExporter(source, where)
    if _otel():
        from constitution.telemetry.otlp import OTLPExporter

        yield OTLPExporter(source, _content())


def _otel() -> bool:
    wanted = os.environ.get(OTEL, "")
    if wanted not in ("", "0", "1"):
        raise InputError(f"{OTEL}: {wanted!r} says neither yes nor no", hint="set it to 1 or 0")
    return wanted == "1" and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"


def _content() -> bool:
    """Whether spans are to hold texts."""
    wanted = os.environ.get(CONTENT, "").lower()
    if wanted not in (*WITH, *WITHOUT):
        raise InputError(f"{CONTENT}: {wanted!r} is no value of it", hint="set it to SPAN_ONLY or NO_CONTENT")
    return wanted in WITH
