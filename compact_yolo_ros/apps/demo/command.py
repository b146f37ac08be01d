# SPDX-License-Identifier: Apache-2.0
"""Detect objects in a video through real ROS 2, and show the rates and latencies.

A camera (``video_publisher_node``) and the detector (``detector_node``) run as processes of their
own, as on a robot. This program watches their topics, shows a live table, and leaves a video, a
sheet of pictures, the detections and the diagnostics in a folder.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TYPE_CHECKING

from compact_yolo_ros.model.store import ModelError, find_model
from compact_yolo_ros.ros.child_process import ChildNode, child_node, prepare_environment
from compact_yolo_ros.ros.fast_dds import SENDER_PROFILE
from compact_yolo_ros.ros.start_failure import EXPECTED, start_failure
from compact_yolo_ros.support.arguments import finite
from compact_yolo_ros.support.error_text import first_line
from compact_yolo_ros.support.files import require_writable
from compact_yolo_ros.support.resources import resource_directory
from compact_yolo_ros.support.termination import INTERRUPTED, interruptible, terminable

if TYPE_CHECKING:
    from compact_yolo_ros.apps.demo.viewer import DemoViewer

STARTING = 45.0
"""Most seconds to wait for the first answer: a small or busy machine takes long to start."""
PICTURE_SECONDS = 6.0
"""The debug image is subscribed to at the end only, so that it does not slow what is measured."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return 0 if detections arrived."""
    options = _parse(arguments)
    try:
        find_model(options.model)
        profile = resource_directory("config") / SENDER_PROFILE
    except (ModelError, FileNotFoundError) as error:
        return _fail(str(error))
    prepare_environment(profile)
    try:
        require_writable(options.out)  # before anything is collected
        with terminable(), interruptible() as stopped:
            return _run(options, stopped)
    except KeyboardInterrupt:  # the second one
        return INTERRUPTED
    except OSError as error:
        why = error.strerror or first_line(error)
        return _fail(f"the results cannot be written to {options.out}: {why}")


def _run(options: argparse.Namespace, stopped: Event) -> int:
    with ExitStack() as stack:
        try:
            viewer, nodes = _start(options, stack)
        except EXPECTED as error:
            return _fail(str(start_failure(error)))
        failed = _watch(viewer, nodes, options.seconds, stopped)
        if not stopped.is_set():
            failed = failed or _why_nothing(viewer)
        elif not viewer.answered:
            return INTERRUPTED  # what an earlier run has left stays
        viewer.save()
    if failed is not None:
        _fail(failed)
    return 0 if viewer.detections and failed is None else 1


def _why_nothing(viewer: DemoViewer) -> str | None:
    """Why there is no detection, in a sentence; None if there are some."""
    if viewer.detections:
        return None
    if viewer.answered:
        return "nothing was detected"
    if viewer.state is not None:
        return f"no image was answered, and the detector says: {viewer.state}"
    return (
        "nothing was heard of the two nodes: DDS needs a network interface that is up, if only the "
        "loopback (`ip link set lo up`), and a firewall that lets UDP through on this machine"
    )


def _start(options: argparse.Namespace, stack: ExitStack) -> tuple[DemoViewer, list[ChildNode]]:
    """Start what watches and the two nodes; ``stack`` ends them."""
    # Imported late: DDS reads the environment that was prepared.
    from compact_yolo_ros.apps.demo.viewer import DemoViewer

    namespace = f"/demo_{os.getpid()}"  # apart from other demos in the same domain
    camera = {"source": options.video, "rate": options.rate, "loop": True}
    # Every image whole: the pictures are a result here.
    drawn = {"debug_image_rate": 0.0, "debug_image_size": 0}
    detector = {"model": options.model, "autostart": True, **drawn}
    folder = TemporaryDirectory(prefix="compact_yolo_ros_", ignore_cleanup_errors=True)
    logs = Path(stack.enter_context(folder))
    viewer = stack.enter_context(DemoViewer.opened(namespace, options.out, options.model))
    nodes = [
        stack.enter_context(child_node(name, namespace, parameters, logs))
        for name, parameters in (("detector_node", detector), ("video_publisher_node", camera))
    ]
    return viewer, nodes


def _fail(sentence: str) -> int:
    print(f"demo: {sentence}", file=sys.stderr)
    return 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo", description="Detect objects in a video through real ROS 2."
    )
    parser.add_argument("--model", default="yolo_ret_m075", help="model name, or path of an .onnx")
    parser.add_argument(
        "--video", default="", help="video file, folder of images or camera index [a street clip]"
    )
    parser.add_argument("--rate", type=finite, default=0.0, help="images per second [the video's]")
    parser.add_argument("--seconds", type=finite, default=20.0, help="how long to show it")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder of the results")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.rate < 0:
        parser.error("--seconds must be above 0 and --rate at least 0")
    return options


def _watch(
    viewer: DemoViewer, nodes: list[ChildNode], seconds: float, stopped: Event
) -> str | None:
    """Show what happens for some seconds from the first answer on, or until ``stopped``.

    Returns:
        Why a node ended early; None if none did.
    """
    end = time.monotonic() + STARTING
    answered = False
    with viewer.live():
        while not stopped.is_set() and (left := end - time.monotonic()) > 0:
            if not answered and viewer.answered:
                answered, end = True, time.monotonic() + seconds
            elif answered and left < min(PICTURE_SECONDS, seconds / 2):
                viewer.record()
            viewer.update()
            for node in nodes:
                if failure := node.failure():
                    return failure
    return None


if __name__ == "__main__":
    sys.exit(main())
