# SPDX-License-Identifier: Apache-2.0
"""Records what a detector publishes into an MCAP file, without rosbag2."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from vision_msgs.msg import Detection2DArray

from compact_yolo_ros.detection.detection_array import DETECTION_ARRAY
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.ros.parameters import NodeParameters, ParameterSpec

BAG_RECORDER_PARAMETERS = (
    ParameterSpec("out", "", "Folder to write the recording to; it must not exist."),
    ParameterSpec("detections", ["detector/detections"], "Topics of detections."),
    ParameterSpec(
        "diagnostics",
        ["/diagnostics", "detector/performance"],
        "Topics of diagnostics, and of the times of each image.",
    ),
)
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
TYPES = {DETECTION_ARRAY: Detection2DArray, DIAGNOSTICS: DiagnosticArray}
QUEUE = QoSProfile(depth=1000)
"""This many messages may wait while the disk is busy."""


class BagRecorderNode(Node):
    """Writes messages as they arrive, byte for byte, with the time of the node's clock."""

    def __init__(self, **options: Any) -> None:
        """Begin the recording; ``options`` go to ``rclpy.node.Node``.

        Raises:
            ValueError: a parameter cannot be used; the sentence says why.
        """
        super().__init__("bag_recorder", **options)
        values = NodeParameters(self, BAG_RECORDER_PARAMETERS).checked_values()
        codec = Codec()
        from rosbags.rosbag2 import StoragePlugin, Writer

        folder = Path(values["out"]).expanduser()
        if not values["out"] or folder.exists():
            raise ValueError(
                f"out '{values['out']}' must be the path of a folder that does not exist"
            )
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._writer.open()
        except OSError as error:
            raise ValueError(f"cannot write to {folder}: {error.strerror}") from None
        self._written = 0
        for kind, names in (
            (DETECTION_ARRAY, values["detections"]),
            (DIAGNOSTICS, values["diagnostics"]),
        ):
            for name in names:
                topic = self.resolve_topic_name(name)
                connection = self._writer.add_connection(topic, kind, typestore=codec.store)
                self.create_subscription(
                    TYPES[kind], topic, partial(self._write, connection), QUEUE, raw=True
                )
        self.get_logger().info(f"Recording to {folder}")

    def close(self) -> None:
        """Close the recording: only then can it be read."""
        try:
            self._writer.close()
        except OSError as error:
            self.get_logger().error(f"The recording is not closed: {error.strerror}")
        self.get_logger().info(f"Recorded {self._written} messages")

    def _write(self, connection: Any, data: bytes) -> None:
        # Before the first message on /clock, simulated time is zero, which is not a time.
        now = self.get_clock().now().nanoseconds
        if not now:
            return
        try:
            self._writer.write(connection, now, data)
        except OSError as error:
            self.get_logger().fatal(f"Cannot write the recording: {error.strerror}")
            raise SystemExit(1) from None
        self._written += 1
