# SPDX-License-Identifier: Apache-2.0
"""The detector node with a network whose time and power grow with its pixels.

Only these are made up (400 ms and 20 W at 416 x 416), and the governor waits less for the mean
power; the node, the network and the messages are real.
"""

from __future__ import annotations

import sys

from slow_detector_node import SlowBackend

import compact_yolo_ros.backends.onnxruntime as runtime
from compact_yolo_ros.detection import governor
from compact_yolo_ros.machine.power import PowerReading, monitor
from compact_yolo_ros.ros.detector import activation
from compact_yolo_ros.ros.run import detector_node

PIXELS = 416**2
SECONDS, WATTS = 0.4, 20.0


class PixelBoundBackend(SlowBackend):
    """Takes its time, and sets the meter."""

    def seconds(self) -> float:
        _, height, width, _ = self.input.shape
        Meter.watts = WATTS * height * width / PIXELS
        return SECONDS * height * width / PIXELS


class Meter:
    """A power source."""

    name = "a made-up meter"
    watts = WATTS

    def __init__(self, on_gpu: bool) -> None:
        pass

    def read(self) -> PowerReading:
        return PowerReading(watts=self.watts)

    def close(self) -> None:
        pass


if __name__ == "__main__":
    runtime.OnnxRuntimeBackend = PixelBoundBackend  # type: ignore[misc]
    activation.find_power_source = Meter  # type: ignore[assignment]
    monitor.WINDOW, governor.SETTLE = 1.5, 2.0
    sys.exit(detector_node())
