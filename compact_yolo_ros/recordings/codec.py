# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a recording to messages and back, without ROS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from compact_yolo_ros.detection.detection_array import DETECTION_ARRAY, DetectionArrayWriter
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.recordings.compression import check_libraries, plain_message
from compact_yolo_ros.recordings.foxglove import FOREIGN_TYPES
from compact_yolo_ros.recordings.image_types import COMPRESSED_VIDEO, FFMPEG_PACKET
from compact_yolo_ros.recordings.storage import BagError, Message, Topic
from compact_yolo_ros.support.error_text import first_line

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
"""vision_msgs 4, as of ROS 2 Humble, for recordings that do not hold these types."""
VIDEO = {
    FFMPEG_PACKET: (
        "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\n"
        "uint8 flags\nbool is_bigendian\nuint8[] data"
    ),
    COMPRESSED_VIDEO: (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format"
    ),
}
"""Likewise, by type."""


class _Types:
    """The types of ROS 2 Humble, and those that recordings with these definitions hold.

    Attributes:
        store: the type store of rosbags.
    """

    def __init__(self, definitions: Mapping[str, str]) -> None:
        from rosbags.typesys import Stores, get_typestore

        self.store: Any = get_typestore(Stores.ROS2_HUMBLE)
        self._definitions = definitions
        self._lock = Lock()

    def know(self, kind: str) -> None:
        """Register a type when it is first used: parsing takes longer than reading a message."""
        with self._lock:
            if kind not in self.store.fielddefs:
                self._register(kind)

    def _register(self, kind: str) -> None:
        from rosbags.typesys import get_types_from_msg

        if kind in self._definitions:
            self.store.register(get_types_from_msg(self._definitions[kind], kind))
        elif kind == DETECTION_ARRAY:
            types = {}
            for name, text in VISION_MSGS.items():
                types.update(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
            self.store.register(types)
        elif kind in VIDEO:
            self.store.register(get_types_from_msg(VIDEO[kind], kind))


@lru_cache(maxsize=8)
def _types_of(definitions: frozenset[tuple[str, str]]) -> _Types:
    """The types of a recording, which all that read it share.

    rosbags compiles code for each type that is read, which takes as long as a hundred messages.
    """
    return _Types(dict(definitions))


class Codec:
    """Reads and writes messages of the types of one recording."""

    def __init__(self, topics: Iterable[Topic] = ()) -> None:
        """Know the types of ROS 2 Humble, and those whose definitions the recording holds.

        Raises:
            BagError: rosbags is missing.
        """
        check_libraries()
        known = {topic.type: topic.definition for topic in topics if topic.definition}
        self._types = _types_of(frozenset(known.items()))
        self._store = self._types.store
        self._writer: DetectionArrayWriter | None = None

    @property
    def store(self) -> Any:
        """The type store of rosbags, with vision_msgs, for its writer."""
        self._types.know(DETECTION_ARRAY)
        return self._store

    def read(self, message: Message) -> Any:
        """The message, an object with the fields that it has in ROS.

        Raises:
            BagError: its type is unknown, it is damaged, or it has a problem.
        """
        return self._opened(message)[1]

    def published(self, message: Message) -> bytes:
        """The bytes of a message as ROS 2 publishes them; a damaged one could end subscribers.

        Raises:
            BagError: see ``read``.
        """
        return self._opened(message)[0]

    def _opened(self, message: Message) -> tuple[bytes, Any]:
        """The bytes of a message in the wire format of ROS 2 (CDR), and what they hold."""
        if message.problem:
            raise BagError(message.problem)
        try:
            self._types.know(message.type)
            data = _to_cdr(message)
            return data, self._store.deserialize_cdr(data, message.type)
        except Exception as error:  # a recording may hold anything; each library has its errors
            why = first_line(error)
            raise BagError(f"a message of {message.topic} cannot be read: {why}") from None

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
        if self._writer is None:
            self._writer = _detection_writer(self.store)
        make = self.store.types.__getitem__
        header = make("std_msgs/msg/Header")(
            make("builtin_interfaces/msg/Time")(*divmod(stamp, 10**9)), frame_id
        )
        message = self._writer.write(header, found, classes)
        return bytes(self._store.serialize_cdr(message, DETECTION_ARRAY))


def stamp_of(message: Any, received: int) -> int:
    """The stamp of a message in ns; the time of its reception if it has no stamp."""
    stamp = message.header.stamp if hasattr(message, "header") else message.timestamp
    return stamp.sec * 10**9 + stamp.nanosec or received


def _to_cdr(message: Message) -> bytes:
    """The bytes of a message as ROS 2 publishes it, however it was recorded.

    Raises:
        Exception: it is damaged, or too large; each format and compression has errors of its own.
    """
    data = plain_message(message.data)
    return FOREIGN_TYPES[message.recorded_as].convert(data) if message.recorded_as else data


def _detection_writer(store: Any) -> DetectionArrayWriter:
    """A writer of messages that ``store`` can serialise."""

    def make(name: str, *values: Any) -> Any:
        return store.types[name](*values)

    def new_detection() -> Any:
        pose = make(
            "geometry_msgs/msg/Pose",
            make("geometry_msgs/msg/Point", 0.0, 0.0, 0.0),
            make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0),
        )
        result = make(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            make("vision_msgs/msg/ObjectHypothesis", "", 0.0),
            make("geometry_msgs/msg/PoseWithCovariance", pose, np.zeros(36)),
        )
        centre = make("vision_msgs/msg/Pose2D", make("vision_msgs/msg/Point2D", 0.0, 0.0), 0.0)
        box = make("vision_msgs/msg/BoundingBox2D", centre, 0.0, 0.0)
        return make("vision_msgs/msg/Detection2D", None, [result], box, "")

    return DetectionArrayWriter(lambda: make(DETECTION_ARRAY, None, []), new_detection)
