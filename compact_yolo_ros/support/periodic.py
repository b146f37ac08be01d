# SPDX-License-Identifier: Apache-2.0
"""A function that is called every so often, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread


class Periodic:
    """Calls a function once a period, until it is stopped. The function raises nothing."""

    def __init__(self, period: float, call: Callable[[], object], name: str) -> None:
        """Call ``call`` every ``period`` seconds, the first time after one; ``name`` the thread."""
        self._period = period
        self._call = call
        self._ended = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Call it no more; once this has returned, it is not running either."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._period):
            self._call()
