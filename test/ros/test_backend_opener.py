# SPDX-License-Identifier: Apache-2.0
"""The thread in which backends are opened, without ROS."""

from __future__ import annotations

from threading import Event

from compact_yolo_ros.model.store import ModelError
from compact_yolo_ros.ros.detector.backend_opener import BackendOpener


def test_one_thing_after_the_other_is_done_also_after_an_unforeseen_error() -> None:
    told: list[str] = []
    opened: list[int] = []
    last = Event()
    opener = BackendOpener(told.append)

    def fail() -> None:
        raise RuntimeError("out of memory")

    def refuse() -> None:
        raise ModelError("the model is gone")

    for work in (lambda: opened.append(1), fail, refuse, lambda: opened.append(2), last.set):
        opener.submit(work)
    assert opened == []  # it has not started
    opener.start()
    assert last.wait(60)
    assert opened == [1, 2]
    assert told == ["RuntimeError: out of memory", "the model is gone"]
    opener.close()
    opener.join()


def test_what_has_begun_is_finished_at_the_end_and_the_rest_left_out() -> None:
    begun, go = Event(), Event()
    opened: list[int] = []
    opener = BackendOpener(lambda _: None)

    def open_slowly() -> None:
        begun.set()
        assert go.wait(60)
        opened.append(1)

    opener.submit(open_slowly)
    opener.submit(lambda: opened.append(2))
    opener.start()
    assert begun.wait(60)
    opener.close()
    go.set()
    opener.join()
    assert opened == [1]
