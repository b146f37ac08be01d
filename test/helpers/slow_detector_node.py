# SPDX-License-Identifier: Apache-2.0
"""The detector node with a network that takes 100 ms, whatever the machine: a double of a slow one.

Only the time is made up; the node, the network and the messages are real.
"""

from __future__ import annotations

import sys
import time

from compact_yolo_ros.backends.backend import Candidates
from compact_yolo_ros.backends.onnxruntime import OnnxRuntimeBackend
from compact_yolo_ros.ros.run import detector_node

SECONDS = 0.1


class SlowBackend(OnnxRuntimeBackend):
    """Waits until its time has passed; waiting leaves the CPU to others, as an accelerator does."""

    def seconds(self) -> float:
        return SECONDS

    def run(self, images: int = 1) -> Candidates:
        end = time.perf_counter() + self.seconds()
        candidates = super().run(images)
        time.sleep(max(0.0, end - time.perf_counter()))
        return candidates


if __name__ == "__main__":
    import compact_yolo_ros.backends.onnxruntime as module

    module.OnnxRuntimeBackend = SlowBackend  # type: ignore[misc]
    sys.exit(detector_node())
