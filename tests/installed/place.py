"""An installed `constitution`, used from outside the repository, and a real Prefect server, pool and worker for it.

The commands are those beside the Python of CONSTITUTION_BIN (`make test-install` sets it), otherwise this one's.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BIN = Path(os.environ.get("CONSTITUTION_BIN", Path(sys.executable).parent))
PATIENCE = 240.0
"""Seconds that anything may take here, on a machine that is busy with other things."""
PROCESSES = ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "SSL_CERT_FILE")
"""What an empty environment has."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """Of a person who has just installed it: an empty home, nothing of this repository."""
    kept = {name: os.environ[name] for name in PROCESSES if name in os.environ}
    kept["PATH"] = f"{BIN}{os.pathsep}{kept.get('PATH', os.defpath)}"
    ours = {} if "CONSTITUTION_BIN" in os.environ else {"PYTHONPATH": str(Path(__file__).parents[2])}
    return {**kept, **ours, "HOME": str(home), "DO_NOT_TRACK": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1", **more}


def until(found: Callable[[], Any], what: str, every: float = 0.3) -> Any:
    """What `found` returns, once it is true."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        if value := found():
            return value
        time.sleep(every)
    raise AssertionError(f"it did not come to this in {PATIENCE:g} s: {what}")


@dataclass
class Place:
    """A project outside the repository, its environment, and the address of the server's API."""

    project: Path
    env: dict[str, str]
    api: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def begin(self, log: Any, *words: str) -> subprocess.Popen[bytes]:
        """A process of Prefect's command that stays."""
        line = [str(BIN / "prefect"), *words]
        return subprocess.Popen(line, cwd=self.project.parent, env=self.env, stdout=log, stderr=log)

    def begin_worker(self, log: Any = subprocess.DEVNULL) -> None:
        self.workers.append(self.begin(log, "worker", "start", "--pool", "local"))

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        line = [str(BIN / words[0]), *words[1:]]
        done = subprocess.run(
            line, cwd=self.project, env=self.env, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done

    def ask(self, path: str, **body: Any) -> Any:
        """POST to the server."""
        return self._call(path, json.dumps(body).encode())

    def get(self, path: str) -> Any:
        return self._call(path, None)

    def _call(self, path: str, data: bytes | None) -> Any:
        """Again, as Prefect's own client does, while the server is busy: its SQLite is locked at times, and at times
        Prefect's oldest release never answers a request at all."""
        request = urllib.request.Request(self.api + path, data, {"Content-Type": "application/json"})
        for left in reversed(range(10)):
            try:
                with urllib.request.urlopen(request, timeout=20) as reply:
                    return json.loads(reply.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code < 500 or not left:
                    raise AssertionError(f"{path}: {error.code}: {error.read()[:500]!r}") from error
            except OSError as error:
                if not left or isinstance(getattr(error, "reason", error), ConnectionRefusedError):
                    raise
            time.sleep(1)
        raise AssertionError

    # --- flow runs

    def start(self, deployment: str, **parameters: Any) -> str:
        """The id of a new flow run of the deployment, `flow/name`."""
        found = self.get(f"/deployments/name/{deployment}")
        made = self.ask(
            f"/deployments/{found['id']}/create_flow_run",
            parameters=parameters,
            state={"type": "SCHEDULED"},
            idempotency_key=str(uuid.uuid4()),  # asked twice where the first answer is lost, begun once
        )
        return str(made["id"])

    def run(self, flow_run: str) -> Any:
        return self.get(f"/flow_runs/{flow_run}")

    def ended(self, flow_run: str) -> Any:
        """The flow run, once it is in a state to stay in, and its process is gone."""
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        return until(lambda: (r := self.run(flow_run))["state_type"] in final and r, f"{flow_run} ends")

    def states(self, flow_run: str) -> list[str]:
        """Types of all its states, in their order."""
        return [state["type"] for state in self.get(f"/flow_run_states/?flow_run_id={flow_run}")]

    def set_state(self, flow_run: str, kind: str, name: str) -> None:
        self.ask(f"/flow_runs/{flow_run}/set_state", state={"type": kind, "name": name})

    def tasks(self, flow_run: str) -> list[Any]:
        wanted = {"flow_runs": {"id": {"any_": [flow_run]}}}
        return list(self.ask("/task_runs/filter", **wanted))

    def log(self, flow_run: str, level: int = 0) -> list[str]:
        """Messages of at least this level, once it has one: they are sent in batches."""
        wanted = {"flow_run_id": {"any_": [flow_run]}, "level": {"ge_": level}}
        logs = until(lambda: self.ask("/logs/filter", logs=wanted, sort="TIMESTAMP_ASC"), f"a log of {flow_run}")
        return [str(line["message"]) for line in logs]

    def of_deployment(self, name: str) -> list[Any]:
        wanted = {"deployments": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return list(self.ask("/flow_runs/filter", **wanted))


@contextmanager
def scheduled(folder: Path, workers: int = 1) -> Iterator[Place]:
    """A new project with its deployments, on a server with a pool and its workers, which end with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    project, home = folder / "project", folder / "home"
    home.mkdir()
    api = f"http://127.0.0.1:{port}/api"
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_WORKER_QUERY_SECONDS": "2"}
    env = environment(home, PREFECT_API_URL=api, CONSTITUTION_PROJECT=str(project), **quiet)
    place = Place(project, env, api)
    with (folder / "server.log").open("wb") as log:
        server = place.begin(log, "server", "start", "--port", str(port))
        try:
            until(lambda: _answers(place), "the server answers")
            place.project = folder
            place.command("constitution", "init", "project")
            place.project = project
            place.command("prefect", "work-pool", "create", "local", "--type", "process")
            place.command("prefect", "--no-prompt", "deploy", "--all")
            for _ in range(workers):
                place.begin_worker(log)
            try:
                yield place
            finally:
                for worker in place.workers:
                    worker.terminate()
                    _wait(worker)
        finally:
            server.terminate()
            _wait(server)


def _wait(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(30)
        return
    process.kill()
    process.wait()


def _answers(place: Place) -> bool:
    with suppress(OSError, ValueError):
        return bool(place.get("/health"))
    return False
