# SPDX-License-Identifier: Apache-2.0
"""The subscription to a camera, with a quality of service that fits its publisher."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from compact_yolo_ros.ros.topic_names import compressed_name

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
EITHER = (RELIABLE, BEST_EFFORT)
"""Reliable first: a publisher that finds one of the two has found that one then."""
REMEMBERED = 4
"""Images that are known again when the other subscription brings them too."""


def offered_reliability(node: Node, topic: str) -> ReliabilityPolicy | None:
    """The best reliability that all publishers of ``topic`` offer; None without a publisher.

    ``topic`` is the name that a subscription is given: remap rules are applied to it.
    """
    offers = {
        publisher.qos_profile.reliability for publisher in node.get_publishers_info_by_topic(topic)
    }
    if offers == {RELIABLE}:
        return RELIABLE
    return BEST_EFFORT if offers else None


class CameraInput:
    """Subscribes to the newest image of a topic, or of <topic>/compressed.

    With ``reliability`` auto it takes what the publishers offer: reliable if all of them do,
    because large best-effort images lose fragments on the way; else best effort, because a
    reliable subscription gets nothing from a best-effort publisher. As long as there is no
    publisher it has a subscription of each, so that the first image of any camera arrives.

    Attributes:
        topic: the topic that is subscribed to, remap rules applied.
    """

    def __init__(self, node: Node, topic: str, transport: str, reliability: str) -> None:
        """Prepare; nothing is subscribed before ``open``. ``topic`` can be remapped.

        Raises:
            ValueError: the remap rules contradict each other.
        """
        self._node = node
        compressed = transport == "compressed"
        self._type = CompressedImage if compressed else Image
        self._name = compressed_name(node, topic) if compressed else topic
        self.topic = node.resolve_topic_name(self._name)
        self._parameter = reliability
        self._on_image: Callable[[Any], None]
        self._subscriptions: dict[ReliabilityPolicy, Subscription[Any]] = {}
        self._recent: deque[Any] = deque(maxlen=REMEMBERED)
        self._incompatible = False

    def open(self, on_image: Callable[[Any], None]) -> None:
        """Subscribe; ``on_image`` is called with each message."""
        self._on_image = on_image
        self._incompatible = False
        self._subscribe(self._choose())

    def close(self) -> None:
        """Unsubscribe; the camera's data is no longer carried to this process."""
        self._subscribe(())
        self._recent.clear()

    def follow_publishers(self) -> None:
        """Subscribe otherwise if the current publishers need another reliability."""
        if not self._subscriptions:
            return
        chosen = self._choose()
        if set(chosen) == set(self._subscriptions):
            return
        if len(chosen) > 1:  # nobody publishes, so nothing is missed: begin again, in their order
            self._subscribe(())
        self._subscribe(chosen)

    def publisher_count(self) -> int:
        """Publishers on the topic right now."""
        return self._node.count_publishers(self.topic)

    @property
    def reliability(self) -> str:
        """That of the subscription; the parameter's value while there is none, or one of each."""
        policies = tuple(self._subscriptions)
        return policies[0].name.lower() if len(policies) == 1 else self._parameter

    @property
    def incompatible_qos(self) -> bool:
        """Whether a publisher was found that offers less than this subscription requires."""
        return self._incompatible

    def _choose(self) -> tuple[ReliabilityPolicy, ...]:
        if self._parameter != "auto":
            return (ReliabilityPolicy[self._parameter.upper()],)
        offered = offered_reliability(self._node, self._name)
        return EITHER if offered is None else (offered,)

    def _subscribe(self, chosen: tuple[ReliabilityPolicy, ...]) -> None:
        """Have these subscriptions; the new ones are there before the others are removed."""
        before = self._subscriptions
        self._subscriptions = {
            policy: before.pop(policy) if policy in before else self._create(policy)
            for policy in chosen
        }
        for subscription in before.values():
            self._node.destroy_subscription(subscription)

    def _create(self, reliability: ReliabilityPolicy) -> Subscription[Any]:
        return self._node.create_subscription(
            self._type,
            self._name,
            self._receive,
            QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible_qos),
        )

    def _receive(self, message: Any) -> None:
        """Pass an image on, once: while there are two subscriptions, each brings it."""
        if message in self._recent:
            return
        if len(self._subscriptions) > 1:
            self._recent.append(message)
        else:
            self._recent.clear()
        self._on_image(message)

    def _on_incompatible_qos(self, _event: Any) -> None:
        # auto has a subscription for each kind of publisher until it knows which one is needed
        self._incompatible = self._parameter != "auto"
