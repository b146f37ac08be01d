# SPDX-License-Identifier: Apache-2.0
"""Cameras on the ROS graph: what each publishes, and whether its images arrive here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from time import monotonic
from typing import Any

from compact_yolo_ros.apps.doctor.probe import Finding, note, ok, problem
from compact_yolo_ros.ros.start_failure import start_failure
from compact_yolo_ros.ros.transports import IMAGE_TRANSPORTS

TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
COMPRESSED = "/compressed"
NOT_CAMERAS = ("/debug_image", "/debug_image/compressed", "/compressedDepth")
"""Endings of topics that are no cameras. Of colours, image_transport announces the last one too."""
LISTENING = 2.0
"""Seconds to listen to the topics found."""
SETTLED = 1.0
"""Seconds without a new topic after which the discovery is taken to be complete."""
CLOCKS_DIFFER = 10.0
"""Seconds between an image's stamp and its arrival that no transport can explain."""


@dataclass
class Heard:
    """The images that arrived on one topic.

    Attributes:
        first: the first message.
        times: when each message arrived, in seconds.
        age: seconds from the first message's stamp to its arrival; None if it has no stamp.
    """

    first: Any = None
    times: list[float] = field(default_factory=list)
    age: float | None = 0.0


def cameras(seconds: float) -> Iterator[Finding]:
    """Look for image topics, listen to them, and report each.

    The data of a finding has ``frame``, the bytes of one image.

    Args:
        seconds: longest time to look for topics.
    """
    if find_spec("rclpy") is None:
        yield note("cameras", "not examined: rclpy is missing", "source ROS 2 to see them")
        return
    import rclpy

    try:
        rclpy.init(args=[])  # remap rules are for nodes: the graph has the names as they are
        node = rclpy.create_node(f"compact_yolo_ros_doctor_{os.getpid()}")
    except Exception as error:  # rclpy has no common type for what keeps a node from starting
        failure = start_failure(error)
        remedy = failure.remedy or "fix that first"
        yield problem("cameras", failure.cause, f"no node can start either: {remedy}")
        rclpy.try_shutdown()
        return
    try:
        topics = _discover(node, seconds)
        videos = list(_videos(node))
        yield from videos
        if not topics and not videos:
            yield note(
                "cameras",
                f"no image topic was found within {seconds:g} s",
                "start the camera, with the same ROS_DOMAIN_ID and discovery range",
            )
        if not topics:
            return
        heard = _listen(node, topics)
        for topic, kind in topics.items():
            raw = topic.endswith(COMPRESSED) and heard.get(topic.removesuffix(COMPRESSED))
            comes_raw = bool(raw and raw.times)
            publishers = node.get_publishers_info_by_topic(topic)
            yield _judge(topic, kind, publishers, heard[topic], comes_raw)
    finally:
        node.destroy_node()
        rclpy.shutdown()


def _discover(node: Any, seconds: float) -> dict[str, str]:
    """Wait until no more image topics appear; return their names and types."""
    import rclpy

    end = monotonic() + seconds
    found: dict[str, str] = {}
    while monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
        before = found
        found = {
            topic: kind
            for topic, kinds in sorted(node.get_topic_names_and_types())
            for kind in kinds
            if kind in TYPES
            and not topic.endswith(NOT_CAMERAS)
            and node.count_publishers(topic) > 0
        }
        if found != before:
            end = monotonic() + SETTLED
    return found


def _videos(node: Any) -> Iterator[Finding]:
    """A finding for each video; nothing is received, which may need a package of messages."""
    transports = {each.type_name: each for each in IMAGE_TRANSPORTS.values() if each.is_video}
    for topic, kinds in sorted(node.get_topic_names_and_types()):
        for transport in filter(None, map(transports.get, kinds)):
            if node.count_publishers(topic):
                yield note(
                    topic,
                    f"a video of {transport.type_name}, not listened to",
                    f"set image_transport to {transport.name} (docs/stack.md)",
                )


def _listen(node: Any, topics: dict[str, str]) -> dict[str, Heard]:
    """Subscribe to all topics, each with the reliability that it offers."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import CompressedImage, Image

    from compact_yolo_ros.ros.detector.camera_input import Quality, offered_quality

    heard = {topic: Heard() for topic in topics}

    def hear(topic: str, message: Any) -> None:
        found = heard[topic]
        found.times.append(monotonic())
        if found.first is None:
            found.first = message
            stamp = message.header.stamp
            now = node.get_clock().now().nanoseconds * 1e-9
            stamped = stamp.sec + stamp.nanosec * 1e-9
            found.age = now - stamped if stamped else None

    for topic, kind in topics.items():
        message = Image if kind == TYPES[0] else CompressedImage
        quality = offered_quality(node, topic, message) or Quality(ReliabilityPolicy.BEST_EFFORT)
        node.create_subscription(
            message, topic, partial(hear, topic), QoSProfile(depth=1, **quality._asdict())
        )
    end = monotonic() + LISTENING
    while monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    return heard


def _judge(
    topic: str, kind: str, publishers: list[Any], heard: Heard, comes_raw: bool = False
) -> Finding:
    """The finding about one topic; ``comes_raw``: images of its camera arrive on another one."""
    offers = ", ".join(
        f"{publisher.node_name} ({publisher.qos_profile.reliability.name.lower()})"
        for publisher in publishers
    )
    who = f"{kind.rpartition('/')[2]} by {offers or 'a publisher that has left'}"
    if heard.first is None and comes_raw:
        return note(
            topic,
            f"{who}, but no image arrived, while the raw ones do",
            "use those: image_transport makes no JPEG of some encodings, as of depth",
        )
    if heard.first is None:
        return problem(
            topic,
            f"{who}, but no image arrived",
            "if the camera works, its images get lost on the way: see transports below",
        )
    image, refusal = _decoded(heard.first, kind)
    if refusal:
        return problem(topic, f"{who}: {refusal}", "change the camera driver's settings")
    found = f"{who}, {image}, {_rate(heard.times)}"
    values = {"frame": len(heard.first.data), "images": len(heard.times)}
    if heard.age is None:
        return note(
            topic,
            f"{found}, without a stamp",
            "have its driver stamp them: tracks, depth images and ages go by the stamps",
            **values,
        )
    if abs(heard.age) > CLOCKS_DIFFER:
        return note(
            topic,
            f"{found}, stamped {heard.age:.0f} s ago",
            "check the clocks of both machines, or set use_sim_time where time is simulated",
            **values,
        )
    return ok(topic, found, **values)


def _decoded(message: Any, kind: str) -> tuple[str, str]:
    """Size and encoding of an image, and why the node would refuse it; one of them is empty."""
    from compact_yolo_ros.pixels.decoding import ImageDecoder
    from compact_yolo_ros.pixels.encodings import DISTANCES
    from compact_yolo_ros.pixels.image_error import ImageError

    decoder, raw = ImageDecoder(), kind == TYPES[0]
    encoding = (message.encoding if raw else message.format)[:40]
    if encoding.partition(";")[0] in DISTANCES:  # beside a camera, for the parameter positions
        return f"{encoding} (depth)", ""
    try:
        pixels = (decoder.image(message) if raw else decoder.compressed(message)).pixels
    except ImageError as error:
        return "", str(error)
    return f"{pixels.shape[1]}x{pixels.shape[0]} {encoding}", ""


def _rate(times: list[float]) -> str:
    if len(times) < 2:
        return "one image"
    return f"{(len(times) - 1) / (times[-1] - times[0]):.1f} images/s"
