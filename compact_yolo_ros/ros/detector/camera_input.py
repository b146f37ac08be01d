# SPDX-License-Identifier: Apache-2.0
"""The subscription to a camera, with a quality of service that fits its publisher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

COMPRESSED_SUFFIX = "/compressed"


def offered_reliability(node: Node, topic: str) -> ReliabilityPolicy | None:
    """The best reliability that all publishers of ``topic`` offer; None without a publisher."""
    offers = {
        publisher.qos_profile.reliability for publisher in node.get_publishers_info_by_topic(topic)
    }
    if offers == {ReliabilityPolicy.RELIABLE}:
        return ReliabilityPolicy.RELIABLE
    return ReliabilityPolicy.BEST_EFFORT if offers else None


class CameraInput:
    """Subscribes to the newest image of a topic, or of <topic>/compressed.

    With ``reliability`` auto it takes what the publishers offer: reliable if all of them do,
    because large best-effort images lose fragments on the way; else best effort, because a
    reliable subscription gets nothing from a best-effort publisher.
    """

    def __init__(self, node: Node, topic: str, transport: str, reliability: str) -> None:
        """Prepare; nothing is subscribed before ``open``. ``topic`` can be remapped."""
        self._node = node
        self._type = CompressedImage if transport == "compressed" else Image
        self._chosen = reliability
        self._on_image: Callable[[Any], None]
        self._subscription: Subscription[Any] | None = None
        self._incompatible = False
        topic = node.resolve_topic_name(topic)
        if transport == "compressed" and not topic.endswith(COMPRESSED_SUFFIX):
            topic += COMPRESSED_SUFFIX
        self.topic = topic
        self.reliability = ReliabilityPolicy.BEST_EFFORT

    def open(self, on_image: Callable[[Any], None]) -> None:
        """Subscribe; ``on_image`` is called with each message."""
        self._on_image = on_image
        self.reliability = self._choose()
        self._incompatible = False
        self._subscription = self._node.create_subscription(
            self._type,
            self.topic,
            on_image,
            QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=self.reliability),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible_qos),
        )

    def close(self) -> None:
        """Unsubscribe; the camera's data is no longer carried to this process."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def follow_publishers(self) -> None:
        """Subscribe again if the current publishers need another reliability."""
        if self._subscription is not None and self._choose() != self.reliability:
            self.close()
            self.open(self._on_image)

    def publisher_count(self) -> int:
        """Publishers on the topic right now."""
        return self._node.count_publishers(self.topic)

    @property
    def incompatible_qos(self) -> bool:
        """Whether a publisher was found that offers less than this subscription requires."""
        return self._incompatible

    def _choose(self) -> ReliabilityPolicy:
        if self._chosen != "auto":
            return ReliabilityPolicy[self._chosen.upper()]
        # Without a publisher it stays as it was; at first best effort, which fits all.
        return offered_reliability(self._node, self.topic) or self.reliability

    def _on_incompatible_qos(self, _event: Any) -> None:
        self._incompatible = True
