# SPDX-License-Identifier: Apache-2.0
"""The thread that answers images: always the newest one, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from std_msgs.msg import Header

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.detections import Detections
from compact_yolo_ros.detector import Detector
from compact_yolo_ros.diagnostics.statistics import FrameStatistics, FrameTimes
from compact_yolo_ros.images import ImageError, Picture
from compact_yolo_ros.newest import NewestSlot

JOIN_TIMEOUT = 1.5
"""Seconds to wait for the image in work when stopping; a process has two to end."""


@dataclass(frozen=True)
class FrameHandlers:
    """What the worker calls, from its own thread.

    Attributes:
        decode: image message to pixels; raises ImageError.
        publish: sends the answer for one image.
        age: seconds since the stamp of a header on the node's clock; None without a stamp.
        max_age: age in seconds beyond which an image is not processed; 0 is any.
        failed: reports a failure (kind, sentence).
    """

    decode: Callable[[Any], Picture]
    publish: Callable[[Header, Detections, Picture], None]
    age: Callable[[Header], float | None]
    max_age: Callable[[], float]
    failed: Callable[[str, str], None]


class FrameWorker:
    """Owns the detector while it runs: no other thread may call it."""

    def __init__(
        self, detector: Detector, handlers: FrameHandlers, statistics: FrameStatistics
    ) -> None:
        """Start the thread."""
        self._detector = detector
        self._handlers = handlers
        self._statistics = statistics
        self._slot: NewestSlot[_Frame] = NewestSlot()
        self._thread = Thread(target=self._run, name="detector", daemon=True)
        self._thread.start()

    def submit(self, message: Any) -> None:
        """Hand over an image message; one that still waits is dropped. Returns at once."""
        replaced = self._slot.put(_Frame(message, perf_counter()))
        self._statistics.image_received(replaced_another=replaced)

    def stop(self) -> None:
        """Finish the image in work, forget the waiting one, end the thread."""
        self._slot.close()
        self._thread.join(JOIN_TIMEOUT)

    def _run(self) -> None:
        while (frame := self._slot.take()) is not None:
            try:
                self._answer(frame)
            except ImageError as error:
                self._handlers.failed(f"image {error.kind}", str(error))
            except BackendError as error:
                self._handlers.failed("backend", str(error))
            except Exception as error:
                # One bad frame must never end the stream, whatever was wrong with it.
                self._handlers.failed("internal", f"{type(error).__name__}: {error}")

    def _answer(self, frame: _Frame) -> None:
        header = frame.message.header
        taken = perf_counter()
        max_age = self._handlers.max_age()
        if max_age > 0 and (self._handlers.age(header) or 0.0) > max_age:
            self._statistics.image_stale()
            return
        picture = self._handlers.decode(frame.message)
        decoded = perf_counter()
        detections = self._detector.detect(picture.pixels, picture.colour)
        detected = perf_counter()
        self._handlers.publish(header, detections, picture)
        published = perf_counter()
        age = self._handlers.age(header)
        total = published - frame.arrived
        self._statistics.image_answered(
            FrameTimes(
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
        )


class _Frame(NamedTuple):
    """An image message and when it came, on ``perf_counter``."""

    message: _Stamped
    arrived: float


class _Stamped(Protocol):
    header: Header
