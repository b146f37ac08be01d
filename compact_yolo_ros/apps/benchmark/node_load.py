# SPDX-License-Identifier: Apache-2.0
"""A detector node in its own process, and a camera that sends it images at any rate over DDS."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.utilities import get_rmw_implementation_identifier
from vision_msgs.msg import Detection2DArray

from compact_yolo_ros.apps.benchmark.peak_rate import LoadRun, Peak, find_peak
from compact_yolo_ros.apps.benchmark.runs import Run
from compact_yolo_ros.apps.benchmark.tables import NODE_FACTS
from compact_yolo_ros.machine.power import PowerSummary
from compact_yolo_ros.pixels.sample_images import sample_images
from compact_yolo_ros.ros.child_process import ChildNode, child_node
from compact_yolo_ros.ros.detector.parameters import to_parameters
from compact_yolo_ros.ros.players.image_writers import ImageWriter, JpegWriter, RawWriter
from compact_yolo_ros.ros.start_failure import EXPECTED, start_failure
from compact_yolo_ros.support.termination import interruptible

PATIENCE = 60.0
"""Seconds within which a node must start and answer for the first time."""
LAG = 1.0
"""Seconds without an answer after which no more are expected."""
UNDECIDED = ("waiting", "starting", "timing")
"""How ``backend_timing`` on /diagnostics begins until it is known what is fastest."""
STAMP = struct.Struct("<iI")
"""Seconds and nanoseconds of a message's header, after the four bytes that start every message."""


class NodeFailed(RuntimeError):
    """The node has ended, or does not answer."""


@dataclass(frozen=True)
class Images:
    """The images that the camera sends.

    Attributes:
        size: (width, height) in pixels.
        transport: ``raw`` or ``compressed``.
        seconds: duration of a run.
    """

    size: tuple[int, int]
    transport: str = "raw"
    seconds: float = 5.0


