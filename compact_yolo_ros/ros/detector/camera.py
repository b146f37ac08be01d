# SPDX-License-Identifier: Apache-2.0
"""One camera of the detector node: its images, its answers, its statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.ros.detector.camera_input import CameraInput
from compact_yolo_ros.ros.diagnostics.frame_counters import FrameCounters
from compact_yolo_ros.ros.diagnostics.health import CameraSituation
from compact_yolo_ros.ros.messages import new_detection_writer, to_debug_image


@dataclass(frozen=True)
class CameraHandlers:
    """What a camera asks the node, from the worker's thread.

    Attributes:
        decode: image message to pixels; raises ImageError.
        ids: ``class_id`` of each label.
        classes: name of each label.
        draws: whether ``debug_image`` is wanted at all.
        answered: is told each answer: camera name, the image's header, objects found, its times,
            images of this camera dropped since its last answer.
    """

    decode: Callable[[Any], DecodedImage]
    ids: Callable[[], Sequence[str]]
    classes: Sequence[str]
    draws: Callable[[], bool]
    answered: Callable[[str, Header, int, FrameTimes, int], None]


class Camera:
    """Images come from ``<name>/image``, answers go to ``~/<name>/detections``.

    The sole camera of a node may have no name: it has ``image`` and ``~/detections``.

    Attributes:
        name: empty, or one name as ``check_camera_names`` allows.
        input: the subscription.
        statistics: counters and times.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        transport: str,
        reliability: str,
        handlers: CameraHandlers,
    ) -> None:
        """Create the publishers; nothing is subscribed before ``open``."""
        prefix = f"{name}/" if name else ""
        self.name = name
        self.input = CameraInput(node, f"{prefix}image", transport, reliability)
        self.statistics = FrameCounters()
        self.decode = handlers.decode
        self._node = node
        self._handlers = handlers
        self._writer = new_detection_writer()
        self._answers = node.create_lifecycle_publisher(
            Detection2DArray, f"~/{prefix}detections", 10
        )
        self._pictures = node.create_lifecycle_publisher(Image, f"~/{prefix}debug_image", 1)

    def open(self, on_image: Callable[[Any], None]) -> None:
        """Subscribe, and count from now on."""
        self.statistics.reset()
        self.input.open(on_image)

    def close(self) -> None:
        """Unsubscribe."""
        self.input.close()

    def destroy(self) -> None:
        """Unsubscribe and remove the publishers."""
        self.close()
        self._node.destroy_publisher(self._answers)
        self._node.destroy_publisher(self._pictures)

    def publish(self, header: Header, detections: Detections, picture: DecodedImage) -> None:
        """Publish one answer."""
        handlers = self._handlers
        self._answers.publish(self._writer.write(header, detections, handlers.ids()))
        if handlers.draws() and self._pictures.get_subscription_count() > 0:
            self._pictures.publish(to_debug_image(header, picture, detections, handlers.classes))

    def answered(self, header: Header, detections: Detections, times: FrameTimes) -> None:
        """Count a published answer, and tell it."""
        dropped = self.statistics.image_processed(times)
        self._handlers.answered(self.name, header, len(detections), times, dropped)

    def failed(self, kind: str, sentence: str) -> None:
        """Count a failure; log only the first of its kind, a bad camera would flood the log."""
        if self.statistics.error(kind, sentence):
            which = f"{self.name}: " if self.name else ""
            self._node.get_logger().error(
                f"{which}{sentence} (further ones are counted in /diagnostics)"
            )

    def situation(self) -> CameraSituation:
        """What /diagnostics must know beside the statistics."""
        return CameraSituation(
            topic=self.input.topic,
            publishers=self.input.publisher_count(),
            incompatible_qos=self.input.incompatible_qos,
            reliability=self.input.reliability.name.lower(),
        )
