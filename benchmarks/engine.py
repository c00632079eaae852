"""What do we cost over the engine itself? Clients side by side on the simulated server, each on its own core.

    make bench-engine                          about ten minutes
    python -m benchmarks.engine --quick        400 prompts, to see that it works
    python -m benchmarks.engine --only long    one part: real, fast, long, flood, memory, profile, peers
    make bench-samples                         the parts fast, samples, prefixes, samples-memory

Every trial has a new server and does the same job: prompts × 5 calls, 256 prompts in flight. The calls are an initial
answer, critique, revision and two votes (AB and BA); in the part `long` they are an answer and two rounds of critique
and revision, each of the length that answers have (log-normal, median 120 tokens, at most 512). Trials are interleaved;
a verdict is the median of the ratios of neighbours, because a machine's speed drifts by more than what is looked for.
The parts of samples have a tenth of the prompts (of memory a quarter), eight samples to each and seven criteria to each
of these. After each trial the server's counter must say how many calls a prompt takes, and of ours every row must be in
the warehouse.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.engine_clients import CLIENTS, PARTS, PEER_PROMPTS, ROOT, Job, Part, environment, write_prompts
from benchmarks.job import QUESTIONS, SAMPLES
from benchmarks.results import Table, Verdict, finish, options
from constitution.warehouse import ask, connect

BENCH = ROOT / "build" / "bench" / "bin" / "python"
"""The server's environment (uvloop), made by the Makefile."""
CORES = sorted(os.sched_getaffinity(0))
OURS = ("ours", "command", "profile")


GROWTH = {"memory": 10, "samples-memory": 5}
"""Parts that are run with more prompts too: how many times as many."""


@dataclass(frozen=True)
class Trial:
    """One client's job. Seconds of a client run from the first prompt that it reads to the last row on disk."""

    client: str
    prompts: int
    wall_s: float
    cpu_s: float
    startup_s: float
    """From the start of the process to the first prompt: imports. 0: not known."""
    startup_cpu_s: float
    peak_rss_mib: float
    """Of the client's main process; 0: not known."""
    server_wall_s: float
    """From the first request to the last reply."""
    utilisation: float
    """Held slot-seconds over those there were in that time."""
    replies: int
    cached: float
    """Share of the prompts' tokens that the engine had in its prefix cache."""
    traffic_mb: float
    """10^6 bytes of requests and replies, headers among them."""
    server_cpu_s: float
    profile: Mapping[str, float]
    """CPU seconds by what they were spent in; empty where it was not asked for."""

    @property
    def cpu_per_1000(self) -> float:
        """CPU seconds per 1,000 prompts."""
        return 1000 * self.cpu_s / self.prompts

    @property
    def cpu_per_call(self) -> float:
        """CPU seconds."""
        return self.cpu_s / self.replies

    @property
    def prompts_per_s(self) -> float:
        return self.prompts / self.wall_s


@contextmanager
def server(part: Part) -> Iterator[str]:
    """A new simulated server on the first core; gives its address."""
    python = str(BENCH) if BENCH.exists() else sys.executable
    line = [python, "-m", "benchmarks.sim_server", "--port", "0", "--speed", str(part.speed)]
    line += ["--median-tokens", str(part.median_tokens), "--cache-tokens", str(part.cache_tokens)]
    line += ["--slots", str(part.slots), "--stragglers", str(part.stragglers)]
    with on_core(CORES[0]):
        process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def stats_of(base_url: str) -> dict[str, Any]:
    """What the simulated server counted."""
    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/stats") as reply:
        stats: dict[str, Any] = json.load(reply)
        return stats


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes that are started in this block stay on one core, with all their threads."""
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


def run(part: Part, name: str, prompts: int) -> Trial:
    """One client's job on the last core. Raises SystemExit where it did not do all of it."""
    with tempfile.TemporaryDirectory() as folder, server(part) as base_url:
        job = Job(base_url, Path(folder), part, prompts)
        write_prompts(job.file, prompts, part.words)
        with (job.folder / "stdout").open("w+") as out, (job.folder / "stderr").open("w+") as err:
            started = time.monotonic()
            with on_core(CORES[-1]):
                process = subprocess.Popen(
                    CLIENTS[name](job), cwd=ROOT, env=environment(job.folder), stdout=out, stderr=err
                )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            lasted = time.monotonic() - started
            out.seek(0)
            err.seek(0)
            printed, complaints = out.read(), err.read()
        if process.returncode:
            raise SystemExit(f"{name} ended with {process.returncode}:\n{printed[-2000:]}\n{complaints[-4000:]}")
        stats = stats_of(base_url)
        # The command prints for people: the whole process counts, start-up included.
        own = json.loads(printed.strip().rpartition("\n")[2]) if name != "command" else {}
        trial = figures(name, own, part.calls, (started, lasted, usage.ru_utime + usage.ru_stime), stats)
        check(job, trial)
    click.echo(
        f"  {name:<12} {prompts:>6} prompts at {part.speed:g}x: {trial.wall_s:6.1f} s "
        f"({trial.wall_s - trial.server_wall_s:.1f} s outside the calls), {trial.cpu_per_1000:5.2f} CPU s per 1,000, "
        f"slots {trial.utilisation:.3f}, {trial.peak_rss_mib:.0f} MiB",
        err=True,
    )
    return trial


