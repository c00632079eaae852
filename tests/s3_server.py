"""An S3 server on 127.0.0.1 with the faults of real ones: moto, which keeps the objects, behind a small layer of ours.
The layer also speaks what of Google Cloud Storage's XML API is not S3's: gs://BUCKET is the same bucket.

    with S3Server() as server:
        monkeypatch.setenv(...)  # each of server.environment: what obstore, DuckDB and child processes go by
        server.faults = Faults(slow_down=0.1, lost=0.05, stale=3)
        ... server.url ...  # s3://BUCKET

    python tests/s3_server.py --port 8000 --latency 0.005   # as a process; prints its environment as JSON

Conditional puts are atomic, which moto's are not under threads. Which request meets a fault follows from the seed, the
request and how often the same was made before, so that the order among threads or processes changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from io import BytesIO
from typing import Any, NoReturn
from urllib.parse import quote, unquote, unquote_plus
from xml.sax.saxutils import unescape

import click
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.models import s3_backends
from werkzeug.http import http_date
from werkzeug.serving import make_server
from werkzeug.test import Client

CUT, REFUSED, LOST, TIMEOUT, LATE = "cut", "refused", "lost", "timeout", "late"
ANSWERS = {
    "slow_down": ("503 Slow Down", "SlowDown", "Please reduce your request rate."),
    "internal": ("500 Internal Server Error", "InternalError", "We encountered an internal error. Please try again."),
    "conflict": (
        "409 Conflict",
        "ConditionalRequestConflict",
        "The conditional request cannot succeed due to a conflicting operation against this resource.",
    ),
}
"""Errors of Amazon S3's API reference, "Error responses"; each is answered and nothing is done."""


_OWNER = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"
_NO_KEY = {"client_email": "", "private_key": "", "private_key_id": ""}
_IF_GENERATION = "HTTP_X_GOOG_IF_GENERATION_MATCH"


@dataclass(frozen=True)
class Faults:
    """Shares of the requests that meet each fault: 0 to 1 each, and 1 in all."""

    slow_down: float = 0.0
    """503 SlowDown; nothing is done."""
    internal: float = 0.0
    """500 InternalError; nothing is done."""
    conflict: float = 0.0
    """Of the conditional puts: 409 ConditionalRequestConflict; nothing is done."""
    refused: float = 0.0
    """The connection is cut before anything is done."""
    lost: float = 0.0
    """Done, and the connection is cut before the reply."""
    cut: float = 0.0
    """Of the downloads: the connection is cut after half of the body."""
    timeout: float = 0.0
    """No reply for `timeout_s`, then the connection is cut; nothing is done."""
    late: float = 0.0
    """Done, no reply for `timeout_s`, then the connection is cut."""
    latency: float = 0.0
    """Seconds before anything is done."""
    timeout_s: float = 3.0
    stale: int = 0
    """Writes that lists do not show yet: what was put is missing, what was deleted is there, what was changed is as it
    was."""
    seed: int = 1
    chosen: Callable[[Request], str | None] | None = None
    """The fault of a request, by its name; None: as the shares have it, "": none."""

    def of(self, request: Request, nth: int) -> str:
        """The name of the fault that the request meets, made for the nth time; "" for none."""
        if self.chosen is not None and (name := self.chosen(request)) is not None:
            return name
        text = f"{self.seed}/{request.method}/{request.key}/{request.query}/{nth}"
        point = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
        for name in (*ANSWERS, REFUSED, LOST, CUT, TIMEOUT, LATE):
            point -= getattr(self, name)
            if point < 0:
                able = {CUT: request.method == "GET", "conflict": bool(request.condition)}
                return name if able.get(name, True) else ""
        return ""


@dataclass
class Request:
    """What a client asked, and what became of it."""

    number: int
    method: str
    key: str
    """"" for the bucket itself: lists, deletions of several."""
    query: str
    condition: str
    """`create` (If-None-Match: *; generation 0), `match` (If-Match; a generation) or ""."""
    client: str = ""
    """Its access key."""
    fault: str = ""
    status: int = 0
    """Of the store's answer, whether or not the client got it; 0: not done."""


