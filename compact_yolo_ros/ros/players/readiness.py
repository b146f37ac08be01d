# SPDX-License-Identifier: Apache-2.0
"""Whether detectors have found the two ends that they connect: images, and who takes detections.

Discovery of DDS takes each pair of nodes unequally long, and what is sent before is lost. Only a
detector itself knows whom it has found, and says so on /diagnostics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node


class DetectorReadiness:
    """Follows what the nodes that publish some topics of detections say of their connections."""

    def __init__(self, node: Node, detections: Sequence[str], images: Sequence[str]) -> None:
        """Listen with ``node``.

        Args:
            node: which also counts the publishers that there are.
            detections: topics of detections whose nodes must be ready; they can be remapped.
            images: topics that these nodes are to process.
        """
        self._node, self._detections, self._images = node, detections, images
        self._missing: dict[str, str] = {}
        if detections:
            node.create_subscription(DiagnosticArray, "/diagnostics", self._read, 10)

    def problems(self) -> list[str]:
        """A sentence for each detector that is not ready; empty if all are."""
        found = []
        for topic in self._detections:
            names = self._publishing(topic)
            missing = [
                (name, self._missing.get(name, "is silent on /diagnostics")) for name in names
            ]
            found += [f"{name} {what}" for name, what in missing if what]
            if not names:
                found.append(f"no node publishes {self._node.resolve_topic_name(topic)}")
        return found

    def _publishing(self, topic: str) -> set[str]:
        """Full names of the nodes that publish a topic."""
        publishers = self._node.get_publishers_info_by_topic(topic)
        return {f"{p.node_namespace.rstrip('/')}/{p.node_name}" for p in publishers}

    def _read(self, message: DiagnosticArray) -> None:
        images = {topic: self._node.count_publishers(topic) for topic in self._images}
        for name in set().union(*map(self._publishing, self._detections)):
            own = [s for s in message.status if s.name.startswith(f"{name}: ")]
            if own:
                self._missing[name] = what_is_missing(own, images)


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
