# SPDX-License-Identifier: Apache-2.0
"""Plays recordings: images on their topics at their rate, and the recorded time on /clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CompressedImage, Image

from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.image_types import COMPRESSED_IMAGE
from compact_yolo_ros.recordings.reader import Bag, choose_topics, time_after
from compact_yolo_ros.recordings.storage import BagError, Message, StorageError
from compact_yolo_ros.recordings.video import images
from compact_yolo_ros.ros.parameters import NodeParameters, ParameterSpec
from compact_yolo_ros.ros.players.playback_report import INTERVAL, PlaybackReport
from compact_yolo_ros.ros.players.readiness import DetectorReadiness
from compact_yolo_ros.ros.players.sending import ImageSender
from compact_yolo_ros.support.error_text import first_line, reason
from compact_yolo_ros.support.files import in_home

BAG_PLAYER_PARAMETERS = (
    ParameterSpec("bags", [""], "Recordings: folders or files; read as one.", changes="never"),
    ParameterSpec(
        "topics", [""], "Image topics to play; not needed if there is only one.", changes="never"
    ),
    ParameterSpec(
        "rate",
        1.0,
        "Playback rate; 2.0 plays twice as fast as it was recorded.",
        low=0.01,
        high=100,
        changes="never",
    ),
    ParameterSpec("loop", False, "Start again at the end instead of ending.", changes="never"),
    ParameterSpec(
        "start",
        0.0,
        "Seconds of the recording to skip at its beginning.",
        low=0,
        high=1e6,
        changes="never",
    ),
    ParameterSpec(
        "duration", 0.0, "Seconds to play; 0 is up to the end.", low=0, high=1e6, changes="never"
    ),
    ParameterSpec(
        "wait_for",
        [""],
        "Topics of detections whose detectors must have found the images and a subscriber, by"
        " /diagnostics, before playback begins.",
        changes="never",
    ),
    ParameterSpec(
        "patience",
        20.0,
        "Most seconds to wait for subscribers and detectors before playback, while the clock stands"
        " still, and for detectors after it.",
        low=0,
        high=3600,
        changes="never",
    ),
    ParameterSpec(
        "reliability",
        "reliable",
        "Quality of service of the images.",
        choices=("reliable", "best_effort"),
        changes="never",
    ),
)
TYPES = {COMPRESSED_IMAGE: CompressedImage}
TICK = 0.01
"""Seconds between two messages on /clock, and between two looks at what is due."""
LINGER = 1.0
"""Least seconds that the clock goes on after the last image, or after the end of one of several
recordings, so that what was played can be processed."""
LATEST = 2**31 * 10**9
"""Time in ns, in January 2038, that no message of ROS can hold."""
LATE = 0.1
"""Most seconds that an image may be late; then time stands still, or its age would grow."""
BEHIND = 1.0
"""Seconds that time has stood still for late images from which on it is told."""
CLOCK_SET = 24 * 3600 * 10**9
"""Time in ns between two images of a recording from which on it is no pause: the clock was set."""


class BagPlayerNode(Node):
    """Publishes images as they were recorded, byte for byte, and those of videos as raw images."""

    def __init__(self, **options: Any) -> None:
        """Open the recordings and start; ``options`` go to ``rclpy.node.Node``.

        Raises:
            ValueError: a parameter or a recording cannot be used; the sentence says why.
        """
        super().__init__("bag_player", **options)
        values = NodeParameters(self, BAG_PLAYER_PARAMETERS).checked_values()
        if not any(values["bags"]):
            raise ValueError("bags names no recording: give bags:=['path']")
        self._bag = Bag([in_home(path) for path in values["bags"] if path])
        self._topics = choose_topics(self._bag, [topic for topic in values["topics"] if topic])
        self._rate, self._loop = values["rate"], values["loop"]
        skipped, played = round(values["start"] * 1e9), round(values["duration"] * 1e9)
        self._start, self._stop = time_after(self._bag.recordings, skipped), LATEST
        if played:
            self._stop = min(LATEST, time_after(self._bag.recordings, skipped + played))
        self._sender = ImageSender(self.get_logger())
        self._damaged = 0
        self._last_damage = ""
        self._behind = 0.0
        self._codec = Codec(self._bag.topics.values())
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy[values["reliability"].upper()])
        self._publishers_of: dict[str, Publisher[Any]] = {
            topic: self._publisher(topic, qos) for topic in self._topics
        }
        detections = [topic for topic in values["wait_for"] if topic]
        images = [publisher.topic_name for publisher in self._publishers_of.values()]
        self._readiness = DetectorReadiness(self, detections, images)
        self._clock_publisher = self.create_publisher(ClockMessage, "/clock", 10)
        self._patience = values["patience"]
        self._created = time.monotonic()
        self._begin()
        if self._due is None:
            seconds = self._bag.length * 1e-9
            why = "; ".join(self._lost())
            raise ValueError(f"nothing is left to play of {seconds:.1f} s{': ' * bool(why)}{why}")
        # A steady clock: this node is what moves simulated time.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK, self._tick, clock=steady)
        self._playback = PlaybackReport(self)
        self.create_timer(INTERVAL, self._report, clock=steady)
        self.get_logger().info(f"Playing {', '.join(images)} at {self._rate:g} times speed")

    def _publisher(self, topic: str, qos: QoSProfile) -> Publisher[Any]:
        try:
            return self.create_publisher(TYPES.get(self._bag.topics[topic].type, Image), topic, qos)
        except InvalidTopicNameException as error:
            why = first_line(error).removeprefix("Invalid topic name: ").rstrip(":")
            raise ValueError(f"'{topic}' cannot be a topic of ROS: {why}") from None

    def close(self) -> None:
        """Log what was published."""
        for sentence in [*self._lost(), *self._slow()]:
            self.get_logger().warning(sentence)
        if self._damaged:
            self.get_logger().warning(f"Left out {self._damaged} damaged images")
        self.get_logger().info(f"Published {self._sender.published} images")

    def _begin(self) -> None:
        """Go to the first message; time stands still until playback may begin."""
        self._messages: Iterator[Message] = images(self._bag, self._topics, self._start, self._stop)
        self._due = next(self._messages, None)
        self._first = self._now = self._due.time if self._due else self._start
        self._last = self._first
        self._began = self._ended = 0.0

    def _tick(self) -> None:
        try:
            self._play()
        except (BagError, StorageError, OSError) as error:
            self.get_logger().fatal(f"The recording cannot be read any more: {reason(error)}")
            raise SystemExit(1) from error

    def _play(self) -> None:
        if not self._began and not self._may_begin():
            self._publish_time()
            return
        elapsed, before = max(0.0, time.monotonic() - self._began), self._now
        self._now = self._first + round(elapsed * self._rate * 1e9)
        self._skip_pause()
        self._wait_for_images(before)
        self._publish_time()
        while self._due is not None and self._due.time <= self._now:
            self._publish(self._due)
            self._last = self._due.time
            self._due = next(self._messages, None)
        if self._due is None:
            self._end()

    def _skip_pause(self) -> None:
        """Go on with the next recording soon after the end of the one before.

        So it does in a recording during which the clock was set.
        """
        if self._due is None:
            return
        starts = (start for start, _ in self._bag.recordings)
        later = [start for start in starts if self._now < start <= self._due.time]
        ended = max((end for start, end in self._bag.recordings if start <= self._now), default=0)
        if not later and self._due.time - self._last > CLOCK_SET:
            later, ended = [self._due.time], self._last
        if not later or self._now < ended + LINGER * self._rate * 1e9:
            return
        self._go_on_from(min(later))

    def _wait_for_images(self, before: int) -> None:
        """Let time stand where images come late, as from a slow disk.

        Else the age of what is made of them would be that of the way to here as well, and grow.

        Args:
            before: time in ns up to which images were published.
        """
        if self._due is None:
            return
        late = (self._now - max(before, self._due.time)) * 1e-9 / self._rate
        if late > LATE:
            self._behind += late
            self._go_on_from(max(before, self._due.time))

    def _go_on_from(self, now: int) -> None:
        self._first = self._now = now
        self._began = time.monotonic()

    def _publish(self, message: Message) -> None:
        try:
            data = self._codec.published(message)
        except BagError as error:
            self._damaged += 1
            self._last_damage = str(error)
            return
        self._sender.send(self._publishers_of[message.topic], data)

    def _may_begin(self) -> bool:
        """Whether all who must hear the first image are connected; then its moment is set."""
        deaf, unready = self._topics_without_subscriber(), self._readiness.problems()
        if (deaf or unready) and time.monotonic() < self._created + self._patience:
            return False
        if unready:
            self.get_logger().fatal(f"Nothing was played: {'; '.join(unready)}")
            raise SystemExit(1)
        for topic in deaf:
            self.get_logger().warning(f"{topic} is played without all of its subscribers")
        self._began = time.monotonic()
        return True

    def _topics_without_subscriber(self) -> list[str]:
        """Topics where nobody, or not everybody who was found, is connected to the publisher."""
        return [
            publisher.topic_name
            for publisher in self._publishers_of.values()
            if publisher.get_subscription_count()
            < max(1, self.count_subscribers(publisher.topic_name))
        ]

    def _end(self) -> None:
        if not self._ended:
            self._ended = time.monotonic()
            self._readiness.images_end()
        waited = time.monotonic() - self._ended
        unfinished = self._readiness.unfinished() if waited < self._patience else set()
        if waited < LINGER or unfinished:
            return
        if not self._sender.published:
            self.get_logger().fatal(f"Nothing was played: {'; '.join(self._problems())}")
            raise SystemExit(1)
        if self._loop:
            self._begin()
            self._began = time.monotonic()
            return
        self._report()
        for publisher in self._publishers_of.values():
            publisher.wait_for_all_acked(Duration(seconds=1))
        raise SystemExit(0)

    def _report(self) -> None:
        """Say how fast it plays, for those who record what others make of it, and what is bad."""
        values = {
            "playback_rate": self._rate,
            "images_published": self._sender.published,
            "images_damaged": self._damaged,
            "images_failed": self._sender.failed,
            "seconds_behind": f"{self._behind:.1f}",
        }
        for sentence in self._waits():
            self.get_logger().info(sentence, once=True)
        stamp = Time(nanoseconds=self._now).to_msg()
        usual = f"{self._rate:g} times the recorded pace"
        self._playback.publish(stamp, "; ".join(self._problems()), usual, values)

    def _problems(self) -> list[str]:
        """Why images of the recording are not played, a sentence each."""
        damaged = f"{self._damaged} damaged image(s) left out: {self._last_damage}"
        bad = [damaged] * bool(self._damaged) + self._sender.problems() + self._lost()
        return [*self._waits(), *bad, *self._slow()]

    def _slow(self) -> list[str]:
        """That it plays more slowly than it should, a sentence; none if it does not."""
        told = (
            f"playback took {self._behind:.1f} s longer than at {self._rate:g} times the recorded "
            "pace: the images cannot be read, decoded or sent so fast; lower the rate"
        )
        return [told] * (self._behind >= BEHIND)

    def _lost(self) -> list[str]:
        """What cannot be played of the recording, a sentence each."""
        late = "images from 2038 on are left out, whose time ROS cannot hold"
        return [*self._bag.lost, *[late] * (self._bag.end >= LATEST)]

    def _waits(self) -> list[str]:
        """What playback has not begun for, a sentence; none if it has, or will at once."""
        deaf = (
            f"{topic} has not all of its subscribers" for topic in self._topics_without_subscriber()
        )
        missing = [] if self._began else [*deaf, *self._readiness.problems()]
        return [f"waiting to play: {'; '.join(missing)}"] * bool(missing)

    def _publish_time(self) -> None:
        self._clock_publisher.publish(ClockMessage(clock=Time(nanoseconds=self._now).to_msg()))
