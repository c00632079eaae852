"""Ctrl-C while DuckDB works."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C, which DuckDB turns into a RuntimeError, as the KeyboardInterrupt that it is."""
    try:
        yield
    except RuntimeError as error:
        if str(error) != "Query interrupted":
            raise
        raise KeyboardInterrupt from None


@contextmanager
def ended_by_ctrl_c(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Within it Ctrl-C ends the connection's query at once, whoever waits for its rows.

    DuckDB itself looks for signals between two pieces of work, which may take minutes, and not while Arrow's reader
    fetches. Python tells of a signal by a byte in a socket, at once; a thread waits for it there. Outside the main
    thread, or where an event loop waits for those bytes, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)
    if (before := signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)) != -1:
        signal.set_wakeup_fd(before)

    def wait() -> None:
        while number := ours.recv(1):
            if number[0] == signal.SIGINT:
                connection.interrupt()

    thread = threading.Thread(target=wait, name="Ctrl-C", daemon=True)
    thread.start()
    try:
        yield
    finally:
        if before == -1:
            signal.set_wakeup_fd(-1)
        pythons.close()
        thread.join()
        ours.close()
