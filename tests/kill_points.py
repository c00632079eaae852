"""A process that is killed at its n-th step that changes a folder: what is on disk then is what a real kill leaves."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}
KILLED = 9


def kills(action: Callable[[], object], *, every: int = 1, most: int = 500) -> Iterator[int]:
    """Yields after each kill of `action` before its 1st, 2nd … step that creates, renames or deletes something, until
    it comes to its end; each time in a child process, which ends without cleaning up. every: steps between the kills.
    """
    for point in range(1, most, every):
        child = os.fork()
        if child == 0:
            _work(action, point)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return
        assert code == KILLED, f"ended with {code} at step {point}"
        yield point
    raise AssertionError(f"more than {most} steps")


def _work(action: Callable[[], object], point: int) -> None:
    left = point

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal left
        creates = event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT
        if event in STEPS or creates:
            left -= 1
            if left == 0:
                os._exit(KILLED)

    try:
        sys.addaudithook(hook)
        action()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
