"""Ends vLLM's processes with the one that started them.

vLLM's engine runs in a process of its own, and outlives a parent that is killed: the accelerator's memory stays taken,
and the next start fails for want of it.
"""

from __future__ import annotations

import os
import select
import signal
import threading


class Lifeline:
    """vLLM mixes it into its worker (`worker_extension_cls`), where `follow` is then called by name."""

    def follow(self, owner: int) -> None:
        """Kill this process, and the scheduler's where that is another, when the process `owner` is gone."""
        try:
            descriptor = os.pidfd_open(owner)
        except OSError:  # not a process of this machine, or a kernel without it: then it lives on, as vLLM's do
            return
        parent = os.getppid()
        scheduler = parent if parent != owner else 0
        threading.Thread(target=_leave_with, args=(descriptor, scheduler), name="lifeline", daemon=True).start()


def _leave_with(descriptor: int, scheduler: int) -> None:
    select.select([descriptor], [], [])
    if scheduler and os.getppid() == scheduler:
        os.kill(scheduler, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
