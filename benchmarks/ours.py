"""The library's pipeline as `constitution run` drives it without Prefect, as a client of `engine.py`.

Imports are start-up, as the bare loop's are: also those that a run would do later, when it opens its engine.

python -m benchmarks.ours bench.toml warehouse [--profile]
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import constitution.engines.openai.engine  # noqa: F401
from benchmarks.figures import Moment, report
from constitution.cli._options import without_pandas
from constitution.pipeline import open_run, prepare
from constitution.recipe import load_recipe

EVERY_S = 0.002
"""CPU seconds between two samples."""
WHERE = {
    "constitution.engines": "engine: requests, replies, HTTP",
    "aiohttp": "engine: requests, replies, HTTP",
    "constitution.warehouse": "writer, in the loop's thread",
    "pyarrow": "writer, in the loop's thread",
    "constitution": "session: prompts, chains, rows",
}
"""Modules → what their time counts as; of a stack the innermost frame that is of one of them counts."""
LOOP, THREADS = "event loop", "writer, in its own threads"


async def main(recipe: Path, warehouse: Path, profile: bool) -> None:
    begun = Moment.now()
    samples: Counter[str] = Counter()
    with sampled(samples) if profile else nullcontext():
        plan = prepare(load_recipe(recipe), recipe, warehouse)
        async with open_run(plan) as session:
            at_work = Moment.now()
            await session.walk()
            walked = Moment.now()
            run = await session.finish()
    fixed = Moment.now().cpu - walked.cpu + at_work.cpu - begun.cpu
    report(begun, run.counts["done"], profile={"fixed": fixed, **spent(samples, begun)} if profile else {})


@contextmanager
def sampled(samples: Counter[str]) -> Iterator[None]:
    """Counts what this thread is doing, each EVERY_S of its CPU: other threads have no part in it."""

    def sample(_: int, frame: FrameType | None) -> None:
        samples[_doing(frame)] += 1

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _doing(frame: FrameType | None) -> str:
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        for module, what in WHERE.items():
            if name == module or name.startswith(f"{module}."):
                return what
        frame = frame.f_back
    return LOOP


def spent(samples: Mapping[str, int], begun: Moment) -> dict[str, float]:
    """CPU seconds since `begun` by what they went into: this thread's as sampled, and those of all others."""
    whole = Moment.now().cpu - begun.cpu
    own = time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) - begun.thread
    count = sum(samples.values())
    return {what: own * number / count for what, number in samples.items()} | {THREADS: whole - own}


if __name__ == "__main__":
    without_pandas()
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), "--profile" in sys.argv))
