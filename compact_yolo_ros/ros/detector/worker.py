# SPDX-License-Identifier: Apache-2.0
"""The thread that processes images: always the newest of a camera, the cameras in turn.

callback -> ``submit`` -> newest-frame slot -> ``_process``: decode, detect, publish, count.
"""

from __future__ import annotations

from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rclpy.clock import Clock
from std_msgs.msg import Header

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.machine.power import PowerMonitor
from compact_yolo_ros.pixels.decoding import ImageError
from compact_yolo_ros.ros.detector.topics import FrameResult
from compact_yolo_ros.support.newest_slots import NewestSlots

if TYPE_CHECKING:
    from compact_yolo_ros.ros.detector.camera import Camera
    from compact_yolo_ros.ros.detector.session import Session


class ImageMessage(Protocol):
    """A sensor_msgs/Image or CompressedImage."""

    header: Header


class FrameWorker:
    """Runs the detector of a session: while it lives, no other thread may call that."""

    def __init__(self, session: Session, clock: Clock, power: PowerMonitor | None) -> None:
        """Start the thread.

        Args:
            session: the detector, its cameras, and what follows from each image.
            clock: of the node; the age of an image is its time minus the stamp.
            power: what measures the power; None if nothing does.
        """
        self._session = session
        self._clock = clock
        self._power = power
        self._slots: NewestSlots[_Frame] = NewestSlots(len(session.cameras))
        self._thread = Thread(target=self._run, name="detector", daemon=True)
        self._thread.start()

    def submit(self, place: int, message: ImageMessage) -> None:
        """Hand over an image of ``cameras[place]``; one that still waits is dropped.

        Returns at once.
        """
        camera = self._session.cameras[place]
        replaced = self._slots.put(_Frame(camera, message, perf_counter()), place)
        camera.counters.image_received(replaced_another=replaced)

    def stop(self) -> None:
        """Finish the image in work, forget those that wait, end the thread.

        It waits as long as that takes: afterwards another thread may use the detector or free it.
        A process that a signal ends does not wait for it (``process.GRACE``).
        """
        self._slots.close()
        self._thread.join()

    def _run(self) -> None:
        while (frame := self._slots.take()) is not None:
            try:
                self._process(frame)
            except ImageError as error:
                frame.camera.failed(f"image {error.kind}", str(error))
            except BackendError as error:
                frame.camera.failed("backend", str(error))
                self._session.backends.failed(error)
            except Exception as error:
                # One bad frame must never end the stream, whatever was wrong with it.
                frame.camera.failed("internal", f"{type(error).__name__}: {error}")

    def _process(self, frame: _Frame) -> None:
        session, settings = self._session, self._session.settings
        camera, header = frame.camera, frame.message.header
        taken = perf_counter()
        if not session.control.admits(camera.name):
            camera.counters.image_skipped()
            return
        if settings.max_age > 0 and (self._age(header) or 0.0) > settings.max_age:
            camera.counters.image_too_old()
            return
        image = camera.decode(frame.message)
        decoded = perf_counter()
        detections = session.detector.detect(image.pixels, image.colour)
        detected = perf_counter()
        result = FrameResult(camera.name, header, image, detections, settings)
        camera.publish(result)
        published = perf_counter()
        age = self._age(header)
        total = published - frame.arrived
        stages = session.detector.times
        times = FrameTimes(
            age=total if age is None else age,
            waiting=taken - frame.arrived,
            decode=decoded - taken,
            preprocess=stages.preprocess,
            inference=stages.inference,
            postprocess=stages.postprocess,
            publish=published - detected,
            overhead=total - stages.inference,
            total=total,
        )
        self._finish(result, times, camera)

    def _finish(self, result: FrameResult, times: FrameTimes, camera: Camera) -> None:
        """Count a published result, and let those who decide about the next image know."""
        session = self._session
        dropped = camera.counters.image_processed(times)
        backend = session.detector.backend
        session.performance.publish(result, times, dropped, backend, self._power)
        session.backends.succeeded()
        session.control.observe(camera.name, times, self._power)

    def _age(self, header: Header) -> float | None:
        """Seconds since the stamp of an image; None if it has no stamp."""
        stamp = header.stamp
        if stamp.sec == 0 and stamp.nanosec == 0:
            return None
        now: float = self._clock.now().nanoseconds * 1e-9
        return now - float(stamp.sec + stamp.nanosec * 1e-9)


class _Frame(NamedTuple):
    """An image message, where it came from, and when, on ``perf_counter``."""

    camera: Camera
    message: ImageMessage
    arrived: float
