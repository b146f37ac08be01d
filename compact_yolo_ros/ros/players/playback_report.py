# SPDX-License-Identifier: Apache-2.0
"""What a node that plays images says of itself on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from compact_yolo_ros.support.error_text import printable

INTERVAL = 1.0
"""Seconds between two reports."""


class PlaybackReport:
    """The status "<node>: playback".

    Attributes:
        publisher: of /diagnostics.
    """

    def __init__(self, node: Node) -> None:
        """Publish nothing before ``publish``."""
        self._name = f"{node.get_fully_qualified_name()}: playback"
        self.publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, stamp: Time, problem: str, usual: str, values: Mapping[str, object]) -> None:
        """Publish the status: WARN with the problem or, if that is empty, OK with what is usual."""
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if problem else DiagnosticStatus.OK,
            name=self._name,
            message=printable(problem or usual),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = stamp
        self.publisher.publish(message)
