# SPDX-License-Identifier: Apache-2.0
"""The worker's turns between cameras, with a network that waits for a permission."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event, Semaphore, Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from idle_session import CLOCK, NOW, IdleControl, idle_session
from std_msgs.msg import Header
from stepped_clock import SteppedClock

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.detector import StageTimes
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.image_header import LONGEST_FRAME_ID
from compact_yolo_ros.ros.detector import worker as worker_module
from compact_yolo_ros.ros.detector.topics import FrameResult
from compact_yolo_ros.ros.detector.worker import FrameWorker
from compact_yolo_ros.ros.diagnostics.frame_counters import FrameCounters


class PacedDetector:
    """Finishes an image each time it gets a permission."""

    times = StageTimes(0.0, 0.0, 0.0)
    stage = "inference"
    batch = 1

    def __init__(self) -> None:
        self.busy = Event()
        self.go = Semaphore(0)

    @property
    def backend(self) -> None:
        return None

    def window(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def detect_decoded(self, *_: Any) -> Detections:
        self.busy.set()
        self.go.acquire()
        return Detections.empty()


class BatchingDetector(PacedDetector):
    """Takes three images together."""

    batch = 3

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.runs: list[int] = []

    def detect_decoded(self, *_: Any) -> Detections:
        self.runs.append(1)
        return super().detect_decoded()

    def answer_together(self, images: Sequence[DecodedImage]) -> list[None]:
        self.runs.append(len(images))
        if self.error:
            raise self.error
        self.go.acquire()
        return [None] * len(images)

    def conclude(self, _: None) -> Detections:
        return Detections.empty()


class DoneCounters(FrameCounters):
    """Says when an image was processed."""

    def __init__(self, done: Semaphore) -> None:
        super().__init__()
        self.done = done

    def image_processed(self, times: FrameTimes) -> int:
        dropped = super().image_processed(times)
        self.done.release()
        return dropped


class Camera:
    """Writes down which of its images were processed."""

    def __init__(self, name: str, processed: list[str], done: Semaphore) -> None:
        self.name, self.processed, self.done = name, processed, done
        self.counters = DoneCounters(done)

    def unpack(self, message: Any) -> Any:
        return message

    def expect(self, header: Header) -> None:
        pass

    def decode(self, message: Any, *_: Any) -> DecodedImage:
        return DecodedImage(np.zeros((2, 2, 3), np.uint8), "bgr")

    def publish(self, result: FrameResult) -> None:
        self.processed.append(result.header.frame_id)

    def skipped(self) -> None:
        self.counters.image_skipped()

    def too_old(self, age: float) -> None:
        self.counters.image_too_old(age)

    def failed(self, kind: str, sentence: str) -> None:
        raise AssertionError(sentence)


class MixedCamera(Camera):
    """Its images are bad if their name says so."""

    def decode(self, message: Any, *_: Any) -> DecodedImage:
        if "bad" in message.header.frame_id:
            raise ImageError("size", "cut off")
        return super().decode(message)

    def failed(self, kind: str, sentence: str) -> None:
        self.counters.error(kind, sentence)


def test_every_image_of_every_camera_is_counted_once() -> None:
    detector, done = PacedDetector(), Semaphore(0)
    cameras = [MixedCamera(name, [], done) for name in ("left", "right")]
    skipping = {"left": 2, "right": 0}

    class SkippingControl(IdleControl):
        def admits(self, camera: str) -> bool:
            skipping[camera] -= 1
            return skipping[camera] < 0

    session = idle_session(detector, cameras, control=SkippingControl(), max_age=1.0)
    worker = FrameWorker(session, CLOCK, None)

    def accounted(place: int) -> int:
        seen = cameras[place].counters.snapshot()
        errors = sum(seen.errors.values())
        return seen.processed + seen.dropped + seen.too_old + seen.skipped + errors

    def send(place: int, image: str) -> None:
        stamp = Time(sec=NOW - 9 if image == "old" else NOW)
        worker.submit(place, SimpleNamespace(header=Header(frame_id=image, stamp=stamp)))

    for place in (0, 1):
        for n, image in enumerate(("new", "new", "bad", "old", "new")):
            send(place, image)
            if image == "new" and skipping[cameras[place].name] <= 0:
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
    counts = [camera.counters.snapshot() for camera in cameras]
    assert [(s.received, s.processed, s.dropped, s.too_old, s.skipped) for s in counts] == [
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
    processed: list[str] = []
    done = Semaphore(0)
    detector = PacedDetector()
    cameras = [Camera(name, processed, done) for name in ("fast", "slow", "slower")]
    worker = FrameWorker(idle_session(detector, cameras), CLOCK, None)

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
    assert processed == ["fast 0", "slow 0", "slower 0", "fast 10"]
    fast = cameras[0].counters.snapshot()
    assert (fast.received, fast.processed, fast.dropped) == (11, 2, 9)


def together(
    detector: BatchingDetector, cameras: Sequence[Camera], *, control: Any = None, **backends: Any
) -> FrameWorker:
    """A worker that has an image of the first camera in work, while one of each camera waits."""
    session = idle_session(detector, cameras, control=control)
    vars(session.backends).update(backends)
    return together_of(session)


def together_of(session: Any) -> FrameWorker:
    """The same for a session."""
    cameras = session.cameras
    worker = FrameWorker(session, CLOCK, None)

    def send(place: int, image: str) -> None:
        worker.submit(place, SimpleNamespace(header=Header(frame_id=image)))

    send(0, "alone")
    assert session.detector.busy.wait(10)  # it did not wait for the other cameras
    for place in reversed(range(len(cameras))):
        send(place, cameras[place].name)
    return worker


def test_images_that_wait_go_together_in_turn() -> None:
    processed: list[str] = []
    done = Semaphore(0)
    detector = BatchingDetector()
    cameras = [Camera(name, processed, done) for name in "abcde"]
    worker = together(detector, cameras)
    for images in (1, 3, 2):
        detector.go.release()
        for _ in range(images):
            assert done.acquire(timeout=10)
    worker.stop()
    assert detector.runs == [1, 3, 2]
    assert processed == ["alone", "b", "c", "d", "e", "a"]


class CountingControl(IdleControl):
    """Writes down with how many images each one has shared its time."""

    def __init__(self) -> None:
        self.together: list[int] = []

    def observe(self, camera: str, times: FrameTimes, power: Any, together: int) -> None:
        self.together.append(together)


def test_the_governor_is_told_how_many_images_have_shared_their_time() -> None:
    done, control = Semaphore(0), CountingControl()
    detector = BatchingDetector()
    worker = together(detector, [Camera(name, [], done) for name in "abcde"], control=control)
    for images in (1, 3, 2):
        detector.go.release()
        for _ in range(images):
            assert done.acquire(timeout=10)
    worker.stop()
    assert control.together == [1, 3, 3, 3, 2, 2]


def test_an_image_that_fails_costs_no_other_camera_its_own() -> None:
    processed: list[str] = []
    done = Semaphore(0)
    detector = BatchingDetector()
    cameras = [MixedCamera(name, processed, done) for name in ("a", "bad", "c")]
    worker = together(detector, cameras)
    detector.go.release(2)
    for _ in range(3):
        assert done.acquire(timeout=10)
    worker.stop()
    assert (detector.runs, processed) == ([1, 2], ["alone", "c", "a"])
    assert cameras[1].counters.snapshot().errors == {"image size": 1}


def test_a_backend_that_fails_costs_each_camera_an_image_and_has_failed_once() -> None:
    failures: list[Exception] = []
    detector = BatchingDetector(BackendError("the GPU failed"))
    cameras = [MixedCamera(name, [], Semaphore(0)) for name in "abc"]
    worker = together(detector, cameras, failed=failures.append)
    detector.go.release()
    wait_until(lambda: all(camera.counters.snapshot().errors for camera in cameras))
    wait_until(lambda: failures == [detector.error])
    worker.stop()
    assert [camera.counters.snapshot().errors for camera in cameras] == [{"backend": 1}] * 3
    assert failures == [detector.error]


def test_settings_that_fail_cost_each_camera_of_a_batch_an_image() -> None:
    """A new network's class names may be what fails."""
    detector = BatchingDetector()
    cameras = [MixedCamera(name, [], Semaphore(0)) for name in "abc"]
    session = idle_session(detector, cameras)
    given = iter([session.next_settings()])
    session.next_settings = lambda: next(given)
    worker = together_of(session)
    detector.go.release()
    wait_until(lambda: bool(cameras[1].counters.snapshot().errors))
    worker.stop()
    assert [camera.counters.snapshot().errors for camera in cameras] == [{"internal": 1}] * 3


