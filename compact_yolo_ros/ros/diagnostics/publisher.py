# SPDX-License-Identifier: Apache-2.0
"""Publishing /diagnostics, and logging when a level there changes."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.publisher import Publisher

from compact_yolo_ros.ros.diagnostics.health import (
    CameraState,
    Health,
    Level,
    NodeSituation,
    assess,
)
from compact_yolo_ros.ros.diagnostics.report import to_statuses


class DiagnosticsPublisher:
    """Publishes the health of a node and its cameras."""

    def __init__(self, node: Node, publisher: Publisher[DiagnosticArray]) -> None:
        """Publish with ``publisher``, in the name of ``node``."""
        self._node = node
        self._publisher = publisher
        self._logged: dict[str, Level] = {}

    def publish(
        self,
        situation: NodeSituation,
        cameras: Mapping[str, CameraState],
        hardware_id: str,
        facts: Mapping[str, object],
    ) -> None:
        """Publish one message.

        Args:
            situation: what concerns all cameras.
            cameras: counters, times and surroundings of each camera, by its name.
            hardware_id: what the network runs on; empty if nothing is loaded.
            facts: key-value pairs of the node.
        """
        health = assess(situation, cameras)
        self._log_changes(situation, health, cameras)
        name = self._node.get_fully_qualified_name()
        message = DiagnosticArray(status=to_statuses(name, hardware_id, health, cameras, facts))
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def warning_logged(self) -> None:
        """Do not log the warning of the node again that was logged just now."""
        self._logged[""] = Level.WARN

    def _log_changes(
        self, situation: NodeSituation, health: Health, cameras: Mapping[str, CameraState]
    ) -> None:
        """Log for those who do not watch /diagnostics that something is wrong, or right again."""
        named = cameras and "" not in cameras
        statuses = {**health.cameras, "": health.shared if named else health.node}
        for name, status in statuses.items():
            failing = name in cameras and cameras[name].snapshot.recent_errors
            if situation.failure or failing:
                continue  # each failure was logged when it happened
            if status.level == self._logged.get(name, Level.OK):
                continue
            self._logged[name] = status.level
            sentence = f"{name}: {status.message}" if name else status.message
            if status.level == Level.OK:
                self._node.get_logger().info(sentence)
            else:  # not the same line as above: rclpy refuses another severity from it
                self._node.get_logger().warning(sentence)
