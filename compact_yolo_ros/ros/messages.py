# SPDX-License-Identifier: Apache-2.0
"""The one place that writes what the node publishes: vision_msgs 4.x and the debug image."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesisWithPose,
    VisionClass,
    VisionInfo,
)

from compact_yolo_ros.detection.detection_array import DetectionArrayWriter
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.drawing import draw_detections
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.pixels.decoding import DecodedImage, bgr_copy


def class_ids(card: ModelCard, form: str) -> tuple[str, ...]:
    """What ``class_id`` says for each label: its class ``name``, or its number (``id``)."""
    return card.classes if form == "name" else tuple(map(str, range(len(card.classes))))


def new_detection_writer() -> DetectionArrayWriter:
    """A writer of the messages that are published; it uses them again for the next image."""
    return DetectionArrayWriter(
        Detection2DArray, lambda: Detection2D(results=[ObjectHypothesisWithPose()])
    )


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


def to_debug_image(
    header: Header, picture: DecodedImage, detections: Detections, classes: Sequence[str]
) -> Image:
    """The image as bgr8 with the detections drawn into it; ``picture`` is left as it is."""
    canvas = bgr_copy(picture)
    draw_detections(canvas, detections, classes)
    height, width = canvas.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="bgr8", step=3 * width)
    data = array("B")
    data.frombytes(canvas.data)  # assigning anything else makes rclpy check every byte
    message.data = data
    return message