def test_the_image_in_work_is_finished_when_the_worker_stops() -> None:
    detector, done = PacedDetector(), Semaphore(0)
    camera = Camera("front", [], done)
    worker = FrameWorker(idle_session(detector, [camera]), CLOCK, None)
    worker.submit(0, SimpleNamespace(header=Header(frame_id="1")))
    assert detector.busy.wait(60)
    stopping = Thread(target=worker.stop, daemon=True)
    stopping.start()
    detector.go.release()
    stopping.join(60)
    assert camera.processed == ["1"]


def test_an_image_whose_header_is_huge_is_an_error_and_not_repeated_with_every_object() -> None:
    detector, done, processed = PacedDetector(), Semaphore(0), []
    camera = MixedCamera("", processed, done)
    worker = FrameWorker(idle_session(detector, [camera]), CLOCK, None)
    longest = "x" * LONGEST_FRAME_ID
    for letters in (longest + "x", "x" * 5_000_000, longest):
        worker.submit(0, SimpleNamespace(header=Header(frame_id=letters)))
        detector.go.release()
        wait_until(lambda: len(processed) + sum(camera.counters.snapshot().errors.values()) > 0)
        if letters != longest:
            detector.go.acquire()  # it was not needed
            state = camera.counters.snapshot()
            assert state.errors == {"image header": 1}
            assert f"the frame_id of the image has {len(letters)} letters" in state.last_error
            assert not processed
            camera.counters.reset()
    assert processed == [longest]
    worker.stop()


