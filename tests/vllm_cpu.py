"""vLLM's CPU build in tests: what it needs of the environment, and a server of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from constitution.engines.vllm_args import serve_command
from constitution.recipe import OpenAIModel

ROOT = Path(__file__).parents[1]

os.environ |= {
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
}
os.environ.setdefault("VLLM_CACHE_ROOT", str(ROOT / ".venv-vllm" / "cache"))


@contextmanager
def serving(model: str, table: Mapping[str, Any], log: Path) -> Iterator[str]:
    """The base URL of a real server, started with the very words of `serve_command`. Raises RuntimeError with the
    end of its log where it does not start."""
    import aiohttp  # noqa: F401  # the openai engine's; a missing one would show as a server that never answers

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    words = serve_command(OpenAIModel(engine="openai", model=model, base_url=url, vllm=dict(table)))
    # The CPU build's own `vllm` script looks for a distribution named vllm, which it is not.
    assert words[:2] == ["vllm", "serve"]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", *words[2:]]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait(process, port, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-4000:]}")
