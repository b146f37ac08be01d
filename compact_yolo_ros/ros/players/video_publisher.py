# SPDX-License-Identifier: Apache-2.0
"""A test camera: publishes a video, a folder of pictures or a real camera on ``image``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from compact_yolo_ros.pixels.video_source import Pace, SourceError, open_source
from compact_yolo_ros.ros.parameters import NodeParameters, ParameterSpec
from compact_yolo_ros.ros.players.image_writers import ImageWriter, JpegWriter, RawWriter
from compact_yolo_ros.ros.players.playback_report import INTERVAL, PlaybackReport
from compact_yolo_ros.ros.players.sending import ImageSender
from compact_yolo_ros.ros.topic_names import compressed_name

VIDEO_PUBLISHER_PARAMETERS = (
    ParameterSpec(
        "source",
        "",
        "Path of a video, a picture or a folder of pictures, or the index of a camera; empty is a"
        " street clip.",
        changes="never",
        untyped=True,  # YAML reads source:=0 as an integer
    ),
    ParameterSpec(
        "rate", 0.0, "Images per second; 0 is the source's rate.", low=0, high=1000, changes="never"
    ),
    ParameterSpec("loop", True, "Start again at the end instead of ending.", changes="never"),
    ParameterSpec(
        "patience",
        20.0,
        "Most seconds that the first image waits for a subscriber, without loop.",
        low=0,
        high=3600,
        changes="never",
    ),
    ParameterSpec(
        "width",
        0,
        "Width of the images in pixels; 0 keeps the source's, or its proportions if height is set.",
        low=0,
        high=8192,
        changes="never",
    ),
    ParameterSpec(
        "height",
        0,
        "Height of the images in pixels; 0 keeps the source's, or its proportions if width is set.",
        low=0,
        high=8192,
        changes="never",
    ),
    ParameterSpec(
        "encoding",
        "bgr8",
        "Encoding of the images.",
        choices=("bgr8", "rgb8", "mono8"),
        changes="never",
    ),
    ParameterSpec("frame_id", "camera", "Coordinate frame in the header.", changes="never"),
    ParameterSpec(
        "reliability",
        "reliable",
        "Quality of service.",
        choices=("reliable", "best_effort"),
        changes="never",
    ),
    ParameterSpec(
        "image_transport",
        "raw",
        "Publish on image (raw) or image/compressed (JPEG).",
        choices=("raw", "compressed"),
        changes="never",
    ),
    ParameterSpec(
        "jpeg_quality", 90, "Quality of compressed images.", low=1, high=100, changes="never"
    ),
)
DEPTH = 5
MOST_PIXELS = 8192**2
"""Of an image that is enlarged: as many as ``width`` and ``height`` together may ask for."""
LONGEST = 1e9
"""Seconds between two images: a timer counts nanoseconds, in 64 bits."""
ACKNOWLEDGEMENT = Duration(seconds=1)
"""Time for the last images to arrive before the process ends."""


class VideoPublisherNode(Node):
    """Publishes the frames of a source at their rate; frames that are late are skipped."""

    def __init__(self, **options: Any) -> None:
        """Open the source and start; ``options`` go to ``rclpy.node.Node``.

        Raises:
            ValueError: a parameter or the source cannot be used; the sentence says why.
        """
        super().__init__("video_publisher", **options)
        values = NodeParameters(self, VIDEO_PUBLISHER_PARAMETERS).checked_values()
        self._size = (values["width"], values["height"])
        self._scratch: NDArray[np.uint8] | None = None
        self._damage = ""
        self._sender = ImageSender(self.get_logger())
        self._late = self._unheard = 0
        self._source = open_source(str(values["source"]))
        # A camera has no first image, and no end.
        self._ends = not values["loop"] and not self._source.live
        self._wait_until = time.monotonic() + (values["patience"] if self._ends else 0.0)
        rate = values["rate"] or self._source.rate
        self._pace = Pace(rate)

        name = "image"
        self._writer: ImageWriter = RawWriter(values["encoding"])
        if values["image_transport"] == "compressed":
            name = compressed_name(self, name)
            self._writer = JpegWriter(values["encoding"], values["jpeg_quality"])
        self._writer.message.header.frame_id = values["frame_id"]
        reliability = ReliabilityPolicy[values["reliability"].upper()]
        self._publisher = self.create_publisher(
            type(self._writer.message), name, QoSProfile(depth=DEPTH, reliability=reliability)
        )
        self._playback = PlaybackReport(self)
        # A steady clock: a camera does not stop when simulated time does.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(min(1 / rate, LONGEST), self._tick, clock=steady)
        self.create_timer(INTERVAL, self._report, clock=steady)
        topic = self._publisher.topic_name
        self.get_logger().info(f"Publishing {rate:g} images per second on {topic}")

    def close(self) -> None:
        """Release the source and log what was published."""
        self._source.close()
        self.get_logger().info(
            f"Published {self._sender.published} images; {self._late} were late and skipped,"
            f" {self._unheard} had no subscriber, {self._sender.failed} could not be sent"
        )

    def _tick(self) -> None:
        try:
            self._publish_next()
        except SourceError as error:
            self.get_logger().fatal(str(error))
            raise SystemExit(1) from error

    def _publish_next(self) -> None:
        is_heard = self._publisher.get_subscription_count() > 0
        if not is_heard and time.monotonic() < self._wait_until:
            return
        self._wait_until = 0.0
        overdue = 0 if self._source.live else self._pace.overdue(time.monotonic())
        for _ in range(overdue):
            self._next(self._source.skip)
        self._late += overdue
        if not is_heard:
            self._next(self._source.skip)
            self._unheard += 1
            return
        message = self._writer.write(self._resize(self._next(self._source.read)))
        message.header.stamp = self.get_clock().now().to_msg()
        self._sender.send(self._publisher, message)

    def _next(self, step: Callable[[], Any]) -> Any:
        """Take a step through the source, from the start again at its end."""
        result = step()
        if result is None or result is False:
            self._tell_of_damage()
            if self._ends:
                self._finish()
            self._source.rewind()
            result = step()
            if result is None or result is False:
                raise SourceError("the source gives no images: give another one")
        return result

    def _tell_of_damage(self) -> None:
        """Log once, at the first end of a file, that it may be damaged; /diagnostics keeps it."""
        if self._source.damage and not self._damage:
            self._damage = self._source.damage
            self.get_logger().warning(self._damage)

    def _report(self) -> None:
        """Say what it plays, and what it cannot."""
        values = {
            "images_published": self._sender.published,
            "images_late": self._late,
            "images_unheard": self._unheard,
            "images_failed": self._sender.failed,
        }
        topic, waits = self._publisher.topic_name, ""
        if time.monotonic() < self._wait_until:
            waits = f"waiting for a subscriber of {topic}"
        problem = "; ".join([*filter(None, [waits, self._damage]), *self._sender.problems()])
        usual = f"publishing on {topic}"
        self._playback.publish(self.get_clock().now().to_msg(), problem, usual, values)

    def _finish(self) -> None:
        if not self._sender.published:
            self.get_logger().fatal(f"Nothing was published on {self._publisher.topic_name}")
            raise SystemExit(1)
        self._report()
        for publisher in (self._publisher, self._playback.publisher):
            publisher.wait_for_all_acked(ACKNOWLEDGEMENT)
        raise SystemExit(0)

    def _resize(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = target_size((frame.shape[1], frame.shape[0]), self._size)
        if size == (frame.shape[1], frame.shape[0]):
            return frame
        if size[0] * size[1] > MOST_PIXELS:
            raise SourceError(
                f"an image of {frame.shape[1]}x{frame.shape[0]} pixels would become"
                f" {size[0]}x{size[1]}: set both width and height, or smaller ones"
            )
        self._scratch = cv2.resize(frame, size, self._scratch, interpolation=cv2.INTER_AREA)
        return self._scratch


def target_size(source: tuple[int, int], given: tuple[int, int]) -> tuple[int, int]:
    """(width, height) to publish; a 0 in ``given`` follows from the proportions of the source."""
    width, height = given
    if not width and not height:
        return source
    width = width or max(1, round(source[0] * height / source[1]))
    height = height or max(1, round(source[1] * width / source[0]))
    return width, height
