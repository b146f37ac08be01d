# SPDX-License-Identifier: Apache-2.0
"""Whether detectors have found the two ends that they connect: images, and who takes detections.

Discovery of DDS takes each pair of nodes unequally long, and what is sent before is lost. Only a
detector itself knows whom it has found, and says so on /diagnostics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

SILENT = "has not reported on /diagnostics"


class DetectorReadiness:
    """Follows what detector nodes say of their connections."""

    def __init__(self, node: Node, detectors: Sequence[str], topics: Sequence[str]) -> None:
        """Listen with ``node``.

        Args:
            node: which also counts the publishers that there are.
            detectors: full names of nodes.
            topics: of the images that they are to process.
        """
        self._node, self._topics = node, topics
        self._missing = dict.fromkeys(detectors, SILENT)
        if detectors:
            node.create_subscription(DiagnosticArray, "/diagnostics", self._read, 10)

    def problems(self) -> list[str]:
        """A sentence for each detector that is not ready; empty if all are."""
        return [f"{detector} {what}" for detector, what in self._missing.items() if what]

    def _read(self, message: DiagnosticArray) -> None:
        publishers = {topic: self._node.count_publishers(topic) for topic in self._topics}
        for detector in self._missing:
            own = [s for s in message.status if s.name.startswith(f"{detector}: ")]
            if own:
                self._missing[detector] = what_is_missing(own, publishers)


def what_is_missing(statuses: Sequence[DiagnosticStatus], publishers: Mapping[str, int]) -> str:
    """What a detector still waits for.

    Args:
        statuses: its own on /diagnostics.
        publishers: how many it should have found on each topic of images.

    Returns:
        The end of a sentence that its name begins; empty if nothing is missing.
    """
    reports = [{pair.key: pair.value for pair in status.values} for status in statuses]
    if not any(report.get("state") == "active" for report in reports):
        return f"is not active: {statuses[0].message}"
    cameras = [report for report in reports if report.get("image_topic") in publishers]
    if not cameras:
        return f"does not subscribe to {', '.join(publishers)}"
    for report in cameras:
        topic = report["image_topic"]
        if _count(report, "image_publishers") < publishers[topic]:
            return f"has not found the publisher of {topic}"
        if not _count(report, "detection_subscribers"):
            return "has no subscriber of its detections"
    return ""


def _count(report: Mapping[str, str], key: str) -> int:
    text = report.get(key, "")
    return int(text) if text.isdecimal() else 0
