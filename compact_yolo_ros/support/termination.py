# SPDX-License-Identifier: Apache-2.0
"""End a command cleanly when a signal arrives."""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from types import TracebackType
from typing import Any

INTERRUPTED = 130
"""Exit code after SIGINT, the one of shells."""
UNREAD = 141
"""That of a command whose reader has closed the pipe, as `head` does: the one of shells, too."""


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


def end_quietly() -> None:
    """Let this process end without a traceback after Ctrl-C, and where nobody reads its output.

    To be called before the imports of a command, which take seconds.
    """
    sys.excepthook = _tell
    atexit.register(_flush)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # A hook may end the process with a code of its own.
    if issubclass(kind, KeyboardInterrupt):
        print("Interrupted.", file=sys.stderr)
        raise SystemExit(INTERRUPTED)
    if issubclass(kind, BrokenPipeError) and _is_unread():
        discard_output()
        raise SystemExit(UNREAD)
    sys.__excepthook__(kind, error, trace)


def _is_unread() -> bool:
    """Whether the reader of what is printed has left: other pipes may be broken, too."""
    output = select.poll()
    output.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in output.poll(0))


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # what was done is done, although nobody reads of it
        discard_output()


def discard_output() -> None:
    """Let what is still printed go nowhere, because its reader has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
