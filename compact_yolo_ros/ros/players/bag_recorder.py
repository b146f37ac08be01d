# SPDX-License-Identifier: Apache-2.0
"""Records what a detector publishes into an MCAP file, without rosbag2."""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from vision_msgs.msg import Detection2DArray

from compact_yolo_ros.detection.detection_array import DETECTION_ARRAY
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.writer import new_writer
from compact_yolo_ros.ros.parameters import NodeParameters, ParameterSpec
from compact_yolo_ros.support.files import in_home

BAG_RECORDER_PARAMETERS = (
    ParameterSpec(
        "out", "", "Folder to write the recording to; it must not exist.", changes="never"
    ),
    ParameterSpec("detections", ["detector/detections"], "Topics of detections.", changes="never"),
    ParameterSpec(
        "diagnostics",
        ["/diagnostics", "detector/performance"],
        "Topics of diagnostics, and of the times of each image.",
        changes="never",
    ),
)
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
TYPES = {DETECTION_ARRAY: Detection2DArray, DIAGNOSTICS: DiagnosticArray}
QUEUE = QoSProfile(depth=1000)
"""This many messages may wait while the disk is busy, or for the first time on /clock."""


class BagRecorderNode(Node):
    """Writes messages as they arrive, byte for byte, with the time of the node's clock.

    Attributes:
        close_within: seconds that a slow disk may take at the end; see ``run_node``.
        lost: messages that were too many to wait for the first time on /clock.
    """

    close_within = 30.0

    def __init__(self, **options: Any) -> None:
        """Begin the recording; ``options`` go to ``rclpy.node.Node``.

        Raises:
            ValueError: a parameter cannot be used; the sentence says why.
        """
        super().__init__("bag_recorder", **options)
        values = NodeParameters(self, BAG_RECORDER_PARAMETERS).checked_values()
        codec = Codec()
        folder = in_home(values["out"])
        if not values["out"] or os.path.lexists(folder):
            raise ValueError(
                f"out '{values['out']}' must be the path of a folder that does not exist"
            )
        # Others learn of subscriptions in the order of their creation: a node that has found that
        # of its detections, which are the last, has found the ones before.
        kinds = ((DIAGNOSTICS, values["diagnostics"]), (DETECTION_ARRAY, values["detections"]))
        named = {(self._resolved(name), kind): name for kind, names in kinds for name in names}
        for (topic, kind), name in named.items():
            self.create_subscription(
                TYPES[kind], name, partial(self._receive, topic), QUEUE, raw=True
            )
        # Not before ROS has taken all topics: the next start would find the folder.
        try:
            self._writer = new_writer(folder)
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._writer.open()
        except OSError as error:
            raise ValueError(f"cannot write to {folder}: {error.strerror}") from None
        self._connections = {
            topic: self._writer.add_connection(topic, kind, typestore=codec.store)
            for topic, kind in named
        }
        self._written = 0
        self._arrived: deque[tuple[str, bytes]] = deque()
        self.lost = 0
        self.get_logger().info(f"Recording to {folder}")

    def close(self) -> None:
        """Close the recording: only then is all of it in the file.

        Raises:
            SystemExit: it cannot be closed, or nothing could be recorded.
        """
        self._flush()
        try:
            self._writer.close()
        except OSError as error:
            self.get_logger().fatal(
                f"The recording is not closed: {error.strerror}; of its {self._written} messages "
                "the last may be missing"
            )
            raise SystemExit(1) from None
        if self._arrived:
            self.get_logger().fatal("Nothing is recorded: no time arrived on /clock")
            raise SystemExit(1)
        lost = f", without {self.lost} that came before the first time on /clock"
        self.get_logger().info(f"Recorded {self._written} messages{lost if self.lost else ''}")

    def _resolved(self, name: str) -> str:
        """The full name of a topic, by which one that is given twice is known."""
        try:
            return self.resolve_topic_name(name)
        except RuntimeError:  # rclpy's RCLError
            raise ValueError(
                f"'{name}' cannot be a topic of ROS: give letters, digits and underscores, and '/' "
                "between its parts"
            ) from None

    def _receive(self, topic: str, data: bytes) -> None:
        self._arrived.append((topic, data))
        self._flush()
        if self.waiting > QUEUE.depth:
            self._arrived.popleft()
            self.lost += 1
            self.get_logger().warning(
                f"there is no time on /clock yet, and only the last {QUEUE.depth} messages wait "
                "for it: the ones before are lost; start what publishes /clock",
                once=True,
            )

    @property
    def waiting(self) -> int:
        """Messages that wait for the first time on /clock."""
        return len(self._arrived)

    @property
    def time(self) -> int:
        """Time of the node's clock in ns; 0 as long as there is none on /clock."""
        return int(self.get_clock().now().nanoseconds)

    def _flush(self) -> None:
        """Write what has arrived; without a time yet it waits for one."""
        # Before the first message on /clock, simulated time is zero, which is not a time.
        if now := self.time:
            while self._arrived:
                self._write(*self._arrived.popleft(), now)

    def _write(self, topic: str, data: bytes, now: int) -> None:
        try:
            self._writer.write(self._connections[topic], now, data)
        except OSError as error:
            self.get_logger().fatal(f"Cannot write the recording: {error.strerror}")
            raise SystemExit(1) from None
        self._written += 1
