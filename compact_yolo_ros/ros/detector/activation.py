# SPDX-License-Identifier: Apache-2.0
"""What runs between *activate* and *deactivate*: the worker and the power monitor."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from rclpy.lifecycle import LifecycleNode

from compact_yolo_ros.machine.power import PowerMonitor, PowerSummary, find_power_source
from compact_yolo_ros.ros.detector.session import Session
from compact_yolo_ros.ros.detector.settings import Settings
from compact_yolo_ros.ros.detector.worker import FrameWorker
from compact_yolo_ros.ros.diagnostics.situations import Work


class Activation:
    """Processes the images of a session's cameras while it lives.

    Attributes:
        enabled: whether all images are processed, or only those that are asked for.
    """

    enabled: bool

    def __init__(
        self, node: LifecycleNode, session: Session, values: Mapping[str, Any], *, enabled: bool
    ) -> None:
        """Start the threads, and subscribe to the cameras if ``enabled``."""
        self._session = session
        self._power: PowerMonitor | None = None
        with ExitStack() as started:
            self._on_gpu = session.backends.needs_gpu
            if values["power"] == "auto":
                self._power = PowerMonitor(lambda: find_power_source(on_gpu=self._on_gpu))
                started.callback(self._power.close)
            started.callback(session.backends.rest)
            self._worker = FrameWorker(session, node.get_clock(), self._power)
            started.callback(self._stop_worker)
            started.callback(self._unsubscribe)
            for camera in session.cameras:
                camera.counters.reset()
            self.enabled = False
            self.enable(enabled)
            for place, camera in enumerate(session.cameras):
                started.callback(camera.once.end)
                camera.once.begin(_ImagesOnDemand(self, place))
            self._started = started.pop_all()

    def enable(self, enabled: bool) -> None:
        """Subscribe to the cameras, or unsubscribe, so that images cost nothing.

        If that is done already, nothing changes: counts and tracks go on.

        Raises:
            RuntimeError: ROS refuses a topic; nothing is subscribed to then.
        """
        if enabled == self.enabled:
            return
        self._unsubscribe()
        self.enabled = enabled
        with ExitStack() as opened:
            opened.callback(self._disable)
            for place, camera in enumerate(self._session.cameras):
                if enabled:
                    camera.open(partial(self._worker.submit, place))
                elif camera.once.is_called:
                    self.listen(place)
            opened.pop_all()

    @property
    def settings(self) -> Settings:
        """What the next image is processed with."""
        return self._session.settings

    def unanswered(self, place: int) -> float | None:
        """See ``FrameWorker.unanswered``."""
        return self._worker.unanswered(place)

    def listen(self, place: int) -> None:
        """Subscribe to a camera for those who ask for an image, if the others are disabled."""
        camera = self._session.cameras[place]
        if not self.enabled and not camera.input.is_open:
            camera.listen(partial(self._submit_if_asked, place))

    def ignore(self, place: int) -> None:
        """Unsubscribe from it again."""
        if not self.enabled:
            self._session.cameras[place].close()

    def power(self) -> PowerSummary | None:
        """Power of the last seconds; None with ``power: none``."""
        if self._power is None:
            return None
        if (on_gpu := self._session.backends.needs_gpu) != self._on_gpu:
            self._on_gpu = on_gpu
            self._power.find_again()
        return self._power.summary()

    def work(self) -> Work | None:
        """The image in work; None if there is none."""
        return self._worker.work()

    def close(self) -> None:
        """Unsubscribe, and wait a while for the image in work."""
        self._started.close()

    def _stop_worker(self) -> None:
        if not self._worker.stop():
            self._session.leftovers.add(self._worker.thread, self._describe_left)

    def _submit_if_asked(self, place: int, message: Any, arrived: float | None = None) -> None:
        """Pass an image on if somebody asks for one, and none is in work for that."""
        camera = self._session.cameras[place]
        if camera.once.is_called and camera.is_complete and self.unanswered(place) is None:
            self._worker.submit(place, message, arrived)

    def _describe_left(self) -> str:
        work = self._worker.work()
        return f"a transition did not wait any longer: {work or 'the worker ends'}"

    def _disable(self) -> None:
        self.enabled = False
        self._unsubscribe()

    def _unsubscribe(self) -> None:
        for camera in self._session.cameras:
            camera.close()


class _ImagesOnDemand:
    """The images of one camera, as ``~/detect_once`` needs them."""

    def __init__(self, activation: Activation, place: int) -> None:
        self._activation = activation
        self._place = place

    @property
    def enabled(self) -> bool:
        return self._activation.enabled

    @property
    def settings(self) -> Settings:
        return self._activation.settings

    def unanswered(self) -> float | None:
        return self._activation.unanswered(self._place)

    def listen(self) -> None:
        self._activation.listen(self._place)

    def ignore(self) -> None:
        self._activation.ignore(self._place)
