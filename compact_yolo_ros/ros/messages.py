# SPDX-License-Identifier: Apache-2.0
"""The one place that writes what the node publishes: vision_msgs 4.x and the debug image."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.logging import get_logger
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    LabelInfo,
    ObjectHypothesisWithPose,
    VisionClass,
    VisionInfo,
)

from compact_yolo_ros.detection.detection_array import DetectionArrayWriter
from compact_yolo_ros.detection.detections import NO_TRACK, Detections
from compact_yolo_ros.detection.serialized_detections import SerializedDetectionWriter
from compact_yolo_ros.model.card import ModelCard

if TYPE_CHECKING:
    from compact_yolo_ros.detection.position import Positions

JPEG_QUALITY = 80
"""Of the compressed debug image, as image_transport's plugin has it."""

UNKNOWN_ANGLE = np.pi**2 / 3
"""Variance of an angle that may be any."""


class DetectionWriter(Protocol):
    """Writes the detections of one image as a publisher takes them."""

    def write(self, header: Header, detections: Detections, class_ids: Sequence[str]) -> Any:
        """A Detection2DArray, valid until the next call, or its bytes."""


def class_ids(card: ModelCard, form: str) -> tuple[str, ...]:
    """What ``class_id`` says for each label: its class ``name``, or its number (``id``)."""
    return card.classes if form == "name" else tuple(map(str, range(len(card.classes))))


def new_detection_writer() -> DetectionWriter:
    """A writer of what is published, serialized if vision_msgs is as it is known here."""
    return SerializedDetectionWriter() if is_known_layout() else new_message_writer()


def new_message_writer() -> DetectionArrayWriter:
    """A writer of messages; it uses them again for the next image."""
    return DetectionArrayWriter(
        Detection2DArray, lambda: Detection2D(results=[ObjectHypothesisWithPose()])
    )


@cache
def is_known_layout() -> bool:
    """Whether rclpy reads what is serialized here as it is meant; logged if not."""
    if _reads_sample():
        return True
    get_logger("compact_yolo_ros").warning(
        "vision_msgs is not laid out as version 4.1 here: rclpy serializes detections, slower"
    )
    return False


def _reads_sample() -> bool:
    """Write three detections in both ways, without and with tracks.

    Lengths that fill no word show every padding.
    """
    header = Header(stamp=Time(sec=1, nanosec=2), frame_id="abcdef")
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4) ** 2
    scores, labels = np.array([0.5, 0.25, 0.125], np.float32), np.arange(3, dtype=np.int32)
    tracks = np.array([7, NO_TRACK, 12345])
    samples = [Detections(boxes, scores, labels, ids) for ids in (None, tracks)]
    return all(_reads(header, found, ("g", "hi", "")) for found in samples)


def _reads(header: Header, found: Detections, class_ids: Sequence[str]) -> bool:
    """Whether rclpy reads detections that are serialized here."""
    message = new_message_writer().write(header, found, class_ids)
    data = SerializedDetectionWriter().write(header, found, class_ids)
    try:
        return bool(
            deserialize_message(data, Detection2DArray) == message
            and len(data) <= len(serialize_message(message)) < len(data) + 4
        )
    except Exception:  # rclpy does not export the type of what cannot be read
        return False


def to_detection_3d_array(
    header: Header, found: Detections, positions: Positions, class_ids: Sequence[str]
) -> Detection3DArray:
    """The objects of an image whose positions are known.

    Args:
        header: that of the image; the array and every detection carry it.
        found: all objects of the image.
        positions: where some of them are in its frame, in metres.
        class_ids: ``class_id`` of each label.
    """
    found = found[positions.places]
    array = Detection3DArray(header=header)
    for place in range(len(found)):
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id = class_ids[found.labels[place]]
        result.hypothesis.score = float(found.scores[place])
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = positions.covariances[place]
        covariance[3:, 3:] = np.diag([UNKNOWN_ANGLE] * 3)
        result.pose.covariance = covariance.ravel()
        detection = Detection3D(header=header, results=[result])
        for point in (result.pose.pose.position, detection.bbox.center.position):
            point.x, point.y, point.z = positions.points[place].tolist()
        size = detection.bbox.size
        size.x, size.y, size.z = positions.sizes[place].tolist()
        if found.ids is not None and found.ids[place] != NO_TRACK:
            detection.id = str(found.ids[place])
        array.detections.append(detection)
    return array


def to_label_info(header: Header, card: ModelCard, threshold: float) -> LabelInfo:
    """Which number stands for which class, and the score threshold in force."""
    return LabelInfo(
        header=header,
        class_map=[
            VisionClass(class_id=label, class_name=name) for label, name in enumerate(card.classes)
        ],
        threshold=threshold,
    )


def to_vision_info(header: Header, card: ModelCard, label_info_topic: str) -> VisionInfo:
    """What detects here, and where its class list is published."""
    return VisionInfo(header=header, method=card.name, database_location=label_info_topic)


def to_image(header: Header, pixels: NDArray[np.uint8]) -> Image:
    """A bgr8 image of (h, w, 3) uint8 BGR."""
    height, width = pixels.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="bgr8", step=3 * width)
    message.data = _bytes(pixels)
    return message


def to_compressed_image(header: Header, pixels: NDArray[np.uint8]) -> CompressedImage:
    """A JPEG of (h, w, 3) uint8 BGR, named as image_transport names it."""
    _, file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    message = CompressedImage(header=header, format="bgr8; jpeg compressed bgr8")
    message.data = _bytes(file)
    return message


def _bytes(values: NDArray[Any]) -> array[int]:
    """What a field of bytes takes at once: rclpy checks every byte of anything else."""
    data = array("B")
    data.frombytes(values.data)
    return data
