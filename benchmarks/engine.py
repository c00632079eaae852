"""What do we cost over the engine itself? Clients side by side on the simulated server, each with a core of its own.

    make bench-engine                          about ten minutes
    python -m benchmarks.engine --quick        400 prompts, to see that it works
    python -m benchmarks.engine --only fast    one part: real, fast, flood, memory, peers

Every trial has a new server and does the same job: so many prompts × 5 calls (initial, critique, revision, votes AB and
BA), 256 prompts in flight. Trials are interleaved and medians compared. After each one the server's counter must say 5
calls a prompt, and of ours every row must lie in the warehouse.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.engine_report import Trial, markdown, put_into, verdicts, write_results
from benchmarks.sim_engine import WORDS
from constitution.warehouse import ask, connect

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "build" / "bench" / "bin" / "python"
"""The server's environment (uvloop), made by the Makefile."""
PEERS = ROOT / "build" / "peers"
CALLS = 5
"""A prompt."""
CORES = sorted(os.sched_getaffinity(0))
RECIPE = """
name = "bench"
constitution = "general@1.1.0"

[prompts]
path = "prompts.jsonl"

[model.policy]
engine = "openai"
model = "sim"
base_url = "{base_url}"
dialect = "vllm"
concurrency = 512

[revise]
rounds = 1
principles = ["answers-the-request"]
exemplars = 0

[judge]
only = ["answers-the-request"]

[output]
window = 256
"""


@dataclass(frozen=True)
class Job:
    """What a client is given."""

    base_url: str
    folder: Path
    prompts: int

    @property
    def file(self) -> Path:
        return self.folder / "prompts.jsonl"

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse"

    def recipe(self) -> Path:
        """Ours: a project folder with the recipe."""
        (self.folder / "principles").symlink_to(ROOT / "principles")
        path = self.folder / "bench.toml"
        path.write_text(RECIPE.format(base_url=self.base_url))
        return path


Command = Callable[[Job], list[str]]


def bare(job: Job) -> list[str]:
    return [sys.executable, "-m", "benchmarks.bare", "--base-url", job.base_url, "--prompts", str(job.file)]


def ours(job: Job) -> list[str]:
    return [sys.executable, "-m", "benchmarks.ours", str(job.recipe()), str(job.warehouse)]


def command(job: Job) -> list[str]:
    constitution = str(Path(sys.executable).parent / "constitution")
    return [constitution, "run", str(job.recipe()), "--warehouse", str(job.warehouse)]


def peer(module: str, *more: str) -> Command:
    """A script of benchmarks/peers in its own environment."""

    def line(job: Job) -> list[str]:
        python = PEERS / module / "bin" / "python"
        given = ["--base-url", job.base_url, "--prompts", str(job.file), "--out", str(job.folder)]
        return [str(python), "-m", f"benchmarks.peers.{module}", *given, *more]

    return line


CLIENTS: dict[str, Command] = {"bare": bare, "ours": ours, "command": command}
PEER_CLIENTS: dict[str, Command] = {
    "datatrove": peer("datatrove"),
    "datatrove, checkpoints": peer("datatrove", "--checkpoints"),
    "data-designer": peer("datadesigner"),
    "inspect_ai": peer("inspect"),
    "curator": peer("curator"),
    "distilabel": peer("distilabel"),
}
PEER_PROMPTS = 1000
"""Fewer than ours: some are slow."""


QUIET = {
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "DISTILABEL_LOG_LEVEL": "WARNING",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "NEMO_TELEMETRY_ENABLED": "false",
    "OPENAI_API_KEY": "none",
    "SIM_API_KEY": "none",
    "TELEMETRY_ENABLED": "false",
}
"""Environment of the clients: no telemetry, no line of log for every request."""


