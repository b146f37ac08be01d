# SPDX-License-Identifier: Apache-2.0
"""The thread that processes images: always the newest of a camera, the cameras in turn.

callback -> ``submit`` -> newest-frame slot -> ``_process``: unpack, decode, detect, publish, count.
Where a batch pays, images of further cameras that wait at this moment go through the network with
it; none is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rclpy.clock import Clock
from std_msgs.msg import Header

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.detector import Answer
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.detection.view import View
from compact_yolo_ros.machine.power import PowerMonitor
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.image_header import check_header
from compact_yolo_ros.ros.detector.leftovers import END_LIMIT
from compact_yolo_ros.ros.detector.settings import Settings
from compact_yolo_ros.ros.detector.topics import FrameResult
from compact_yolo_ros.ros.diagnostics.situations import Work
from compact_yolo_ros.support.newest_slots import NewestSlots

if TYPE_CHECKING:
    from compact_yolo_ros.ros.detector.camera import Camera
    from compact_yolo_ros.ros.detector.session import Session


Result = TypeVar("Result")


class DetectorBusyError(RuntimeError):
    """An earlier worker has not ended, and two must not run one detector."""


class FrameWorker:
    """Runs the detector of a session: until its thread ends, no other one may call that.

    Attributes:
        thread: runs the detector.
    """

    def __init__(self, session: Session, clock: Clock, power: PowerMonitor | None) -> None:
        """Start the thread.

        Args:
            session: the detector, its cameras, and what follows from each image.
            clock: of the node; the age of an image is its time minus the stamp.
            power: what measures the power; None if nothing does.

        Raises:
            DetectorBusyError: an earlier worker of the session does not end.
        """
        if not session.backends.in_use.acquire(timeout=END_LIMIT):
            raise DetectorBusyError(
                "an image of the last activation is still in work: wait until it ends, or clean up "
                "and configure the node again"
            )
        self._session = session
        self._clock = clock
        self._power = power
        self._slots: NewestSlots[_Frame] = NewestSlots(len(session.cameras))
        self._newest = [0.0] * len(session.cameras)
        self._finished = [0.0] * len(session.cameras)
        self._abandoned = False
        self._taken: tuple[_Frame, float] | None = None
        self._stage = ""
        self.thread = Thread(target=self._run, name="detector", daemon=True)
        try:
            self.thread.start()
        except RuntimeError:  # the machine has no thread left
            session.backends.in_use.release()
            raise

    def submit(self, place: int, message: Any, arrived: float | None = None) -> None:
        """Hand over an image of ``cameras[place]``; one that still waits is dropped.

        Returns at once.

        Args:
            place: index of the camera.
            message: what ``unpack`` of that camera reads.
            arrived: when it came, on ``perf_counter``; None: now.
        """
        camera = self._session.cameras[place]
        self._newest[place] = arrived = perf_counter() if arrived is None else arrived
        replaced = self._slots.put(_Frame(camera, message, arrived, place), place)
        camera.counters.image_received(replaced_another=replaced)

    def unanswered(self, place: int) -> float | None:
        """When the newest image of ``cameras[place]`` came that waits or is in work.

        For any thread; on ``perf_counter``, None without such an image.
        """
        newest = self._newest[place]
        return newest if newest > self._finished[place] else None

    def work(self) -> Work | None:
        """The image in work, and how far it is; None if there is none. For any thread."""
        taken = self._taken
        if taken is None:
            return None
        frame, since = taken
        stage = self._stage or self._session.detector.stage
        return Work(frame.camera.name, stage, perf_counter() - since)

    def stop(self) -> bool:
        """Forget the images that wait, and let the one in work be finished.

        It waits at most ``END_LIMIT`` seconds. A worker that takes longer is left behind: it keeps
        the detector until it ends, and publishes and counts nothing any more.

        Returns:
            Whether the thread has ended, so that another one may use the detector or free it.
        """
        self._slots.close()
        self.thread.join(END_LIMIT)
        self._abandoned = self.thread.is_alive()
        return not self._abandoned

    def _run(self) -> None:
        try:
            while (frame := self._slots.take()) is not None:
                others = self._slots.take_more(self._session.detector.batch - 1)
                if others:
                    self._process_together([frame, *others])
                else:
                    self._attempt(frame, self._process)
                for each in (frame, *others):
                    self._finished[each.place] = each.arrived
                self._taken = None
        finally:
            self._session.backends.in_use.release()

    def _attempt(
        self, frame: _Frame, work: Callable[[_Frame], Result], *others: _Frame
    ) -> Result | None:
        """Do something for an image, and for ``others`` that are lost with it if it fails."""
        self._stage = "decode"
        self._taken = (frame, perf_counter())
        try:
            return work(frame)
        except Exception as error:
            # One bad frame must never end the stream, whatever was wrong with it.
            if not self._abandoned:
                self._report([each.camera for each in (frame, *others)], error)
        return None

    def _report(self, cameras: Sequence[Camera], error: Exception) -> None:
        """Tell of a failure that cost each of these cameras an image."""
        kind, sentence = "internal", f"{type(error).__name__}: {error}"
        if isinstance(error, ImageError):
            kind, sentence = f"image {error.kind}", str(error)
        elif isinstance(error, BackendError):
            kind, sentence = "backend", str(error)
        for camera in cameras:
            camera.failed(kind, sentence)
        if isinstance(error, BackendError):
            self._session.backends.failed(error)

    def _process(self, frame: _Frame) -> None:
        ready = self._prepare(self._session.next_settings(), frame)
        if ready is not None:
            self._detect(ready, frame)

    def _detect(self, ready: _Ready, _: _Frame) -> None:
        if not self._abandoned:
            self._stage = ""  # the detector says how far it is
            detections = self._session.detector.detect_decoded(ready.image, ready.view)
            self._publish(ready, detections)

    def _process_together(self, frames: Sequence[_Frame]) -> None:
        """Answer images of several cameras by one run of the network; those in tiles alone."""
        first, *others = frames
        settings = self._attempt(first, lambda _: self._session.next_settings(), *others)
        if settings is None:
            return
        attempts = [self._attempt(frame, partial(self._prepare, settings)) for frame in frames]
        ready = [each for each in attempts if each is not None]
        for each in ready:
            if not each.view.is_plain:
                self._attempt(each.frame, partial(self._detect, each))
        self._detect_together([each for each in ready if each.view.is_plain])

    def _detect_together(self, ready: Sequence[_Ready]) -> None:
        detector = self._session.detector
        if not ready or self._abandoned:
            return
        self._stage = ""  # the detector says how far it is
        try:
            answers = detector.answer_together([each.image for each in ready])
        except Exception as error:  # as in ``_attempt``
            if not self._abandoned:
                self._report([each.frame.camera for each in ready], error)
            return
        for each, answer in zip(ready, answers, strict=True):
            shared = each._replace(together=len(ready))
            self._attempt(each.frame, partial(self._conclude, shared, answer))

    def _conclude(self, ready: _Ready, answer: Answer, _: _Frame) -> None:
        self._publish(ready, self._session.detector.conclude(answer))

    def _prepare(self, settings: Settings, frame: _Frame) -> _Ready | None:
        """Decode the image; None if it is not to be processed."""
        session, camera, began = self._session, frame.camera, perf_counter()
        if not session.control.admits(camera.name):
            camera.skipped()
            return None
        message = camera.unpack(frame.message)
        header = message.header
        if settings.max_age > 0 and self._is_refused(camera, header, settings.max_age):
            return None
        check_header(header)
        camera.expect(header)
        view = settings.view(camera.name)
        window = session.detector.window
        image = camera.decode(message, window if view.is_plain else view.window(window))
        decoded = perf_counter()
        session.detector.selection = settings.detected
        return _Ready(frame, header, image, view, settings, began, decoded)

    def _publish(self, ready: _Ready, detections: Detections) -> None:
        session, camera, header = self._session, ready.frame.camera, ready.header
        detected = perf_counter()
        if self._abandoned:
            return
        self._stage = "publish"
        result = FrameResult(
            camera.name,
            header,
            ready.image,
            detections,
            ready.settings,
            arrived=ready.frame.arrived,
        )
        if ready.settings.tracking is not None:
            result = camera.tracking.follow(result)
        camera.publish(result)
        published = perf_counter()
        age = self._age(header)
        total = published - ready.frame.arrived
        stages = session.detector.times
        times = FrameTimes(
            age=total if age is None else age,
            waiting=ready.began - ready.frame.arrived,
            decode=ready.decoded - ready.began,
            preprocess=stages.preprocess,
            inference=stages.inference,
            postprocess=stages.postprocess,
            publish=published - detected,
            overhead=total - stages.inference,
            total=total,
        )
        self._finish(result, times, ready)

    def _finish(self, result: FrameResult, times: FrameTimes, ready: _Ready) -> None:
        """Count a published result, and let those who decide about the next image know."""
        session, camera = self._session, ready.frame.camera
        dropped = camera.counters.image_processed(times)
        backend = session.detector.backend
        session.performance.publish(result, times, dropped, backend, self._power)
        view, size = result.view, result.image.size
        if session.image_sizes.see(camera.name, (size,) if view.is_plain else view.seen(size)):
            session.backends.fit(session.image_sizes.all)
        session.backends.succeeded()
        session.control.observe(camera.name, times, self._power, ready.together)

    def _is_refused(self, camera: Camera, header: Header, max_age: float) -> bool:
        """Whether an image is too old, or from a future as far away; it is counted then."""
        age = self._age(header) or 0.0
        if abs(age) <= max_age:
            return False
        camera.too_old(age)
        return True

    def _age(self, header: Header) -> float | None:
        """Seconds since the stamp of an image; None if it has no stamp."""
        stamp = header.stamp
        if stamp.sec == 0 and stamp.nanosec == 0:
            return None
        now: float = self._clock.now().nanoseconds * 1e-9
        return now - float(stamp.sec + stamp.nanosec * 1e-9)


class _Ready(NamedTuple):
    """An image that is decoded, what it is processed with, and when that began and ended.

    ``together`` counts the images that go through the network at the same time.
    """

    frame: _Frame
    header: Header
    image: DecodedImage
    view: View
    settings: Settings
    began: float
    decoded: float
    together: int = 1


class _Frame(NamedTuple):
    """An image as its camera's input gives it, where it came from, and when, on ``perf_counter``.

    ``place`` is the index of its camera.
    """

    camera: Camera
    message: Any
    arrived: float
    place: int
