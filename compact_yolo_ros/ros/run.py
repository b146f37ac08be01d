# SPDX-License-Identifier: Apache-2.0
"""Runs one of the nodes: ``python -m compact_yolo_ros.ros.run detector_node --ros-args ...``.

The executables of the same names do the same. A node's module is imported after the signal handlers
are set: loading ROS and OpenCV takes a while, and the process can already be stopped then.
"""

from __future__ import annotations

import gc
import sys
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from compact_yolo_ros.ros.process import run_node
from compact_yolo_ros.support.allocator import give_back_freed_memory

if TYPE_CHECKING:
    from rclpy.node import Node

NODES = {
    "bag_player_node": "compact_yolo_ros.ros.players.bag_player:BagPlayerNode",
    "bag_recorder_node": "compact_yolo_ros.ros.players.bag_recorder:BagRecorderNode",
    "detector_node": "compact_yolo_ros.ros.detector.node:create_node",
    "video_publisher_node": "compact_yolo_ros.ros.players.video_publisher:VideoPublisherNode",
}
"""What makes each node: ``module:function``. Its executable is one more line in setup.py."""


def run(name: str, args: list[str] | None = None) -> int:
    """Run a node until it has finished or a signal ends it; return the process's exit code.

    Args:
        name: one of ``NODES``.
        args: command line, with the program's name first; None takes the process's own.
    """
    return run_node(partial(_create, NODES[name]), args)


def _create(factory: str) -> Node:
    module, name = factory.split(":")
    # What a start makes stays: to search it for garbage only takes time, now and between images.
    gc.disable()
    make = getattr(import_module(module), name)
    _tell_files_of_logs()
    node: Node = make()
    gc.freeze()
    gc.enable()
    give_back_freed_memory()  # a start needs more than it keeps
    return node


def _tell_files_of_logs() -> None:
    """Let rclpy's logger know the files that call it, as far as they are loaded.

    It asks ``inspect`` for the module of each, which looks for it in all modules, for as long as
    two images take, unless it has been told.
    """
    import inspect

    own = (item for item in sys.modules.items() if item[0].startswith(("rclpy.", "compact_yolo")))
    files = ((getattr(module, "__file__", None), name) for name, module in own)
    inspect.modulesbyfile.update((file, name) for file, name in files if file)


def main() -> int:
    """Run the node that the first argument names; return the process's exit code."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in NODES:
        print(f"there is no node '{name}': give one of {', '.join(NODES)}", file=sys.stderr)
        return 2
    return run(name)


# The executables.
bag_player_node = partial(run, "bag_player_node")
bag_recorder_node = partial(run, "bag_recorder_node")
detector_node = partial(run, "detector_node")
video_publisher_node = partial(run, "video_publisher_node")


if __name__ == "__main__":
    sys.exit(main())
