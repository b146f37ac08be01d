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
from compact_yolo_ros.ros.detector.worker import FrameWorker
from compact_yolo_ros.ros.diagnostics.situations import Work


class Activation:
    """Processes the images of a session's cameras while it lives."""

    def __init__(
        self, node: LifecycleNode, session: Session, values: Mapping[str, Any], *, enabled: bool
    ) -> None:
        """Start the threads, and subscribe to the cameras if ``enabled``."""
        self._session = session
        self._power: PowerMonitor | None = None
        with ExitStack() as started:
            if values["power"] == "auto":
                on_gpu = session.backends.needs_gpu
                self._power = PowerMonitor(partial(find_power_source, on_gpu=on_gpu))
                started.callback(self._power.close)
            started.callback(session.backends.rest)
            self._worker = FrameWorker(session, node.get_clock(), self._power)
            started.callback(self._stop_worker)
            started.callback(self._unsubscribe)
            self.enable(enabled)
            self._started = started.pop_all()

    def enable(self, enabled: bool) -> None:
        """Subscribe to the cameras, or unsubscribe, so that images cost nothing."""
        self._unsubscribe()
        if enabled:
            for place, camera in enumerate(self._session.cameras):
                camera.open(partial(self._worker.submit, place))

    def power(self) -> PowerSummary | None:
        """Power of the last seconds; None with ``power:=none``."""
        return self._power.summary() if self._power else None

    def work(self) -> Work | None:
        """The image in work; None if there is none."""
        return self._worker.work()

    def close(self) -> None:
        """Unsubscribe, and wait a while for the image in work."""
        self._started.close()

    def _stop_worker(self) -> None:
        if not self._worker.stop():
            self._session.leftovers.add(self._worker.thread, self._describe_left)

    def _describe_left(self) -> str:
        work = self._worker.work()
        return f"a transition did not wait any longer: {work or 'the worker ends'}"

    def _unsubscribe(self) -> None:
        for camera in self._session.cameras:
            camera.close()
