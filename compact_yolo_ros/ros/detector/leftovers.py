# SPDX-License-Identifier: Apache-2.0
"""Work that does not end in time: transitions wait for a while, then it is left behind, and told.

The executor has one thread. If that waited without limit for a decoder or a driver that hangs,
services, timers and /diagnostics would hang as well.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from compact_yolo_ros.ros.detector.logger import Logger

END_LIMIT = 2.0
"""Seconds that a transition waits for a thread to end."""


class Leftovers:
    """Threads that were left behind, told until they end. For one thread at a time."""

    def __init__(self, logger: Logger) -> None:
        """Start with none."""
        self._log = logger
        self._left: list[tuple[Thread, Callable[[], str]]] = []

    def add(self, thread: Thread, describe: Callable[[], str]) -> None:
        """Tell of a thread, unless it has ended.

        Args:
            thread: what goes on.
            describe: says what it does, for people; called until the thread has ended.
        """
        if thread.is_alive():
            self._left.append((thread, describe))
            self._log.error(describe())

    def warning(self) -> str:
        """What still goes on, for people; empty if nothing does."""
        left = [(thread, describe) for thread, describe in self._left if thread.is_alive()]
        if len(left) < len(self._left):
            self._log.info("What was left behind has ended")
        self._left = left
        return "; ".join(describe() for _, describe in left)
