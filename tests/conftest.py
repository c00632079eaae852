"""For all tests: no connection leaves this machine, no hub is asked, torch uses one thread, and an example of a
property may take as long as it takes, since other tests run beside it."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
from collections.abc import Iterator
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

# vLLM has an environment of its own: `make test-vllm`.
_vllm = importlib.util.find_spec("vllm")
collect_ignore = ["vllm"] if _vllm is None or _vllm.origin is None else []


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