@dataclass
class S3Server:
    """Listens while the block lasts. All in one process share moto's memory, each with its own bucket."""

    faults: Faults = Faults()
    port: int = 0
    """0: a free one."""
    before: Callable[[Request], None] = lambda request: None
    """Called with each request before anything is done: a test may kill the client here."""
    after: Callable[[Request], None] = lambda request: None
    """Called when the store has done it, before the client hears of it."""
    requests: list[Request] = field(default_factory=list)
    """All so far."""
    clocks: dict[str, float] = field(default_factory=dict)
    """By access key, how many seconds this client's clock is ahead of the store's: it sees the store's times that much
    earlier."""

    def __post_init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.bucket = f"warehouse{secrets.token_hex(4)}"
        self._app: Any = create_backend_app("s3")
        self._inside = Client(self._app)
        self._made: Counter[tuple[str, str, str]] = Counter()
        self._generations: Counter[str] = Counter()
        """Writes of each key, which Google's conditions go by."""
        self._numbers = threading.Lock()
        self._writes = threading.Lock()
        self._was: deque[tuple[str, str]] = deque(maxlen=1000)
        """Before each of the last writes: its key and its entry in a list, "" for none."""

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """By which clients find and use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps({"gcs_base_url": self.endpoint, "disable_oauth": True, **_NO_KEY}),
            "GOOGLE_ALLOW_HTTP": "true",
        }

    def __enter__(self) -> S3Server:
        self._ask("PUT", "")
        self._kept = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[self.bucket].keys
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=partial(self._server.serve_forever, poll_interval=0.05), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._kept.clear()

    def count(self, fault: str) -> int:
        """Requests so far that met it."""
        return sum(request.fault == fault for request in self.requests)

    # Objects as they are, past all faults

    @property
    def keys(self) -> list[str]:
        return sorted(self._kept)

    def read(self, key: str) -> bytes:
        return self._ask("GET", key)

    def write(self, key: str, data: bytes) -> None:
        self._ask("PUT", key, data=data)

    def delete(self, key: str) -> None:
        self._ask("DELETE", key)

    def _ask(self, method: str, key: str, **settings: Any) -> bytes:
        """As its owner: what is not signed may not read."""
        path = f"/{self.bucket}/{quote(key)}" if key else f"/{self.bucket}"
        reply = self._inside.open(path, method=method, headers={"Authorization": _OWNER}, **settings)
        if reply.status_code >= 300:
            raise FileNotFoundError(f"{method} {key}: {reply.status}")
        return bytes(reply.data)

    # What a request goes through

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request, faults = self._heard(environ), self.faults
        size = int(environ.get("CONTENT_LENGTH") or 0)
        sent = environ["wsgi.input"].read(size)
        if len(sent) < size:
            _hang_up(environ, "the client fell while it sent")
        environ["wsgi.input"] = BytesIO(sent)
        self.before(request)
        time.sleep(faults.latency)
        if request.fault in ANSWERS:
            status, code, message = ANSWERS[request.fault]
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        if request.fault == TIMEOUT:
            time.sleep(faults.timeout_s)
        if request.fault in (REFUSED, TIMEOUT):
            _hang_up(environ, request.fault)
        answer: list[Any] = []
        body = self._done(request, environ, sent, lambda *words: answer.extend(words))
        request.status = int(answer[0].split()[0])
        self.after(request)
        if request.fault == LATE:
            time.sleep(faults.timeout_s)
        if request.fault in (LOST, LATE):
            _hang_up(environ, request.fault)
        headers = [(name, str(len(body)) if name == "Content-Length" and body else value) for name, value in answer[1]]
        start(answer[0], headers)
        return _half(environ, body) if request.fault == CUT else [body]

    def _heard(self, environ: dict[str, Any]) -> Request:
        # Raw, since a key may hold an escape.
        key = environ["RAW_URI"].partition("?")[0].removeprefix("/").partition("/")[2]
        generation = environ.get(_IF_GENERATION, "")
        creates = "HTTP_IF_NONE_MATCH" in environ or generation == "0"
        condition = "create" if creates else "match" if generation or "HTTP_IF_MATCH" in environ else ""
        method, query = environ["REQUEST_METHOD"], environ["QUERY_STRING"]
        client = re.search("Credential=([^/]*)", environ.get("HTTP_AUTHORIZATION", ""))
        with self._numbers:
            request = Request(len(self.requests), method, unquote(key), query, condition, client[1] if client else "")
            self.requests.append(request)
            self._made[method, key, query] += 1
            request.fault = self.faults.of(request, self._made[method, key, query])
        return request

    def _done(self, request: Request, environ: dict[str, Any], sent: bytes, start: Callable[..., Any]) -> bytes:
        """The store's answer; of writes, one at a time."""
        environ.setdefault("HTTP_AUTHORIZATION", _OWNER)
        if request.method in ("GET", "HEAD"):
            body = b"".join(self._app(environ, self._headed(request, start)))
            lists = request.method == "GET" and "list-type=2" in request.query
            return self._stale(body, request) if lists and self.faults.stale else body
        with self._writes:
            keys = [request.key] if request.key else [unescape(key) for key in _KEY.findall(sent.decode())]
            entries = [(key, self._entry_of(key)) for key in keys] if self.faults.stale else []
            wanted = environ.get(_IF_GENERATION)
            if wanted and int(wanted) != (self._generations[request.key] if request.key in self._kept else 0):
                start("412 Precondition Failed", [("Content-Length", "0")])
                return b""
            self._generations.update(dict.fromkeys(keys, 1))
            body = b"".join(self._app(environ, self._headed(request, start)))
            self._was.extend(entries)
            return body

    def _headed(self, request: Request, start: Callable[..., Any]) -> Callable[..., Any]:
        """`start`, with Google's generation, and the time by the client's clock."""

        def begin(status: str, headers: list[tuple[str, str]]) -> Any:
            ahead = timedelta(seconds=self.clocks.get(request.client, 0.0))
            mine = [("x-goog-generation", str(self._generations[request.key]))]
            for name, value in headers:
                shifts = ahead and name.lower() == "last-modified"
                mine.append((name, http_date(parsedate_to_datetime(value) - ahead) if shifts else value))
            return start(status, mine)

        return begin

    # Stale lists

    def _entry_of(self, key: str) -> str:
        listed = self._ask("GET", "", query_string={"list-type": 2, "prefix": key})
        return dict(_entries(listed.decode())).get(key, "")

    def _stale(self, body: bytes, request: Request) -> bytes:
        """The list before the last writes."""
        text = body.decode()
        prefix = unquote_plus(found[1]) if (found := re.search(r"(?:^|&)prefix=([^&]*)", request.query)) else ""
        entries, said = dict(_entries(text)), list(self._was)[-self.faults.stale :]
        for key, entry in reversed(said):
            if key.startswith(prefix):
                entries[key] = entry
        shown = "".join(entries[key] for key in sorted(entries))
        bare = _ENTRY.sub("", text)
        return bare.replace("</ListBucketResult>", f"{shown}</ListBucketResult>").encode()


