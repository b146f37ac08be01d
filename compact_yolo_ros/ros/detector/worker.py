# SPDX-License-Identifier: Apache-2.0
"""The thread that answers images: always the newest one of a camera, the cameras in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from std_msgs.msg import Header

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.pixels.decoding import DecodedImage, ImageError
from compact_yolo_ros.ros.diagnostics.frame_counters import FrameCounters
from compact_yolo_ros.support.newest_slots import NewestSlots


class AnsweredCamera(Protocol):
    """A camera as the worker meets it; all but ``statistics`` is called from its thread only."""

    @property
    def statistics(self) -> FrameCounters:
        """Where its images are counted."""

    def decode(self, message: Any) -> DecodedImage:
        """Pixels of an image message; raises ImageError."""

    def publish(self, header: Header, detections: Detections, picture: DecodedImage) -> None:
        """Send the answer for one image."""

    def answered(self, header: Header, detections: Detections, times: FrameTimes) -> None:
        """Count an answer that was sent, and tell its times."""

    def failed(self, kind: str, sentence: str) -> None:
        """Count and tell a failure."""


@dataclass(frozen=True)
class WorkerHooks:
    """What decides on the way, from the worker's thread.

    Attributes:
        admits: whether the next image of a camera is answered at all.
        answered: is told each answer's times.
        failed: is told that the network could not be run.
    """

    admits: Callable[[object], bool] = lambda camera: True
    answered: Callable[[object, FrameTimes], object] = lambda camera, times: None
    failed: Callable[[BackendError], object] = lambda error: None


class FrameWorker:
    """Owns the detector while it runs: no other thread may call it."""

    def __init__(
        self,
        detector: Detector,
        cameras: Sequence[AnsweredCamera],
        age: Callable[[Header], float | None],
        max_age: Callable[[], float],
        hooks: WorkerHooks | None = None,
    ) -> None:
        """Start the thread.

        Args:
            detector: finds the objects.
            cameras: where images come from, and answers go.
            age: seconds since the stamp of a header on the node's clock; None without a stamp.
            max_age: age in seconds beyond which an image is not processed; 0 is any.
            hooks: decide on the way.
        """
        self._detector = detector
        self._cameras = cameras
        self._age = age
        self._max_age = max_age
        self._hooks = hooks or WorkerHooks()
        self._slots: NewestSlots[_Frame] = NewestSlots(len(cameras))
        self._thread = Thread(target=self._run, name="detector", daemon=True)
        self._thread.start()

    def submit(self, place: int, message: Any) -> None:
        """Hand over an image of ``cameras[place]``; one that still waits is dropped.

        Returns at once.
        """
        camera = self._cameras[place]
        replaced = self._slots.put(_Frame(camera, message, perf_counter()), place)
        camera.statistics.image_received(replaced_another=replaced)

    def stop(self) -> None:
        """Finish the image in work, forget those that wait, end the thread.

        However long that takes: afterwards the detector is another's, or freed. A process that is
        told to end does not wait for it (``process.GRACE``).
        """
        self._slots.close()
        self._thread.join()

    def _run(self) -> None:
        while (frame := self._slots.take()) is not None:
            try:
                self._answer(frame)
            except ImageError as error:
                frame.camera.failed(f"image {error.kind}", str(error))
            except BackendError as error:
                frame.camera.failed("backend", str(error))
                self._hooks.failed(error)
            except Exception as error:
                # One bad frame must never end the stream, whatever was wrong with it.
                frame.camera.failed("internal", f"{type(error).__name__}: {error}")

    def _answer(self, frame: _Frame) -> None:
        camera, header = frame.camera, frame.message.header
        taken = perf_counter()
        if not self._hooks.admits(camera):
            camera.statistics.image_skipped()
            return
        max_age = self._max_age()
        if max_age > 0 and (self._age(header) or 0.0) > max_age:
            camera.statistics.image_stale()
            return
        picture = camera.decode(frame.message)
        decoded = perf_counter()
        detections = self._detector.detect(picture.pixels, picture.colour)
        detected = perf_counter()
        camera.publish(header, detections, picture)
        published = perf_counter()
        age = self._age(header)
        total = published - frame.arrived
        times = FrameTimes(
            age=total if age is None else age,
            waiting=taken - frame.arrived,
            decode=decoded - taken,
            preprocess=self._detector.times.preprocess,
            inference=self._detector.times.inference,
            postprocess=self._detector.times.postprocess,
            publish=published - detected,
            overhead=total - self._detector.times.inference,
            total=total,
        )
        camera.answered(header, detections, times)
        self._hooks.answered(camera, times)


class _Frame(NamedTuple):
    """An image message, where it came from, and when, on ``perf_counter``."""

    camera: AnsweredCamera
    message: _Stamped
    arrived: float


class _Stamped(Protocol):
    header: Header
