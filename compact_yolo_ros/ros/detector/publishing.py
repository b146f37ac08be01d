# SPDX-License-Identifier: Apache-2.0
"""Publishing what was found, by the table of topics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, NamedTuple

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.publisher import Publisher
from std_msgs.msg import Header

from compact_yolo_ros.backends import Backend
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.machine.power import PowerMonitor
from compact_yolo_ros.machine.power.monitor import WINDOW
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.ros.detector.settings import Settings
from compact_yolo_ros.ros.detector.topics import (
    DETECTIONS,
    INTERFACES,
    LABEL_INFO,
    PERFORMANCE,
    VISION_INFO,
    FrameResult,
    FrameWriter,
    Output,
)
from compact_yolo_ros.ros.diagnostics.performance import PerformanceWriter
from compact_yolo_ros.ros.messages import to_label_info, to_vision_info
from compact_yolo_ros.ros.optional_messages import MissingPackageError
from compact_yolo_ros.support.error_text import first_line


class Unsent:
    """Messages beside the detections that could not be sent, or made.

    DDS may not take them as fast as they come, for example for a viewer behind a bad network. That
    is no failure of the image, whose detections have been published.

    Attributes:
        count: how many they are.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.count = 0
        self._last = (float("-inf"), "")

    def add(self, topic: str, error: Exception) -> None:
        """Note one on a topic; called by the worker."""
        self.count += 1
        why = f"{type(error).__name__}: {first_line(error)}"
        self._last = monotonic(), f"{topic} was not sent for every image ({why})"

    @property
    def problem(self) -> str:
        """That of the last seconds; empty if there was none."""
        since, sentence = self._last
        return sentence if monotonic() - since < WINDOW else ""


class CameraPublisher:
    """Publishes the results of one camera, on every topic that has a writer."""

    def __init__(
        self, node: LifecycleNode, camera: str, card: ModelCard, settings: Settings
    ) -> None:
        """Create the publishers of the camera ``camera`` that are wanted with ``settings``."""
        self._node = node
        self._camera = camera
        self._card = card
        self._outputs: dict[str, _CameraOutput] = {}
        self._missing = ""
        self._unsent = Unsent()
        self.use(settings)

    @property
    def problem(self) -> str:
        """Why a topic that is wanted is not there or lacks messages; empty if all is there."""
        return self._missing or self._unsent.problem

    @property
    def counts(self) -> Mapping[str, int]:
        """For /diagnostics, once there is something to count."""
        return {"messages_failed": self._unsent.count} if self._unsent.count else {}

    def use(self, settings: Settings) -> None:
        """Create the publishers that are wanted now; those that are there stay.

        Raises:
            RuntimeError: ROS refuses one of them, as SROS2 does without a permission.
        """
        problem = ""
        for output in INTERFACES:
            if (
                not isinstance(output, Output)
                or output.writer is None
                or output.name in self._outputs
            ):
                continue
            if output.wanted is None or output.wanted(settings):
                try:
                    opened = self._open(output, output.writer)
                except MissingPackageError as error:
                    problem = f"nothing comes on {output.path(self._camera)}: {error}"
                else:  # another dictionary: the worker may be going through this one
                    self._outputs = {**self._outputs, output.name: opened}
        if problem and problem != self._missing:
            self._node.get_logger().warning(problem)
        self._missing = problem

    def _open(self, output: Output, writer: Callable[[ModelCard], FrameWriter]) -> _CameraOutput:
        """Create the publisher of a topic; it works at once if those that were there do.

        Raises:
            MissingPackageError: the package of its messages cannot be used.
        """
        try:
            write = writer(self._card)
        except ImportError as error:  # of its messages, or of those that they consist of
            raise MissingPackageError(output.type_name, error) from None
        publisher: Any = output.create(self._node, self._camera)
        before = self._outputs.get(DETECTIONS.name)
        if before is not None and before.publisher.is_activated:
            publisher.on_activate(None)
        return _CameraOutput(output.on_demand, publisher, write, writer)

    def use_model(self, card: ModelCard) -> None:
        """Write messages for another model; called by the worker, between two images."""
        self._card = card
        self._outputs = {
            name: output._replace(write=output.writer(card))
            for name, output in self._outputs.items()
        }

    def subscriber_count(self) -> int:
        """Subscribers that the next detections reach: announced here, and connected."""
        publisher: Publisher[Any] = self._outputs[DETECTIONS.name].publisher
        return publisher.get_subscription_count()

    def publish(self, result: FrameResult) -> None:
        """Publish one result; called by the worker.

        A topic that fails costs no other one its message.

        Raises:
            Exception: whatever kept the detections from being published.
        """
        lost: Exception | None = None
        for name, output in self._outputs.items():
            try:
                output.publish(result)
            except Exception as error:  # RCLError, and what a writer may raise
                if name == DETECTIONS.name:
                    lost = error
                else:
                    self._unsent.add(output.publisher.topic_name, error)
        if lost is not None:
            raise lost

    def destroy(self) -> None:
        """Remove the publishers."""
        for output in self._outputs.values():
            _destroy(self._node, output.publisher)