_KEY = re.compile(r"<Key>(.*?)</Key>", re.S)
_ENTRY = re.compile(r"<Contents>\s*<Key>(.*?)</Key>.*?</Contents>", re.S)


def _entries(listed: str) -> Iterator[tuple[str, str]]:
    """Of a list's reply: each object's key and its entry."""
    for found in _ENTRY.finditer(listed):
        yield unescape(found[1]), found[0]


def _half(environ: dict[str, Any], body: bytes) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    _hang_up(environ, CUT)


def _hang_up(environ: dict[str, Any], reason: str) -> NoReturn:
    with suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError(reason)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for each in fields(Faults):
        if isinstance(each.default, (int, float)):
            name = f"--{each.name.replace('_', '-')}"
            command = click.option(name, type=type(each.default), default=each.default, show_default=True)(command)
    return command


@click.command()
@click.option("--port", default=0, help="0: a free one.")
@_options
def main(port: int, **faults: Any) -> None:
    """Serves until it is killed; prints the environment for clients, and CONSTITUTION_URL, as a line of JSON."""
    with S3Server(Faults(**faults), port) as server:
        click.echo(json.dumps({**server.environment, "CONSTITUTION_URL": server.url}))
        threading.Event().wait()


if __name__ == "__main__":
    main()
