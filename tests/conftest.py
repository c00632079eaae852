"""For all tests: no connection leaves this machine, no hub is asked, torch uses one thread, and an example of a
property may take as long as it takes, since other tests run beside it.

For tests/torture: the options of its long version, and what it counts.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# pytest-xdist's workers are told the terminal's width, and tables go by it.
os.environ.pop("COLUMNS", None)

import hypothesis
import pytest

hypothesis.settings.register_profile("beside-others", deadline=None)
hypothesis.settings.load_profile("beside-others")

# vLLM has its own environment: `make test-vllm`.
_vllm = importlib.util.find_spec("vllm")
collect_ignore = ["vllm", "model/test_model_vllm.py"] if _vllm is None or _vllm.origin is None else []
# Minutes of real servers: `make test-install`, which says so.
collect_ignore += [] if "CONSTITUTION_INSTALLED" in os.environ else ["installed"]
# A real model, from the registry: `make test-model`.
collect_ignore += [] if "CONSTITUTION_TEST_MODEL" in os.environ else ["model"]


class OutsideConnection(AssertionError):
    """A test tried to reach another machine."""


def _refuse_outside(address: Any) -> None:
    """Raises OutsideConnection for anything but a Unix socket and this machine's loopback."""
    if not isinstance(address, tuple):
        return
    host = address[0].decode() if isinstance(address[0], bytes) else str(address[0])
    if host == "localhost":
        return
    try:
        inside = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise OutsideConnection(f"a test tried to connect to {host}: tests talk to 127.0.0.1 and ::1 only")


@pytest.fixture(autouse=True, scope="session")
def _no_outside_connections() -> Iterator[None]:
    """Python's sockets, asyncio's included, refuse to connect or send anywhere but to this machine."""
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex", "sendto"):
        original = getattr(socket.socket, name)

        def guarded(self: socket.socket, *args: Any, original: Any = original) -> Any:
            _refuse_outside(args[-1])
            return original(self, *args)

        patch.setattr(socket.socket, name, guarded)
    resolve = socket.getaddrinfo

    def guarded_resolve(host: Any, *args: Any, **settings: Any) -> Any:
        if host not in (None, "", b"", "0.0.0.0", "::", socket.gethostname()):
            _refuse_outside((host,))
        return resolve(host, *args, **settings)

    patch.setattr(socket, "getaddrinfo", guarded_resolve)
    yield
    patch.undo()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("torture")
    group.addoption("--torture", action="store_true", help="the long versions of tests/torture, and what is marked so")
    group.addoption("--seed", type=int, default=1, help="of all that tests/torture draws by chance")
    group.addoption("--counts", type=Path, help="write what tests/torture counted and measured here, as JSON")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --torture, no test that is marked so; with it, only these and tests/torture."""
    full = config.getoption("--torture")
    folder = config.rootpath / "tests" / "torture"
    marked = [bool(item.get_closest_marker("torture")) for item in items]
    kept = [
        (folder in item.path.parents or mark or folder.parent not in item.path.parents) if full else not mark
        for item, mark in zip(items, marked, strict=True)
    ]
    if not all(kept):
        config.hook.pytest_deselected(items=[item for item, keep in zip(items, kept, strict=True) if not keep])
        items[:] = [item for item, keep in zip(items, kept, strict=True) if keep]


@dataclass(frozen=True)
class Torture:
    """How long the test may be, and what it reports."""

    full: bool
    """The long version: `make torture`. The short one is part of `make test`."""
    seed: int
    record: Callable[[str, object], None]

    def count(self, what: str, number: int = 1) -> None:
        """Adds to a count that is reported at the end: kills, faults, bad inputs, attacks …"""
        self.record(f"count {what}", number)

    def measure(self, what: str, value: float | str) -> None:
        """A figure that is reported at the end."""
        self.record(f"figure {what}", value)


@pytest.fixture
def torture(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Torture:
    return Torture(request.config.getoption("--torture"), request.config.getoption("--seed"), record_property)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    counts: Counter[str] = Counter()
    figures: dict[str, Any] = {}
    reports = [report for found in terminalreporter.stats.values() for report in found]
    for report in reports:
        if getattr(report, "when", "") != "call":
            continue
        for name, value in report.user_properties:
            kind, _, what = name.partition(" ")
            if kind == "count":
                counts[what] += value
            elif kind == "figure":
                figures[what] = value
    if counts and config.getoption("--torture"):
        terminalreporter.section("torture")
        for what, told in sorted(counts.items()) + sorted(figures.items()):
            terminalreporter.write_line(f"{what}: {told:,}" if isinstance(told, int) else f"{what}: {told}")
    if path := config.getoption("--counts"):
        path.write_text(json.dumps({"counts": dict(counts), "figures": figures}, indent=1))
