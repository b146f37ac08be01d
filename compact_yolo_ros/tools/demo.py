# SPDX-License-Identifier: Apache-2.0
"""Detect objects in a video through real ROS 2, and show how well it goes.

A camera (``video_publisher_node``) and the detector (``detector_node``) run as processes of their
own, as on a robot. This program watches their topics, shows a live table, and leaves a video, a
sheet of pictures, the detections and the diagnostics in a folder.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from compact_yolo_ros.model_store import ModelError, find_model
from compact_yolo_ros.resources import resource_directory

if TYPE_CHECKING:
    from compact_yolo_ros.tools.demo_viewer import DemoViewer

DOMAINS = range(216, 233)
"""ROS domains that nobody uses by default, with ports beyond those Linux hands out."""
PICTURE_SECONDS = 6.0
"""The debug image is asked for at the end only, so that it does not slow what is measured."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return 0 if detections arrived."""
    options = _parse(arguments)
    try:
        find_model(options.model)
        profile = resource_directory("config") / "fastdds_shm.xml"
    except (ModelError, FileNotFoundError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    _prepare_environment(profile)

    # Imported late: DDS reads the environment that was just prepared.
    from compact_yolo_ros.tools.demo_viewer import DemoViewer

    namespace = f"/demo_{os.getpid()}"  # not to hear another demo in the same domain
    camera = {"source": options.video, "rate": options.rate, "loop": True}
    detector = {"model": options.model, "autostart": True}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        logs = Path(stack.enter_context(TemporaryDirectory(prefix="compact_yolo_ros_")))
        viewer = stack.enter_context(DemoViewer.opened(namespace, options.out, options.model))
        nodes = [
            stack.enter_context(_node(name, namespace, parameters, logs))
            for name, parameters in (("detector_node", detector), ("video_publisher_node", camera))
        ]
        try:
            failed = _watch(viewer, nodes, options.seconds)
        except KeyboardInterrupt:
            failed = None  # what was collected so far is still worth keeping
        if failed is not None:
            print(f"demo: {failed}", file=sys.stderr)
        viewer.save()
    if viewer.detections == 0:
        print("demo: nothing was detected", file=sys.stderr)
    return 0 if viewer.detections and failed is None else 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo", description="Detect objects in a video through real ROS 2."
    )
    parser.add_argument("--model", default="yolo_ret_m075", help="model name, or path of an .onnx")
    parser.add_argument(
        "--video", default="", help="video file, folder of images or camera index [a street clip]"
    )
    parser.add_argument("--rate", type=float, default=0.0, help="images per second [the video's]")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to run")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder of the results")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.rate < 0:
        parser.error("--seconds must be above 0 and --rate at least 0")
    return options


def _prepare_environment(profile: Path) -> None:
    """Keep to this machine, in a domain of its own, with shared memory that holds whole images."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(DOMAINS[os.getpid() % len(DOMAINS)]))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(profile))


class _Node:
    """A node's process and what it printed."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    def failure(self) -> str | None:
        """Why it ended, if it did."""
        if self._process.poll() is None:
            return None
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"{self.name} ended: {lines[-1] if lines else 'it printed nothing'}"

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def _node(name: str, namespace: str, parameters: dict[str, Any], folder: Path) -> Iterator[_Node]:
    """Run a node of this package as a process of its own."""
    file, log = folder / f"{name}.yaml", folder / f"{name}.log"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    module = f"compact_yolo_ros.nodes.{name}"
    ros_arguments = ["-r", f"__ns:={namespace}", "--params-file", str(file)]
    command = [sys.executable, "-m", module, "--ros-args", *ros_arguments]
    with log.open("wb") as output:
        # A session of its own: Ctrl-C is for this program, which then stops its nodes in order.
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    node = _Node(name, process, log)
    try:
        yield node
    finally:
        node.stop()


def _watch(viewer: DemoViewer, nodes: list[_Node], seconds: float) -> str | None:
    """Show what happens for some seconds; return why it ended early, if it did."""
    end = time.monotonic() + seconds
    with viewer.live():
        while (left := end - time.monotonic()) > 0:
            if left < min(PICTURE_SECONDS, seconds / 2):
                viewer.record()
            viewer.update()
            for node in nodes:
                if failure := node.failure():
                    return failure
    return None


if __name__ == "__main__":
    sys.exit(main())
