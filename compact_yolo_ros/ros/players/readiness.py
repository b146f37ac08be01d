# SPDX-License-Identifier: Apache-2.0
"""Whether detectors are connected before playback, and have finished after it.

Discovery of DDS takes each pair of nodes unequally long, and what is sent before is lost. Only a
detector itself knows whom it has found and what it still works on, and says so on /diagnostics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

DONE = (
    "images_processed",
    "images_dropped",
    "images_too_old",
    "images_skipped",
    "errors",
)
"""Keys on /diagnostics of what can become of the images received."""
IDLE_REPORTS = 2
"""Reports of a detector that it has finished: the second gives the recorder time for the first."""


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
        self._idle: Counter[str] = Counter()
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

    def images_end(self) -> None:
        """Expect no further images: from now on detectors can finish."""
        self._idle.clear()

    def unfinished(self) -> set[str]:
        """Names of the detectors that may still work on an image; of none if none is awaited."""
        return {name for name in self._awaited() if self._idle[name] < IDLE_REPORTS}

    def _awaited(self) -> set[str]:
        return set().union(*map(self._publishing, self._detections))

    def _publishing(self, topic: str) -> set[str]:
        """Full names of the nodes that publish a topic."""
        publishers = self._node.get_publishers_info_by_topic(topic)
        return {f"{p.node_namespace.rstrip('/')}/{p.node_name}" for p in publishers}

    def _read(self, message: DiagnosticArray) -> None:
        images = {topic: self._node.count_publishers(topic) for topic in self._images}
        for name in self._awaited():
            own = [s for s in message.status if s.name.startswith(f"{name}: ")]
            if own:
                reports = [{pair.key: pair.value for pair in status.values} for status in own]
                self._missing[name] = what_is_missing(reports, own[0].message, images)
                self._idle[name] += is_idle(reports[0])


def what_is_missing(
    reports: Sequence[Mapping[str, str]], message: str, publishers: Mapping[str, int]
) -> str:
    """What a detector still waits for.

    Args:
        reports: values of its statuses on /diagnostics.
        message: of the first.
        publishers: how many it should have found on each topic of images.

    Returns:
        The end of a sentence that its name begins; empty if nothing is missing.
    """
    if not any(report.get("state") == "active" for report in reports):
        return f"is not active: {message}"
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


def is_idle(report: Mapping[str, str]) -> bool:
    """Whether something has become of every image that a detector has received."""
    return _count(report, "images_received") == sum(_count(report, key) for key in DONE)


def _count(report: Mapping[str, str], key: str) -> int:
    text = report.get(key, "")
    return int(text) if text.isdecimal() else 0
