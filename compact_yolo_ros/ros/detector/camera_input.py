# SPDX-License-Identifier: Apache-2.0
"""The subscription to a camera, with a quality of service that fits its publisher."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, NamedTuple

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from compact_yolo_ros.ros.detector.graph import Announced, announced
from compact_yolo_ros.ros.detector.topics import type_name
from compact_yolo_ros.ros.received_images import UNPACK
from compact_yolo_ros.ros.receiver import Receiver
from compact_yolo_ros.ros.topic_names import compressed_name
from compact_yolo_ros.ros.transports import Transport

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
LATCHED, VOLATILE = DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE


class Quality(NamedTuple):
    """What a subscription asks for: a publisher that offers less is not heard."""

    reliability: ReliabilityPolicy
    durability: DurabilityPolicy = VOLATILE


OnImage = Callable[..., object]
"""Takes what ``unpack`` reads and, where that is not now, when it came, on ``perf_counter``."""
EITHER = (Quality(RELIABLE), Quality(BEST_EFFORT))
"""Reliable first: a publisher that finds one of the two has found that one then."""
FOLLOW_PERIOD, LOOKS = 0.25, 8
"""Seconds between two looks at the publishers, and how many follow a change: a middleware may tell
of a publisher before the graph shows it. Where it tells of none, looks go on."""
TELLS_OF_PUBLISHERS = "matched" in signature(SubscriptionEventCallbacks).parameters
"""From Jazzy on."""
REMEMBERED = 4
"""Images that are known again when the other subscription brings them too."""


def offered_quality(node: Node, topic: str, kind: type) -> Quality | None:
    """The best that all publishers of ``topic`` offer; None without a publisher.

    Args:
        node: whose view of the graph it is.
        topic: the name that a subscription is given: remap rules are applied to it.
        kind: type of the messages; publishers of others are not heard anyway.
    """
    offers = [
        publisher.qos_profile
        for publisher in node.get_publishers_info_by_topic(topic)
        if publisher.topic_type == type_name(kind)
    ]
    if not offers:
        return None
    return Quality(
        RELIABLE if all(offer.reliability == RELIABLE for offer in offers) else BEST_EFFORT,
        LATCHED if all(offer.durability == LATCHED for offer in offers) else VOLATILE,
    )


class CameraInput:
    """Subscribes to the newest image of a topic, or of <topic>/compressed and the like.

    Messages stay serialized: to unpack one is to copy its pixels, and most images of a fast camera
    are replaced by newer ones before anybody looks at them.

    With ``reliability`` auto it takes what the publishers offer: reliable if all of them do,
    because large best-effort images lose fragments on the way; else best effort, because a
    reliable subscription gets nothing from a best-effort publisher. If all of them keep their last
    image for late subscribers, it asks for that image. As long as there is no
    publisher it has a subscription of each, so that the first image of any camera arrives.

    Attributes:
        topic: the topic that is subscribed to, remap rules applied.
        unpack: reads a message; raises ImageError.
    """

    depth = 1
    """Messages that wait for this process; of these, newer ones replace older ones."""

    def __init__(
        self, receiver: Receiver, topic: str, transport: Transport, reliability: str
    ) -> None:
        """Prepare; nothing is subscribed before ``open``. ``topic`` can be remapped.

        Raises:
            ValueError: the remap rules contradict each other.
            ModuleNotFoundError: the messages of the transport are not installed.
        """
        self._receiver = receiver
        self._node = node = receiver.node
        self._type = transport.message_class()
        self.unpack = UNPACK[transport.name]
        suffix = transport.suffix
        self._name = compressed_name(node, topic, suffix) if suffix else topic
        self.topic = node.resolve_topic_name(self._name)
        self._parameter = reliability
        self._on_image: OnImage
        self._subscriptions: dict[Quality, Subscription[Any]] = {}
        self._recent: deque[bytes] = deque(maxlen=max(REMEMBERED, self.depth))
        self._brought_twice = False
        self._incompatible = False
        self._tells = TELLS_OF_PUBLISHERS
        self._timer: Timer | None = None
        self._looks = 0

    def open(self, on_image: OnImage) -> None:
        """Subscribe; ``on_image`` is called with each serialized message, by the receiver."""
        self._on_image = on_image
        self._incompatible = False
        self._subscribe(self._choose())
        self._begin_looking()

    def close(self) -> None:
        """Unsubscribe; the camera's data is no longer carried to this process."""
        self._end_looking()
        self._subscribe(())
        self._recent.clear()

    def follow_publishers(self) -> None:
        """Subscribe otherwise if the current publishers offer another quality."""
        if not self._subscriptions:
            return
        chosen = self._choose()
        if set(chosen) == set(self._subscriptions):
            return
        if len(chosen) > 1:  # nobody publishes, so nothing is missed: begin again, in their order
            self._subscribe(())
        self._subscribe(chosen)

    def announced(self) -> Announced:
        """What the graph shows of these publishers."""
        return announced(self._node, self._name, type_name(self._type))

    @property
    def counts(self) -> Mapping[str, int]:
        """Further counts for /diagnostics."""
        return {}

    def problem(self) -> str:
        """Why no image comes of the messages that do; empty if there is no reason."""
        return ""

    @property
    def is_open(self) -> bool:
        """Whether it is subscribed."""
        return bool(self._subscriptions)

    @property
    def asks_for_latched(self) -> bool:
        """Whether it has asked for the last image from before the subscription."""
        return any(quality.durability == LATCHED for quality in tuple(self._subscriptions))

    @property
    def reliability(self) -> str:
        """That of the subscription; the parameter's value while there is none, or one of each."""
        asked = tuple(self._subscriptions)
        return asked[0].reliability.name.lower() if len(asked) == 1 else self._parameter

    @property
    def incompatible_qos(self) -> bool:
        """Whether there is a publisher that offers less than this subscription requires."""
        if not self._incompatible:
            return False
        # The middleware tells when such a publisher comes, and not when it goes.
        offered = offered_quality(self._node, self._name, self._type)
        return offered is not None and offered.reliability != RELIABLE

    def _choose(self) -> tuple[Quality, ...]:
        if self._parameter != "auto":
            return (Quality(ReliabilityPolicy[self._parameter.upper()]),)
        offered = offered_quality(self._node, self._name, self._type)
        return EITHER if offered is None else (offered,)

    def _subscribe(self, chosen: tuple[Quality, ...]) -> None:
        """Have these subscriptions; the new ones are there before the others are removed."""
        self._brought_twice = True
        for quality in chosen:  # each is known at once, also if ROS refuses the next
            if quality not in self._subscriptions:
                self._subscriptions[quality] = self._create(quality)
        for quality in self._subscriptions.keys() - set(chosen):
            self._receiver.unsubscribe(self._subscriptions.pop(quality))
        self._brought_twice = len(chosen) > 1

    def _create(self, quality: Quality) -> Subscription[Any]:
        events: dict[str, Any] = {"incompatible_qos": self._on_incompatible_qos}
        if self._tells:
            events["matched"] = self._on_matched
        try:
            return self._receiver.subscribe(
                self._type,
                self._name,
                self._receive,
                QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=self.depth, **quality._asdict()),
                event_callbacks=SubscriptionEventCallbacks(**events, use_default_callbacks=False),
            )
        except UnsupportedEventTypeError:
            if not self._tells:
                raise
            self._tells = False
            return self._create(quality)

    def _receive(self, message: bytes) -> None:
        """Pass an image on, once: while there are two subscriptions, each brings it.

        In the receiver's thread.
        """
        if message in self._recent:
            if not self._brought_twice:
                self._recent.remove(message)  # the last copy; what is equal now is a new image
            return
        if self._brought_twice:
            self._recent.append(message)
        else:
            self._recent.clear()
        self._on_image(message)

    def _on_incompatible_qos(self, _event: Any) -> None:
        # auto has a subscription for each kind of publisher until it knows which one is needed
        self._incompatible = self._parameter != "auto"
        self._begin_looking()

    def _on_matched(self, _event: Any) -> None:
        self._begin_looking()

    def _begin_looking(self) -> None:
        """Look at the publishers now and for a while, if that can change the subscription."""
        if self._parameter != "auto" or not self._subscriptions:
            return
        self._looks = LOOKS
        if self._timer is None:
            # A steady clock: simulated time may stand still.
            clock = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = self._node.create_timer(FOLLOW_PERIOD, self._look, clock=clock)
        self.follow_publishers()

    def _look(self) -> None:
        self.follow_publishers()
        self._looks -= 1
        if self._looks <= 0 and self._tells:
            self._end_looking()

    def _end_looking(self) -> None:
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
