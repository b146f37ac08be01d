# SPDX-License-Identifier: Apache-2.0
"""The thread in which backends are opened: that takes long, and nobody who answers waits for it."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.model.store import ModelError

CANNOT_OPEN = (ModelError, BackendError, ValueError)
"""What opening a backend raises where that cannot be."""


class BackendOpener:
    """Does one thing after the other in a thread of its own. Every thread may call it."""

    def __init__(self, report: Callable[[str], None]) -> None:
        """Begin nothing before ``start``.

        Args:
            report: is told in that thread what could not be opened, or of an error that nobody
                foresaw.
        """
        self._report = report
        self._is_closed = False
        self._waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
        # Not an executor: Python waits for the threads of those before it exits.
        self._thread = Thread(target=self._run, name="backend opener", daemon=True)

    def start(self) -> None:
        """Begin with what was submitted."""
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Have something done after all that was submitted before; returns at once."""
        self._waiting.put(work)

    def close(self) -> None:
        """Leave out what has not begun; returns at once."""
        self._is_closed = True
        self.submit(lambda: None)

    def join(self) -> None:
        """Wait for what had begun at ``close``."""
        self._thread.join()

    def _run(self) -> None:
        while not self._is_closed:
            work = self._waiting.get()
            try:
                if not self._is_closed:
                    work()
            except CANNOT_OPEN as error:
                self._report(str(error))
            except Exception as error:  # what comes later must still be opened
                self._report(f"{type(error).__name__}: {error}")