def figures(
    name: str, own: dict[str, Any], calls: int, process: tuple[float, float, float], stats: dict[str, Any]
) -> Trial:
    """`own`: what the client reported, empty where it reports nothing; `calls`: a prompt's; `process`: its start, how
    long it lasted, and its CPU with all children, in seconds."""
    started, lasted, cpu = process
    return Trial(
        client=name,
        prompts=own.get("prompts", stats["replies"] // calls),
        wall_s=own.get("wall_s", lasted),
        # Children that the client has not waited for are in the system's account of the whole process only.
        cpu_s=cpu - own["startup_cpu_s"] if own.get("processes") else own.get("cpu_s", cpu),
        startup_s=own["begun"] - started if own else 0.0,
        startup_cpu_s=own.get("startup_cpu_s", 0.0),
        peak_rss_mib=own.get("peak_rss_mib", 0.0),
        server_wall_s=stats["wall_s"],
        utilisation=stats["utilisation"],
        replies=stats["replies"],
        cached=stats["cached_tokens"] / stats["prompt_tokens"],
        traffic_mb=(stats["received_bytes"] + stats["sent_bytes"]) / 1e6,
        server_cpu_s=stats["cpu_s"],
        profile=own.get("profile", {}),
    )


def check(job: Job, trial: Trial) -> None:
    """Raises SystemExit unless every call was made and, of ours, every row is stored."""
    n, calls = job.prompts, job.part.calls
    if trial.replies != calls * n or trial.prompts != n:
        raise SystemExit(f"{trial.client}: {trial.replies} calls for {trial.prompts} of {n} prompts, not {calls} each")
    if trial.client not in OURS:
        return
    counted = """SELECT (SELECT count(*) FROM responses), (SELECT count(*) FROM judgements),
        (SELECT count(*) FROM failures), count(*), count(DISTINCT prompt_id) FROM preferences"""
    expected = (3 * n, 0, 0, 0, 0) if job.part.long else (2 * n, 2 * n, 0, n, n)
    if job.part.samples:
        counted = """SELECT (SELECT count(*) FROM responses), (SELECT count(*) FROM scores),
            (SELECT count(*) FROM failures), count(*), count(DISTINCT prompt_id) FROM rewards WHERE value IS NOT NULL"""
        expected = (SAMPLES * n, SAMPLES * len(QUESTIONS) * n, 0, SAMPLES * n, n)
    with connect(job.warehouse) as connection:
        [rows] = ask(connection, counted).rows
    if tuple(rows) != expected:
        raise SystemExit(f"{trial.client}: the warehouse holds {rows}, expected {expected}")


def medians(trials: Sequence[Trial], client: str, figure: str) -> float:
    return float(median(getattr(trial, figure) for trial in trials if trial.client == client))


def verdicts(trials: Mapping[str, Sequence[Trial]]) -> list[Verdict]:
    """Of the parts that were run."""
    found = []

    def ratio(part: str, figure: str, client: str = "ours") -> float:
        bare, other = (
            [getattr(trial, figure) for trial in trials[part] if trial.client == c] for c in ("bare", client)
        )
        return float(median(theirs / bares for theirs, bares in zip(other, bare, strict=True)))

    if "real" in trials:
        wall, use = ratio("real", "server_wall_s", "command"), ratio("real", "utilisation", "command")
        found += [
            Verdict("real time, wall ours / bare", ratio("real", "wall_s"), 1.05),
            Verdict("real time, slot utilisation ours / bare", ratio("real", "utilisation"), 0.95, False),
            Verdict("real time, constitution run: first request to last reply / bare", wall, 1.05),
            Verdict("real time, constitution run: slot utilisation / bare", use, 0.95, False),
        ]
    for part, words, speed, cpu in (
        ("fast", "ten-fold", 0.6, 1.8),
        ("long", "ten-fold, five answers", 0.8, 1.4),
        # 0.6 and 1.8 until every reply was checked: which choice, why it ended, its counts and texts.
        ("flood", "hundred-fold", 0.5, 2.0),
    ):
        if part in trials:
            measured = ratio(part, "prompts_per_s"), ratio(part, "cpu_per_1000")
            found += [
                Verdict(f"{words}, prompts/s ours / bare", measured[0], speed, False),
                Verdict(f"{words}, client CPU per 1,000 prompts ours / bare", measured[1], cpu),
            ]
    for part, times in GROWTH.items():
        if part in trials:
            few, many = (trial.peak_rss_mib for trial in trials[part])
            what = f"{'samples: ' if PARTS[part].samples else ''}peak memory, {times} times as many prompts / once"
            found.append(Verdict(what, many / few, 1.2))
    return [*found, *_of_samples(trials)]


def _of_samples(trials: Mapping[str, Sequence[Trial]]) -> Iterator[Verdict]:
    """A call of a group against one of the chain, and what prefixes its requests share."""
    if not {"fast", "samples"} <= trials.keys():
        return
    chain, samples = ({each: medians(trials[part], "ours", each) for each in _OF_CALLS} for part in ("fast", "samples"))
    bare = {part: medians(trials[part], "bare", "utilisation") for part in ("fast", "samples")}
    yield Verdict("samples, CPU a call / the chain's", samples["cpu_per_call"] / chain["cpu_per_call"], 1.0)
    lost = [1 - each["utilisation"] / bare[part] for part, each in (("samples", samples), ("fast", chain))]
    yield Verdict("samples, share of the slots' time lost against bare, less the chain's", lost[0] - lost[1], 0.0)
    if "prefixes" in trials:
        [allowed] = trials["prefixes"]
        yield Verdict(
            "samples, prefix hits of those that a cache without end has",
            samples["cached"] / allowed.cached,
            0.95,
            False,
        )


_OF_CALLS = ("cpu_per_call", "utilisation", "cached")


def tables(trials: Mapping[str, Sequence[Trial]]) -> Iterator[Table]:
    """A table for each part; medians where a client was tried more than once with as many prompts."""
    columns = ["client", "prompts", "wall s", "prompts/s", "CPU s per 1,000 prompts", "CPU µs a call", "slots used"]
    columns += ["prefix hits", "peak MiB"]
    for name, done in trials.items():
        if name == "profile":
            yield profile_table(done[0])
            continue
        rows = []
        for client, prompts in dict.fromkeys((trial.client, trial.prompts) for trial in done):
            these = [trial for trial in done if (trial.client, trial.prompts) == (client, prompts)]
            wall, speed, cpu, use, memory, start, start_cpu = (
                medians(these, client, figure)
                for figure in (
                    *("wall_s", "prompts_per_s", "cpu_per_1000", "utilisation", "peak_rss_mib"),
                    *("startup_s", "startup_cpu_s"),
                )
            )
            known = [f"{memory:.0f}", f"{start:.1f}", f"{start_cpu:.1f}"] if memory else ["–"] * 3
            a_call, cached = (medians(these, client, figure) for figure in ("cpu_per_call", "cached"))
            cells = [client, f"{prompts:,}", f"{wall:.1f}", f"{speed:.1f}", f"{cpu:.2f}", f"{1e6 * a_call:.0f}"]
            cells += [f"{100 * use:.1f} %", f"{cached:.1%}"]
            rows.append([*cells, *known])
        detail = name in ("real", "flood", "memory", "samples-memory")
        yield Table([*columns, "start-up s", "start-up CPU s"], rows, PARTS[name].title, detail=detail)


def profile_table(trial: Trial) -> Table:
    """Of the sampled run: microseconds of CPU a call, and the share of all."""
    spent = dict(trial.profile)
    apart = {
        f"of all these, before the first prompt and after the last ({trial.prompts:,} prompts)": spent.pop("fixed"),
        "start-up, not in these": trial.startup_cpu_s,
    }
    rows = [
        [what, f"{1e6 * seconds / trial.replies:.0f}", f"{100 * seconds / trial.cpu_s:.0f} %"]
        for what, seconds in [*sorted(spent.items(), key=lambda item: -item[1]), *apart.items()]
    ]
    return Table(["CPU of ours in", "µs a call", "share"], rows, PARTS["profile"].title)


def trials_of(name: str, prompts: int, repeats: int) -> Iterator[Trial]:
    """The part's trials, interleaved. A peer that fails is reported and not shown."""
    part = PARTS[name]
    for _ in range(1 if part.once else repeats):
        for client in part.clients:
            yield run(part, client, prompts)
    if name in GROWTH:
        yield run(part, "ours", GROWTH[name] * prompts)
    if name == "peers":
        for client in (client for client in CLIENTS if client not in ("bare", *OURS)):
            try:
                yield run(part, client, prompts)
            except (OSError, SystemExit) as failure:
                click.echo(f"  {client} does not run here: {failure}", err=True)


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="400 prompts, each trial once, without real time and memory.")
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)))
@click.option("--prompts", default=4000, show_default=True, type=click.IntRange(min=1))
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1), help="Of the fast trials.")
@options
def main(quick: bool, only: tuple[str, ...], prompts: int, repeats: int, out: Path | None, page: Path | None) -> None:
    if len(CORES) < 2:
        click.echo("one core only: client and server share it, and the figures mean little", err=True)
    if quick:
        prompts, repeats = 400, 1
    mine = tuple(name for name, part in PARTS.items() if name != "peers" and not part.samples)
    only = only or (("fast", "long", "profile") if quick else mine)
    # A group is a dozen times the calls of a chain. Window and writer are full for long enough from 1,000 prompts on.
    groups = {name: max(1, prompts // (4 if name in GROWTH else 10)) for name, part in PARTS.items() if part.samples}
    counts = {"peers": min(prompts, PEER_PROMPTS), **groups}
    trials = {name: list(trials_of(name, counts.get(name, prompts), repeats)) for name in PARTS if name in only}
    finish(out, page, list(tables(trials)), verdicts(trials))


if __name__ == "__main__":
    main()