def timed(monkeypatch: pytest.MonkeyPatch, stamp: Time, max_age: float = 0.0) -> list[FrameTimes]:
    """The times of one image of which each stage takes another power of two, in seconds.

    Its arrival is 1 s before it is taken, and the node's clock runs as the steady one: it shows
    ``NOW`` when the image arrives.
    """
    steady = SteppedClock()
    monkeypatch.setattr(worker_module, "perf_counter", steady)
    arrived = steady.now
    finished = Event()
    seen: list[FrameTimes] = []

    class TimedDetector(PacedDetector):
        times = StageTimes(preprocess=4.0, inference=8.0, postprocess=16.0)

        def detect_decoded(self, *_: Any) -> Detections:
            steady.now += sum(self.times) + 0.5  # between the stages, too
            return Detections.empty()

    class TimedCamera(Camera):
        def decode(self, message: Any, *_: Any) -> DecodedImage:
            steady.now += 2.0
            return super().decode(message)

        def publish(self, result: FrameResult) -> None:
            steady.now += 32.0

    class TimedControl(IdleControl):
        def observe(self, camera: str, times: FrameTimes, *_: Any) -> None:
            seen.append(times)
            finished.set()

    def now() -> Any:
        passed = round((steady.now - arrived) * 1e9)
        return SimpleNamespace(nanoseconds=NOW * 10**9 + passed)

    camera = TimedCamera("", [], Semaphore(0))
    session = idle_session(TimedDetector(), [camera], control=TimedControl(), max_age=max_age)
    clock: Any = SimpleNamespace(now=now)
    worker = FrameWorker(session, clock, None)
    take = worker._slots.take

    def late_take() -> Any:
        frame = take()
        if frame is not None:
            steady.now += 1.0
        return frame

    monkeypatch.setattr(worker._slots, "take", late_take)
    worker.submit(0, SimpleNamespace(header=Header()))  # the take that has begun already
    assert finished.wait(60)
    finished.clear()
    seen.clear()
    arrived = steady.now
    worker.submit(0, SimpleNamespace(header=Header(stamp=stamp)))
    wait_until(lambda: bool(seen) or camera.counters.snapshot().too_old > 0)
    assert worker.stop()
    return seen


def test_the_times_of_an_image_are_those_of_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = Time(sec=NOW - 3, nanosec=750_000_000)
    (times,) = timed(monkeypatch, stamp)
    total = 1 + 2 + 28.5 + 32
    assert times == FrameTimes(
        age=pytest.approx(2.25 + total),
        waiting=1.0,
        decode=2.0,
        preprocess=4.0,
        inference=8.0,
        postprocess=16.0,
        publish=32.0,
        overhead=total - 8.0,
        total=total,
    )


def test_an_image_without_a_stamp_is_as_old_as_its_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    (times,) = timed(monkeypatch, Time())
    assert times.age == times.total == 63.5
    (times,) = timed(monkeypatch, Time(nanosec=1))
    assert times.age == pytest.approx(NOW + 63.5)


@pytest.mark.parametrize(
    ("milliseconds", "refused"), [(1499, False), (1501, True), (-3499, False), (-3501, True)]
)
def test_max_age_counts_from_the_stamp_to_the_moment_it_is_taken(
    monkeypatch: pytest.MonkeyPatch, milliseconds: int, refused: bool
) -> None:
    """It is taken 1 s after its arrival; the limit is 2.5 s, in the past and in the future."""
    seconds, nanoseconds = divmod(NOW * 10**9 - milliseconds * 10**6, 10**9)
    seen = timed(monkeypatch, Time(sec=seconds, nanosec=nanoseconds), max_age=2.5)
    assert (not seen) is refused
