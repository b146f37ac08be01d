# SPDX-License-Identifier: Apache-2.0
"""The worker's turns between cameras, with a network that waits to be told."""

from __future__ import annotations

from threading import Event, Semaphore
from types import SimpleNamespace
from typing import Any

import numpy as np
from std_msgs.msg import Header

from compact_yolo_ros.detector import StageTimes
from compact_yolo_ros.diagnostics.statistics import FrameStatistics, FrameTimes
from compact_yolo_ros.images import Picture
from compact_yolo_ros.nodes.frame_worker import FrameWorker


class PacedDetector:
    """Answers an image each time it is let go."""

    times = StageTimes(0.0, 0.0, 0.0)

    def __init__(self) -> None:
        self.busy = Event()
        self.go = Semaphore(0)

    def detect(self, *_: Any) -> list[Any]:
        self.busy.set()
        self.go.acquire()
        return []


class Camera:
    """Writes down which of its images were answered."""

    def __init__(self, name: str, answers: list[str], done: Semaphore) -> None:
        self.name, self.answers, self.done = name, answers, done
        self.statistics = FrameStatistics()

    def decode(self, message: Any) -> Picture:
        return Picture(np.zeros((2, 2, 3), np.uint8), "bgr")

    def publish(self, header: Header, *_: Any) -> None:
        self.answers.append(header.frame_id)

    def answered(self, _header: Header, _detections: Any, times: FrameTimes) -> None:
        self.statistics.image_answered(times)
        self.done.release()

    def failed(self, kind: str, sentence: str) -> None:
        raise AssertionError(sentence)


def test_a_fast_camera_does_not_starve_a_slow_one() -> None:
    answers: list[str] = []
    done = Semaphore(0)
    detector = PacedDetector()
    cameras = [Camera(name, answers, done) for name in ("fast", "slow", "slower")]
    worker = FrameWorker(detector, cameras, age=lambda _: 0.0, max_age=lambda: 0.0)  # type: ignore[arg-type]

    def send(place: int, image: str) -> None:
        worker.submit(place, SimpleNamespace(header=Header(frame_id=image)))

    send(0, "fast 0")
    assert detector.busy.wait(10)  # with the first image of the fast camera
    for n in range(1, 10):
        send(0, f"fast {n}")
    send(2, "slower 0")
    send(1, "slow 0")
    for n in range(4):
        if n == 2:
            send(0, "fast 10")
        detector.go.release()
        assert done.acquire(timeout=10)
    worker.stop()
    assert answers == ["fast 0", "slow 0", "slower 0", "fast 10"]
    fast = cameras[0].statistics.snapshot()
    assert (fast.received, fast.processed, fast.dropped) == (11, 2, 9)
