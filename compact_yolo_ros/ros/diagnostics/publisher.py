# SPDX-License-Identifier: Apache-2.0
"""Publishing /diagnostics, and logging what changes there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.publisher import Publisher

from compact_yolo_ros.ros.diagnostics.camera_health import is_failing
from compact_yolo_ros.ros.diagnostics.causes import PERIOD, cause_of
from compact_yolo_ros.ros.diagnostics.health import assess
from compact_yolo_ros.ros.diagnostics.report import to_statuses
from compact_yolo_ros.ros.diagnostics.situations import CameraState, Description, NodeSituation
from compact_yolo_ros.ros.diagnostics.status import Level, Status

SHARED = "/"
"""Stands for what the cameras share; no camera has such a name."""


class DiagnosticsPublisher:
    """Publishes the health of a node and its cameras."""

    def __init__(self, node: Node, publisher: Publisher[DiagnosticArray]) -> None:
        """Publish with ``publisher``, in the name of ``node``."""
        self._node = node
        self._publisher = publisher
        self._logged: dict[str, Status] = {}
        self._failing: set[str] = set()
        self._warned: dict[tuple[str, str], float] = {}
        self._machine = os.uname().nodename

    def publish(
        self,
        situation: NodeSituation,
        cameras: Mapping[str, CameraState],
        describe: Callable[[], Description],
    ) -> None:
        """Log what has changed, and publish one message if somebody subscribes.

        Args:
            situation: what concerns all cameras.
            cameras: counters, times and surroundings of each camera, by its name.
            describe: is called if somebody subscribes.
        """
        self._log_changes(situation, cameras)
        if self._publisher.get_subscription_count() == 0:
            return
        health = assess(situation, cameras)
        device, facts = describe()
        name = self._node.get_fully_qualified_name()
        hardware = f"{self._machine}: {device}" if device else self._machine
        message = DiagnosticArray(status=to_statuses(name, hardware, health, cameras, facts))
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _log_changes(self, node: NodeSituation, cameras: Mapping[str, CameraState]) -> None:
        """Log for those who do not watch /diagnostics that something is wrong, or right again.

        What the cameras share and each camera are logged apart: a camera that is silent for a
        moment hides neither a warning of the node, nor makes it new afterwards. What is on the edge
        of a warning, such as a camera that is a little too fast, comes and goes without end: each
        warning is logged at most once in ``PERIOD`` seconds.
        """
        if node.failure:
            return  # it was logged when it happened, as these two were
        health = assess(replace(node, warning="", leftover=""), cameras)
        if health.is_resting:
            self._log_resting(node, health.shared)
            return
        self._log(SHARED, health.shared)
        failing = set()
        for name, status in health.cameras.items():
            snapshot = cameras[name].snapshot
            if is_failing(snapshot) and (name in self._failing or snapshot.is_told):
                self._logged[name] = status  # each new cause was logged when it happened
                failing.add(name)
            elif self._log(name, status) and is_failing(snapshot):
                failing.add(name)
        self._failing = failing

    def _log_resting(self, node: NodeSituation, status: Status) -> None:
        """Log what is wrong while no image is processed, in the same words as otherwise."""
        if node.concerns and status.level == Level.WARN and node.state != "finalized":
            status = Status(Level.WARN, "; ".join(node.concerns))
        if status.level != Level.OK:
            self._log(SHARED, status)

    def _log(self, name: str, status: Status) -> bool:
        """Log a status unless it is that of the log; return whether it is now."""
        level, message = self._logged.get(name, Status(Level.OK, ""))
        cause = cause_of(status.message)
        is_same = status.level == level and (level == Level.OK or cause == cause_of(message))
        if not is_same and status.level == Level.WARN and not self._may_warn(name, cause):
            return False
        self._logged[name] = status
        if is_same:
            return True
        sentence = status.message if name in ("", SHARED) else f"{name}: {status.message}"
        logger = self._node.get_logger()
        # A line for each: rclpy refuses another severity from the same one.
        if status.level == Level.ERROR:
            logger.error(sentence)
        elif status.level == Level.OK:
            logger.info(sentence)
        else:
            logger.warning(sentence)
        return True

    def _may_warn(self, name: str, cause: str) -> bool:
        """Whether a warning was not logged in the last ``PERIOD`` seconds; now it is."""
        now = monotonic()
        self._warned = {key: at for key, at in self._warned.items() if now - at < PERIOD}
        if (name, cause) in self._warned:
            return False
        self._warned[name, cause] = now
        return True
