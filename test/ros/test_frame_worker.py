# SPDX-License-Identifier: Apache-2.0
"""The worker's turns between cameras, with a network that waits to be told."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Semaphore, Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
from std_msgs.msg import Header

from compact_yolo_ros.detection.detector import StageTimes
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.pixels.decoding import DecodedImage, ImageError
from compact_yolo_ros.ros.detector.worker import FrameWorker, WorkerHooks
from compact_yolo_ros.ros.diagnostics.frame_counters import FrameCounters


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
        self.statistics = FrameCounters()

    def decode(self, message: Any) -> DecodedImage:
        return DecodedImage(np.zeros((2, 2, 3), np.uint8), "bgr")

    def publish(self, header: Header, *_: Any) -> None:
        self.answers.append(header.frame_id)

    def answered(self, _header: Header, _detections: Any, times: FrameTimes) -> None:
        self.statistics.image_processed(times)
        self.done.release()

    def failed(self, kind: str, sentence: str) -> None:
        raise AssertionError(sentence)


class MixedCamera(Camera):
    """Its images are bad if their name says so."""

    def decode(self, message: Any) -> DecodedImage:
        if "bad" in message.header.frame_id:
            raise ImageError("size", "cut off")
        return super().decode(message)

    def failed(self, kind: str, sentence: str) -> None:
        self.statistics.error(kind, sentence)


def test_every_image_of_every_camera_is_counted_once() -> None:
    detector, done = PacedDetector(), Semaphore(0)
    cameras = [MixedCamera(name, [], done) for name in ("left", "right")]
    skipping = {cameras[0]: 2, cameras[1]: 0}

    def admits(camera: Any) -> bool:
        skipping[camera] -= 1
        return skipping[camera] < 0

    worker = FrameWorker(
        detector,  # type: ignore[arg-type]
        cameras,
        age=lambda header: 9.0 if "old" in header.frame_id else 0.0,
        max_age=lambda: 1.0,
        hooks=WorkerHooks(admits=admits),
    )

    def accounted(place: int) -> int:
        seen = cameras[place].statistics.snapshot()
        errors = sum(seen.errors.values())
        return seen.processed + seen.dropped + seen.stale + seen.skipped + errors

    def send(place: int, image: str) -> None:
        worker.submit(place, SimpleNamespace(header=Header(frame_id=image)))

    for place in (0, 1):
        for n, image in enumerate(("new", "new", "bad", "old", "new")):
            send(place, image)
            if image == "new" and skipping[cameras[place]] <= 0:
                detector.go.release()
            wait_until(lambda: accounted(place) > n)  # noqa: B023
        detector.busy.clear()
        send(place, "new")
        assert detector.busy.wait(10)
        send(place, "replaced")
        send(place, "new")
        detector.go.release(2)
        wait_until(lambda: accounted(place) == 8)  # noqa: B023
    worker.stop()
    counts = [camera.statistics.snapshot() for camera in cameras]
    assert [(s.received, s.processed, s.dropped, s.stale, s.skipped) for s in counts] == [
        (8, 3, 1, 1, 2),
        (8, 5, 1, 1, 0),
    ]
    assert [s.errors for s in counts] == [{"image size": 1}] * 2


def wait_until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.001)


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


def test_nobody_else_gets_the_detector_before_the_image_in_work_is_done() -> None:
    detector, done = PacedDetector(), Semaphore(0)
    camera = Camera("front", [], done)
    worker = FrameWorker(detector, [camera], lambda header: None, lambda: 0.0)  # type: ignore[arg-type]
    worker.submit(0, SimpleNamespace(header=Header(frame_id="1")))
    assert detector.busy.wait(60)
    stopping = Thread(target=worker.stop)
    stopping.start()
    stopping.join(2)
    assert stopping.is_alive()
    detector.go.release()
    stopping.join(60)
    assert camera.answers == ["1"]