def environment(folder: Path) -> dict[str, str]:
    """What clients are started with; what they keep under their home goes to `folder`."""
    variables = os.environ | QUIET | {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder), "HOME": str(folder)}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    # Two peers count tokens with tiktoken, which downloads its tables; litellm carries them.
    for tables in PEERS.glob("*/lib/*/site-packages/litellm/litellm_core_utils/tokenizers"):
        variables["TIKTOKEN_CACHE_DIR"] = str(tables)
    return variables


def write_prompts(path: Path, count: int, words: tuple[int, int] = (60, 150)) -> None:
    """Requests of so many words, from and to, always the same, each with a number of its own."""
    generator = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = " ".join(generator.choices(WORDS, k=generator.randint(*words)))
            file.write(json.dumps({"prompt": f"Question {number}. {text.capitalize()}?"}) + "\n")


@contextmanager
def server(speed: float) -> Iterator[str]:
    """A new simulated server on the first core; gives its address."""
    python = str(BENCH) if BENCH.exists() else sys.executable
    line = [python, "-m", "benchmarks.sim_server", "--port", "0", "--speed", str(speed)]
    with on_core(CORES[0]):
        process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes that are started in this block stay on one core."""
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


def run(name: str, line: Command, prompts: int, speed: float) -> Trial:
    """One client's job on the last core. Raises SystemExit where it did not do all of it."""
    with tempfile.TemporaryDirectory() as folder, server(speed) as base_url:
        job = Job(base_url, Path(folder), prompts)
        write_prompts(job.file, prompts)
        with (job.folder / "stdout").open("w+") as out, (job.folder / "stderr").open("w+") as err:
            started = time.monotonic()
            with on_core(CORES[-1]):
                process = subprocess.Popen(line(job), cwd=ROOT, env=environment(job.folder), stdout=out, stderr=err)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            ended = time.monotonic()
            out.seek(0)
            err.seek(0)
            said, complaints = out.read(), err.read()
        if process.returncode:
            raise SystemExit(f"{name} ended with {process.returncode}:\n{said[-2000:]}\n{complaints[-4000:]}")
        with urllib.request.urlopen(base_url.removesuffix("/v1") + "/stats") as reply:
            stats = json.load(reply)
        total_cpu = usage.ru_utime + usage.ru_stime
        # The command prints for people: of it the whole process counts, start-up and Prefect's server included.
        last = said.strip().rpartition("\n")[2] if name != "command" else "{}"
        trial = figures(name, json.loads(last), started, ended - started, total_cpu, stats)
        check(name, job, trial)
    click.echo(
        f"  {name:<12} {prompts:>6} prompts at {speed:g}x: {trial.wall_s:6.1f} s "
        f"({trial.wall_s - trial.server_wall_s:.1f} s outside the calls), "
        f"{trial.cpu_per_1000:5.2f} CPU s per 1,000, "
        f"slots {trial.utilisation:.3f}, {trial.peak_rss_mib:.0f} MiB, server {trial.server_us:.0f} µs a call",
        err=True,
    )
    return trial


