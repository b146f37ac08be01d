# SPDX-License-Identifier: Apache-2.0
"""A function that is called every so often."""

from __future__ import annotations

import threading
from threading import Event

from compact_yolo_ros.support.periodic import Periodic

PATIENCE = 60.0


def test_it_is_called_again_and_again_until_it_is_stopped() -> None:
    calls: list[None] = []
    third, released, stopped = Event(), Event(), Event()

    def call() -> None:
        calls.append(None)
        if len(calls) == 3:
            third.set()
            released.wait(PATIENCE)
            stopped.set()

    periodic = Periodic(0.001, call, "test")
    assert third.wait(PATIENCE)
    released.set()
    periodic.stop()
    assert stopped.is_set()  # it was waited for
    assert "test" not in {thread.name for thread in threading.enumerate()}
