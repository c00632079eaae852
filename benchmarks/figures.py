"""What a client of `engine.py` reports: one line of JSON, the last of its output. Standard library only: peers
run in their own environments.

    begun = Moment.now()
    ...
    report(begun, prompts=4000)
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Moment:
    monotonic: float
    """Seconds on the machine's monotonic clock, which all processes share."""
    cpu: float
    """Seconds of this process and of its children that have ended, user and system."""
    thread: float
    """CPU seconds of this thread alone."""

    @classmethod
    def now(cls) -> Moment:
        own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return cls(
            time.monotonic(),
            own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
            time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID),
        )


def report(begun: Moment, prompts: int, processes: bool = False, profile: Mapping[str, float] | None = None) -> None:
    """Print the figures of the stretch from `begun`, when the first prompt was about to be read, until now.

    `processes`: the work was done in other processes too, whose CPU the system knows when all is over.
    `profile`: CPU seconds by what they were spent in.
    """
    ended = Moment.now()
    figures = {
        "prompts": prompts,
        "processes": processes,
        "begun": begun.monotonic,
        "startup_cpu_s": begun.cpu,
        "wall_s": ended.monotonic - begun.monotonic,
        "cpu_s": ended.cpu - begun.cpu,
        "peak_rss_mib": peak_rss_mib(),
        "profile": dict(profile or {}),
    }
    print(json.dumps(figures), flush=True)


def peak_rss_mib() -> float:
    """The most memory that this process had resident; getrusage would count what was before exec too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status")
