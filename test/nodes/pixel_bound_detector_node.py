# SPDX-License-Identifier: Apache-2.0
"""The detector node with a network whose time grows with its pixels: 100 ms at 416 x 416.

Only the time is made up; the node, the network and the messages are real.
"""

from __future__ import annotations

import sys
import time

from compact_yolo_ros.backends.backend import Candidates
from compact_yolo_ros.backends.onnxruntime import OnnxRuntimeBackend
from compact_yolo_ros.nodes.detector_node import main

SECONDS_A_PIXEL = 0.1 / 416**2


class PixelBoundBackend(OnnxRuntimeBackend):
    """Waits until its time has passed; waiting leaves the CPU to others, as an accelerator does."""

    def run(self, images: int = 1) -> Candidates:
        _, height, width, _ = self.input.shape
        end = time.perf_counter() + height * width * SECONDS_A_PIXEL
        candidates = super().run(images)
        time.sleep(max(0.0, end - time.perf_counter()))
        return candidates


if __name__ == "__main__":
    import compact_yolo_ros.backends.onnxruntime as module

    module.OnnxRuntimeBackend = PixelBoundBackend  # type: ignore[misc]
    sys.exit(main())
