# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a recording to messages and back, without ROS."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from types import SimpleNamespace
from typing import Any

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.recordings.compression import check_libraries, plain_message
from compact_yolo_ros.recordings.storage import BagError, Message, Topic

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)
DETECTIONS = "vision_msgs/msg/Detection2DArray"

VISION_MSGS = {
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "Point2D position\nfloat64 theta",
    "BoundingBox2D": "Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": (
        "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose"
    ),
    "Detection2D": (
        "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nstring id"
    ),
    "Detection2DArray": "std_msgs/Header header\nDetection2D[] detections",
}
"""vision_msgs 4, as of ROS 2 Humble, for recordings that do not bring their types along."""


class Codec:
    """Reads and writes messages of the types of one recording."""

    def __init__(self, topics: Iterable[Topic] = ()) -> None:
        """Know the types that come with ROS 2, and those that the recording describes itself.

        Raises:
            BagError: rosbags is missing.
        """
        check_libraries()
        from rosbags.typesys import Stores, get_typestore

        self._store = get_typestore(Stores.ROS2_HUMBLE)
        self._definitions = {topic.type: topic.definition for topic in topics if topic.definition}

    @property
    def store(self) -> Any:
        """The type store of rosbags, with vision_msgs, which its writer asks for."""
        self._know(DETECTIONS)
        return self._store

    def _know(self, kind: str) -> None:
        """Register a type when it is needed: parsing takes longer than reading a message."""
        from rosbags.typesys import get_types_from_msg

        if kind in self._store.fielddefs:
            return
        if kind in self._definitions:
            self._store.register(get_types_from_msg(self._definitions[kind], kind))
        elif kind == DETECTIONS:
            types = {}
            for name, text in VISION_MSGS.items():
                types.update(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
            self._store.register(types)

    def read(self, message: Message) -> Any:
        """The message with the fields it has in ROS.

        Raises:
            BagError: its type is not known, or it is damaged.
        """
        try:
            self._know(message.type)
            return self._store.deserialize_cdr(plain_message(message.data), message.type)
        except Exception as error:  # a recording may hold anything; each library has its errors
            raise BagError(f"a message of {message.topic} cannot be read: {error}") from None

    def write_detections(
        self, stamp: int, frame_id: str, found: Detections, classes: tuple[str, ...]
    ) -> bytes:
        """A Detection2DArray as the node publishes it: boxes by centre, classes by name.

        Args:
            stamp: of the image, in ns.
            frame_id: of the image.
            found: boxes in pixels of the image.
            classes: names of the labels.
        """
        make = self.store.types.__getitem__
        header = make("std_msgs/msg/Header")(
            make("builtin_interfaces/msg/Time")(*divmod(stamp, 10**9)), frame_id
        )
        vision = _vision_types(self._store)
        detections = []
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            hypothesis = vision.ObjectHypothesis(classes[label], score)
            centre = vision.Pose2D(vision.Point2D((x1 + x2) / 2, (y1 + y2) / 2), 0.0)
            box = vision.BoundingBox2D(centre, x2 - x1, y2 - y1)
            results = [vision.ObjectHypothesisWithPose(hypothesis, _no_pose(make))]
            detections.append(vision.Detection2D(header, results, box, ""))
        message = vision.Detection2DArray(header, detections)
        return bytes(self._store.serialize_cdr(message, DETECTIONS))


def stamp_of(message: Any, received: int) -> int:
    """The stamp of a message's header in ns; the time it was received at where it has none."""
    stamp = message.header.stamp
    return stamp.sec * 10**9 + stamp.nanosec or received


def _vision_types(store: Any) -> Any:
    return SimpleNamespace(**{name: store.types[f"vision_msgs/msg/{name}"] for name in VISION_MSGS})


@cache
def _no_pose(make: Any) -> Any:
    """A pose that says nothing."""
    import numpy as np

    pose = make("geometry_msgs/msg/Pose")(
        make("geometry_msgs/msg/Point")(0.0, 0.0, 0.0),
        make("geometry_msgs/msg/Quaternion")(0.0, 0.0, 0.0, 1.0),
    )
    return make("geometry_msgs/msg/PoseWithCovariance")(pose, np.zeros(36))
