# SPDX-License-Identifier: Apache-2.0
"""The executable ``detector_node``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from compact_yolo_ros.ros.process import run_node

if TYPE_CHECKING:
    from compact_yolo_ros.ros.detector.node import DetectorNode


SWITCH_INTERVAL = 2e-4
"""Seconds a thread keeps Python to itself while another waits. With the usual 5 ms, an image that
has arrived would wait for the executor's bookkeeping longer than all the node's own work takes."""


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; return the process's exit code."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    return run_node(_create, args)


def _create() -> DetectorNode:
    # Imported late: loading ROS and OpenCV takes a while, and signals are heeded from here on.
    from compact_yolo_ros.ros.detector.node import create_node

    return create_node()


if __name__ == "__main__":
    sys.exit(main())
