"""`--metrics [HOST:]PORT`: the run's metrics at /metrics, in Prometheus' text format, while it works."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from constitution.engines.meter import Call
from constitution.errors import InputError
from constitution.records import Failure, Prompt
from constitution.telemetry.base import Source, ended_by, tokens_of
from constitution.telemetry.metrics import DURATION, OBSERVED, OF_RUN, READ, TOKENS, WORKFLOW, Metric, plain

LOOPBACK = "127.0.0.1"
MOST = 65535


def address(text: str) -> tuple[str, int]:
    """Host and port of `9400`, `0.0.0.0:9400` or `[::]:9400`; a port alone listens to this machine. Port 0: one that is
    free. Raises InputError."""
    host, _, port = text.rpartition(":")
    if not (port.isdecimal() and int(port) <= MOST) or (":" in host and not host.startswith("[")):
        raise InputError(f"--metrics {text}: give a port, or host:port", hint="such as 9400 or 0.0.0.0:9400")
    return host.strip("[]") or LOOPBACK, int(port)


class PrometheusExporter:
    """An endpoint of the run's own, with no metrics of the process or of other runs."""

    def __init__(self, source: Source, where: str) -> None:
        """Raises InputError for a port that is not to be had."""
        self._source = source
        registry = CollectorRegistry()
        self._histograms = {
            metric: Histogram(
                metric.prometheus,
                metric.about,
                [plain(label) for label in (*OF_RUN, *metric.labels)],
                buckets=metric.buckets,
                registry=registry,
            )
            for metric in OBSERVED
        }
        self._cells: dict[tuple[str, ...], Histogram] = {}
        registry.register(_Readings(source))
        host, port = address(where)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise InputError(
                f"--metrics {where}: cannot listen there: {error.strerror or error}",
                hint="name another port; 0 takes one that is free",
            ) from None
        shown = f"[{host}]" if ":" in host else host
        self.note = f"metrics at http://{shown}:{self._server.server_port}/metrics"

    def begun(self, call: Call) -> None:
        return

    def ended(self, call: Call) -> None:
        about = self._source.of_call(call)
        self._observe(DURATION, about | ended_by(call), call.seconds)
        for kind, tokens in tokens_of(call):
            self._observe(TOKENS, about | kind, tokens)

    def worked(self, prompt: Prompt, failure: Failure | None, seconds: float) -> None:
        self._observe(WORKFLOW, self._source.of_prompt(), seconds)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _observe(self, metric: Metric, labels: dict[str, str], value: float) -> None:
        of_run = self._source.of_run
        values = (metric.name, *(of_run[name] for name in OF_RUN), *(labels[name] for name in metric.labels))
        cell = self._cells.get(values)
        if cell is None:
            cell = self._cells[values] = self._histograms[metric].labels(*values[1:])
        cell.observe(value)


class _Readings(Collector):
    """What is read of the run's record when Prometheus asks."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def describe(self) -> list[GaugeMetricFamily]:
        return []  # or it would be collected at once, on the run's own loop

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric in READ:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            labels = [plain(label) for label in (*OF_RUN, *metric.labels)]
            families[metric.name] = kind(metric.prometheus, metric.about, labels=labels)
        of_run = [self._source.of_run[name] for name in OF_RUN]
        for metric, found, value in self._source.read():
            families[metric.name].add_metric([*of_run, *(found[label] for label in metric.labels)], value)
        yield from families.values()
