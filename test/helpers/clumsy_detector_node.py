# SPDX-License-Identifier: Apache-2.0
"""The detector node with an unexpected error, the first time it is activated."""

from __future__ import annotations

import sys
from typing import Any

from compact_yolo_ros.ros.run import detector_node

if __name__ == "__main__":
    import compact_yolo_ros.ros.detector.activation as module

    Worker = module.FrameWorker

    def fail(*arguments: Any) -> Any:
        module.FrameWorker = Worker  # type: ignore[misc]
        raise RuntimeError("can't start new thread")

    module.FrameWorker = fail  # type: ignore[assignment, misc]
    sys.exit(detector_node())
