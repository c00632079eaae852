"""An OpenTelemetry collector of OTLP/HTTP on 127.0.0.1: keeps what arrives, as its protobufs say it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


class Collector:
    def __init__(self) -> None:
        self.status = 200
        """What it answers with."""
        self.raw: list[bytes] = []
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.url = ""

    def spans(self) -> list[Any]:
        return [span for each in self.traces for of in each.resource_spans for scope in of.scope_spans
                for span in scope.spans]  # fmt: skip

    def last(self, name: str) -> Any:
        """The metric of this name, as it was sent last."""
        found = [metric for each in self.metrics for of in each.resource_metrics for scope in of.scope_metrics
                 for metric in scope.metrics if metric.name == name]  # fmt: skip
        return found[-1] if found else None

    def take(self, path: str, body: bytes) -> bytes:
        self.raw.append(body)
        if path == "/v1/traces":
            self.traces.append(ExportTraceServiceRequest.FromString(body))
            return bytes(ExportTraceServiceResponse().SerializeToString())
        assert path == "/v1/metrics", path
        self.metrics.append(ExportMetricsServiceRequest.FromString(body))
        return bytes(ExportMetricsServiceResponse().SerializeToString())


def attributes(pairs: Any) -> dict[str, Any]:
    """Of a span, a point or a resource."""

    def value(of: AnyValue) -> Any:
        kind = of.WhichOneof("value")
        return [value(each) for each in of.array_value.values] if kind == "array_value" else getattr(of, str(kind))

    read: list[KeyValue] = list(pairs)
    assert len({pair.key for pair in read}) == len(read)
    return {pair.key: value(pair.value) for pair in read}


@contextmanager
def collector() -> Iterator[Collector]:
    here = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.headers["Content-Type"] == "application/x-protobuf"
            reply = here.take(self.path, body) if here.status == 200 else b""
            self.send_response(here.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
