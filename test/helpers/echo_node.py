# SPDX-License-Identifier: Apache-2.0
"""A node whose cost is known: it answers images after burning CPU time, and may skip every second.

echo_node.py TYPE BURN_MS SKIP HOLD_MB TOPIC...
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from itertools import count

import rclpy
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import CompressedImage, Image


def main() -> None:
    name, burn, skip, hold, *topics = sys.argv[1:]
    package, group, kind = name.split("/")
    answer_type = getattr(import_module(f"{package}.{group}"), kind)
    held = b"x" * (int(hold) * 10**6)
    rclpy.init(args=[])
    node = rclpy.create_node("echo")
    for topic in topics:
        _answer(node, topic, answer_type, int(burn) * 1e-3, skip == "skip")
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        del held


def _answer(node, topic: str, answer_type: type, burn: float, skip: bool) -> None:
    publisher, numbers = node.create_publisher(answer_type, f"{topic}/answers", 10), count()

    def on_image(message) -> None:
        end = time.process_time() + burn
        while time.process_time() < end:
            pass
        if not skip or next(numbers) % 2:
            publisher.publish(answer_type(header=message.header))

    kind = CompressedImage if topic.endswith("compressed") else Image
    node.create_subscription(kind, topic, on_image, 10)


if __name__ == "__main__":
    main()