class LoadGenerator:
    """Sends images to a detector node and counts its answers."""

    def __init__(
        self,
        node: ChildNode,
        namespace: str,
        images: Images,
        power: Callable[[], PowerSummary],
        stopped: Event,
    ) -> None:
        """Wait until the node answers.

        Args:
            node: the process of the node.
            namespace: its ROS namespace.
            images: what to send.
            power: returns the power of the last seconds.
            stopped: is set when the program is to end; then everything raises KeyboardInterrupt.

        Raises:
            NodeFailed: it does not answer.
        """
        self._process = node
        self._power = power
        self._stopped = stopped
        self._context = Context()
        try:
            rclpy.init(args=[], context=self._context)
            self._node = Node("camera", namespace=namespace, context=self._context)
        except EXPECTED as error:
            raise NodeFailed(str(start_failure(error))) from error
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._messages = _messages(images)
        topic = "image/compressed" if images.transport == "compressed" else "image"
        self._publisher = self._node.create_publisher(type(self._messages[0]), topic, 5)
        self._sent: dict[bytes, float] = {}
        self._seconds: list[float] = []
        # As bytes: only the stamp of an answer is read.
        self._node.create_subscription(
            Detection2DArray,
            "detector/detections",
            self._on_answer,
            QoSProfile(depth=100),
            raw=True,
        )
        self._facts: dict[str, str] = {}
        self._problem = ""
        self._name = f"{namespace}/detector"
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        try:
            self._wait_for_answers()
            self._wait_for_timing()
        except (NodeFailed, KeyboardInterrupt):
            self.close()
            raise

    def run(self, rate: float, seconds: float) -> LoadRun:
        """Publish ``rate`` images per second for some seconds, at least 20 images.

        Raises:
            NodeFailed: the node has ended.
        """
        count = max(20, round(rate * seconds))
        self._forget()
        began = time.monotonic()
        for number, message in enumerate(islice(cycle(self._messages), count)):
            self._spin_until(began + number / rate)
            self._publish(message)
        taken = time.monotonic() - began
        watts = self._power().watts
        self._spin_while_answered(count)
        if failure := self._process.failure():
            raise NodeFailed(failure)
        # The interval after the last image counts too.
        achieved = min(rate, (count - 1) / taken)
        return LoadRun(rate, achieved, count, tuple(self._seconds), watts)

    def facts(self) -> dict[str, str]:
        """Return what the node reports about its model and runtime."""
        return {name: self._facts[name] for name in NODE_FACTS}

    def close(self) -> None:
        """Leave the ROS graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _wait_for_answers(self) -> None:
        end = time.monotonic() + PATIENCE
        while len(self._seconds) < 3 or not self._facts.keys() >= set(NODE_FACTS):
            if failure := self._process.failure() or self._problem:
                raise NodeFailed(failure)
            if time.monotonic() > end:
                raise NodeFailed(f"{self._process.name} does not answer within {PATIENCE:.0f} s")
            if self._publisher.get_subscription_count():
                self._publish(self._messages[0])
            self._spin_until(time.monotonic() + 0.2)

    def _wait_for_timing(self) -> None:
        """Let the node find out what is fastest; what runs before that is not what stays."""
        end = time.monotonic() + PATIENCE
        while (
            self._facts.get("backend_timing", "").startswith(UNDECIDED) and time.monotonic() < end
        ):
            self._publish(self._messages[0])
            self._spin_until(time.monotonic() + 0.2)

    def _forget(self) -> None:
        self._spin_while_answered(0)
        self._sent.clear()
        self._seconds.clear()

    def _publish(self, message: Any) -> None:
        now = time.time_ns()
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(now, 10**9)
        self._sent[STAMP.pack(stamp.sec, stamp.nanosec)] = time.monotonic()
        self._publisher.publish(message)

    def _on_answer(self, content: bytes) -> None:
        sent = self._sent.pop(content[4 : 4 + STAMP.size], None)
        if sent is not None:
            self._seconds.append(time.monotonic() - sent)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(self._name):
                self._facts |= {pair.key: pair.value for pair in status.values}
                if status.level == DiagnosticStatus.ERROR:
                    self._problem = status.message

    def _spin_until(self, end: float) -> None:
        self._spin(0)
        while (left := end - time.monotonic()) > 0:
            self._spin(left)

    def _spin(self, seconds: float) -> None:
        self._executor.spin_once(seconds)
        if self._stopped.is_set():
            raise KeyboardInterrupt

    def _spin_while_answered(self, expected: int) -> None:
        """Wait for the answers that are still on the way."""
        last, before = time.monotonic(), len(self._seconds)
        while len(self._seconds) < expected and time.monotonic() < last + LAG:
            self._spin(0.05)
            if len(self._seconds) > before:
                last, before = time.monotonic(), len(self._seconds)


def middleware() -> str:
    """Return the name of the ROS middleware in use."""
    return str(get_rmw_implementation_identifier())


def measure_node(
    run: Run,
    images: Images,
    power: Callable[[], PowerSummary],
    report: Callable[[str], object],
) -> Peak:
    """Start a detector node, find its peak rate and end the node.

    Args:
        run: the model and how the node runs it.
        images: what the camera sends.
        power: returns the power of the last seconds.
        report: is called with a line about the progress.

    Raises:
        NodeFailed: the node cannot be run so, does not start, or ends early.
        NoRate: see ``find_peak``.
    """
    with _loaded_node(to_parameters(run.options), images, power) as load:

        def at_rate(rate: float) -> LoadRun:
            report(f"{run}: {rate:.1f} images per second")
            return load.run(rate, images.seconds)

        peak = find_peak(str(run), at_rate)
        return replace(peak, facts={**load.facts(), "model": run.name})


@contextmanager
def _loaded_node(
    parameters: dict[str, Any], images: Images, power: Callable[[], PowerSummary]
) -> Iterator[LoadGenerator]:
    """A running detector node and its load generator; both end with the block."""
    namespace = f"/benchmark_{os.getpid()}"  # apart from other nodes in the same domain
    given = {**parameters, "image_transport": images.transport, "autostart": True}
    with (
        TemporaryDirectory(prefix="compact_yolo_ros_") as folder,
        child_node("detector_node", namespace, given, Path(folder), sends_images=False) as node,
        interruptible() as stopped,
    ):
        load = LoadGenerator(node, namespace, images, power, stopped)
        try:
            yield load
        finally:
            load.close()


def _messages(images: Images) -> list[Any]:
    """Write the messages in advance, so that no JPEG is encoded during a measurement."""
    messages = []
    for image in sample_images():
        writer: ImageWriter = RawWriter("bgr8")
        if images.transport == "compressed":
            writer = JpegWriter("bgr8", 90)
        scaled = np.asarray(cv2.resize(image, images.size), np.uint8)
        messages.append(writer.write(scaled))
    return messages