def figures(
    name: str, own: dict[str, Any], started: float, lasted: float, total_cpu: float, stats: dict[str, Any]
) -> Trial:
    """`own`: what the client said of itself, empty where it says nothing; `total_cpu`: with all children."""
    processes = bool(own.get("processes"))
    return Trial(
        client=name,
        prompts=own.get("prompts", stats["replies"] // CALLS),
        wall_s=own.get("wall_s", lasted),
        # Children that the client has not waited for are in the system's account of the whole process only.
        cpu_s=total_cpu - own["startup_cpu_s"] if processes else own.get("cpu_s", total_cpu),
        startup_s=own["begun"] - started if own else 0.0,
        startup_cpu_s=own.get("startup_cpu_s", 0.0),
        peak_rss_mib=own.get("peak_rss_mib", 0.0),
        server_wall_s=stats["wall_s"],
        utilisation=stats["utilisation"],
        server_cpu_s=stats["cpu_s"],
        replies=stats["replies"],
        cached_share=stats["cached_tokens"] / stats["prompt_tokens"],
        note=own.get("note", ""),
    )


def check(name: str, job: Job, trial: Trial) -> None:
    """Raises SystemExit unless every call was made and, of ours, every row is stored."""
    if trial.replies != CALLS * job.prompts or trial.prompts != job.prompts:
        raise SystemExit(
            f"{name}: {trial.replies} calls for {trial.prompts} of {job.prompts} prompts, not {CALLS} each"
        )
    if name not in ("ours", "command"):
        return
    counted = """SELECT (SELECT count(*) FROM responses), (SELECT count(*) FROM judgements),
        (SELECT count(*) FROM failures), count(*), count(DISTINCT prompt_id) FROM preferences"""
    with connect(job.warehouse) as connection:
        [rows] = ask(connection, counted).rows
    n = job.prompts
    if tuple(rows) != (2 * n, 2 * n, 0, n, n):
        raise SystemExit(f"{name}: the warehouse holds {rows}, expected {(2 * n, 2 * n, 0, n, n)}")


def parts(only: tuple[str, ...], prompts: int, repeats: int) -> Iterator[tuple[str, str, int, float]]:
    """(part, client, prompts, speed) of each trial, in order."""
    if "real" in only:
        yield from (("real", name, prompts, 1.0) for name in ("bare", "ours", "command"))
    if "fast" in only:
        yield from (("fast", name, prompts, 10.0) for _ in range(repeats) for name in ("bare", "ours"))
    if "flood" in only:
        yield from (("flood", name, prompts, 100.0) for _ in range(repeats) for name in ("bare", "ours"))
    if "memory" in only:
        yield from (("memory", "ours", count, 10.0) for count in (prompts, 10 * prompts))


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="400 prompts, each trial once, no memory part.")
@click.option("--only", multiple=True, type=click.Choice(["real", "fast", "flood", "memory", "peers"]))
@click.option("--peers", is_flag=True, help="Also the peers that are set up (make bench-peers).")
@click.option("--prompts", default=4000, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--repeats",
    default=3,
    show_default=True,
    type=click.IntRange(min=1),
    help="Of the trials at ten-fold and hundred-fold speed.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures here as JSON and as a Markdown table.")
@click.option("--page", type=click.Path(path_type=Path, exists=True), help="Put the table into this page too.")
def main(
    quick: bool,
    only: tuple[str, ...],
    peers: bool,
    prompts: int,
    repeats: int,
    out: Path | None,
    page: Path | None,
) -> None:
    if len(CORES) < 2:
        click.echo("one core only: client and server share it, and the figures mean little", err=True)
    if quick:
        prompts, repeats = 400, 1
    only = only or (("real", "fast") if quick else ("real", "fast", "flood", "memory"))
    trials: dict[str, list[Trial]] = {}
    for part, name, count, speed in parts(only, prompts, repeats):
        trials.setdefault(part, []).append(run(name, CLIENTS[name], count, speed))
    if peers or "peers" in only:
        trials["peers"] = list(peer_trials(100 if quick else PEER_PROMPTS))
    found = verdicts(trials)
    text = markdown(trials)
    click.echo(text)
    for verdict in found:
        click.echo(str(verdict))
    if out is not None:
        figures = {part: [asdict(trial) for trial in done] for part, done in trials.items()}
        written = write_results(out, text, found, figures)
        if page is not None:
            page.write_text(put_into(page.read_text(), f"bench-{out.stem}", written))
    if not all(verdict.passes for verdict in found):
        sys.exit(1)


def peer_trials(prompts: int) -> Iterator[Trial]:
    """Bare, ours, and each peer that is set up; one that fails is told and left out."""
    for name in ("bare", "ours"):
        yield run(name, CLIENTS[name], prompts, 10.0)
    for name, line in PEER_CLIENTS.items():
        try:
            yield run(name, line, prompts, 10.0)
        except (OSError, SystemExit) as failure:
            click.echo(f"  {name} does not run here: {failure}", err=True)


if __name__ == "__main__":
    main()