class _CameraOutput(NamedTuple):
    """A topic of a camera: see ``Output``."""

    on_demand: bool
    publisher: Any
    write: FrameWriter
    writer: Callable[[ModelCard], FrameWriter]

    def publish(self, result: FrameResult) -> None:
        if self.on_demand and self.publisher.get_subscription_count() == 0:
            return
        message = self.write(result)
        if message is not None:
            self.publisher.publish(message)


class ModelPublisher:
    """Publishes the name of the model and its classes, latched."""

    def __init__(self, node: LifecycleNode, card: ModelCard) -> None:
        """Create the publishers."""
        self._node = node
        self._card = card
        self._label_info = LABEL_INFO.create(node)
        self._vision_info = VISION_INFO.create(node)

    def use(self, card: ModelCard) -> None:
        """Publish those of another model from now on."""
        self._card = card

    def publish(self, score_threshold: float) -> None:
        """Publish both messages with the threshold in use."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._label_info.publish(to_label_info(header, self._card, score_threshold))
        topic = self._label_info.topic_name
        self._vision_info.publish(to_vision_info(header, self._card, topic))

    def destroy(self) -> None:
        """Remove the publishers."""
        _destroy(self._node, self._label_info)
        _destroy(self._node, self._vision_info)


class PerformancePublisher:
    """Publishes times and counts of every image, if somebody subscribes.

    Attributes:
        unsent: what could not be published.
    """

    def __init__(self, node: LifecycleNode) -> None:
        """Create the publisher."""
        self._node = node
        self._publisher = PERFORMANCE.create(node)
        self._writer = PerformanceWriter()
        self.unsent = Unsent()

    def publish(
        self,
        result: FrameResult,
        times: FrameTimes,
        dropped: int,
        backend: Backend,
        power: PowerMonitor | None,
    ) -> None:
        """Publish the figures of one image; called by the worker.

        Args:
            result: what was found.
            times: how long it took.
            dropped: images of the camera dropped since the one before.
            backend: what ran the network.
            power: what measures the power; None if nothing does.
        """
        if self._publisher.get_subscription_count() == 0:
            return
        message = self._writer.write(
            result.header,
            result.camera or "camera",
            times,
            detections=len(result.detections),
            dropped=dropped,
            backend=backend,
            watts=power.summary().watts if power else None,
        )
        try:
            self._publisher.publish(message)
        except RuntimeError as error:  # rclpy's RCLError
            self.unsent.add(self._publisher.topic_name, error)

    def destroy(self) -> None:
        """Remove the publisher."""
        _destroy(self._node, self._publisher)


def _destroy(node: LifecycleNode, publisher: Publisher[Any]) -> None:
    """Remove a publisher, also from the list of those that activation enables."""
    if isinstance(publisher, LifecyclePublisher):
        node.destroy_lifecycle_publisher(publisher)
    else:
        node.destroy_publisher(publisher)
