# SPDX-License-Identifier: Apache-2.0
"""The executable ``bag_recorder_node``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from compact_yolo_ros.ros.process import run_node

if TYPE_CHECKING:
    from compact_yolo_ros.ros.players.bag_recorder import BagRecorderNode


def main(args: list[str] | None = None) -> int:
    """Run the node until it is done or told to stop; return the process's exit code."""
    return run_node(_create, args)


def _create() -> BagRecorderNode:
    # Imported late: loading ROS takes a while, and signals are heeded from here on.
    from compact_yolo_ros.ros.players.bag_recorder import BagRecorderNode

    return BagRecorderNode()


if __name__ == "__main__":
    sys.exit(main())
