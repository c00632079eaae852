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

    def follow(self, parent: int) -> None:
        """Kill this process as soon as the process `parent` of this machine is gone."""
        try:
            descriptor = os.pidfd_open(parent)
        except OSError:  # not this machine's, or a kernel without it: then it lives on, as vLLM's do
            return
        threading.Thread(target=_leave_with, args=(descriptor,), name="lifeline", daemon=True).start()


def _leave_with(descriptor: int) -> None:
    select.select([descriptor], [], [])
    os.kill(os.getpid(), signal.SIGKILL)
