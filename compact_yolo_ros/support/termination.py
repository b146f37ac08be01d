# SPDX-License-Identifier: Apache-2.0
"""End a command cleanly when a signal arrives."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from typing import Any


@contextmanager
def handling(number: signal.Signals, handler: Any) -> Iterator[None]:
    """Handle a signal with ``handler`` in this block; does nothing outside the main thread."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does, so that everything is cleaned up."""
    with handling(signal.SIGTERM, signal.default_int_handler):
        yield


@contextmanager
def interruptible() -> Iterator[Event]:
    """Give an event that SIGINT and SIGTERM set; a second signal ends the process at once.

    For blocks that call native code: pybind11 makes an error of its own of a KeyboardInterrupt.
    """
    stopped = Event()
    before: dict[int, Any] = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: object) -> None:
        stopped.set()
        signal.signal(number, before[number])

    with handling(signal.SIGINT, stop), handling(signal.SIGTERM, stop):
        yield stopped
