# SPDX-License-Identifier: Apache-2.0
"""Compare two nodes that answer a camera's images: any two commands, in turns, by one camera.

    python test/benchmarks/peer.py comparison.yaml
    python test/benchmarks/peer.py comparison.yaml --case "raw VGA" --rounds 7 --out figures.json

In each round, each node is started, fed, measured and stopped with SIGINT. Its answers may be of
any type that begins with a std_msgs/Header which holds the stamp of the image; the environment that
runs this file must know that type. The camera is this process, so run it with more priority than
the nodes, on a quiet machine. The file:

    pictures: folder                # [the package's sample images]
    nodes:
      ours:
        command: ros2 run compact_yolo_ros detector_node --ros-args -p autostart:=true
        cameras: {/image: /detector/detections}    # topics of images, and of their answers
        transport: raw              # or compressed: JPEG, on the topic as it is given
        type: vision_msgs/msg/Detection2DArray
        environment: {CUDA_VISIBLE_DEVICES: ""}
      theirs: ...
    cases:
      raw VGA:
        nodes: [ours, theirs]       # the ratios are ours / theirs
        size: 640x480
        rate: 15                    # images a second of each camera
        peak: 200                   # [0: not measured] images a second that are too many

Figures of a node, each the median of the rounds:

    first_answer_s   from the start of the process, with images coming
    age_ms_p50, p95  from publishing an image to the arrival of its answer here
    lost             share of the images without an answer
    cpu_ms           of all its processes, for an answer
    pss_mb, rss_mb   of all its processes, at the end
    answers_per_s    at the rate ``peak``
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from compact_yolo_ros.ros.child_process import prepare_environment  # noqa: E402

prepare_environment(ROOT / "config" / "fastdds_shm.xml")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import rclpy  # noqa: E402
import yaml  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from compact_yolo_ros.pixels.sample_images import sample_images  # noqa: E402

STAMP = struct.Struct("<iI")
"""Seconds and nanoseconds of a message's header, after the four bytes that start every message."""
START, STOP = 120.0, 10.0
"""Longest waits in seconds for the first answer, and for the end after SIGINT."""
LAG = 0.6
"""Seconds after the last image in which answers count."""
SETTLE = 1.0
"""Seconds after the first answer that are not measured."""
UNSET = ("PYTHONPATH", "LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")
"""Variables of this environment that another one must not inherit."""

Figures = dict[str, float]


@dataclass(frozen=True)
class NodeCommand:
    """A node to measure; see the module for the fields."""

    name: str
    command: str
    cameras: Mapping[str, str]
    transport: str = "raw"
    type: str = "vision_msgs/msg/Detection2DArray"
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """How two nodes are compared; see the module for the fields."""

    name: str
    nodes: tuple[str, str]
    size: str = "640x480"
    rate: float = 15.0
    peak: float = 0.0


class Processes:
    """A command and all processes that it starts."""

    def __init__(self, node: NodeCommand, log: Path) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in UNSET}
        self._log = log
        with log.open("wb") as output:
            self._first = subprocess.Popen(
                shlex.split(node.command),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=inherited | {name: str(value) for name, value in node.environment.items()},
                start_new_session=True,
            )

    def check(self) -> None:
        if self._first.poll() is not None:
            sys.exit(f"the node has ended:\n{self._log.read_text(errors='replace')[-2000:]}")

    def all(self) -> list[int]:
        """Their numbers, the first process's first."""
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has just ended
            children.setdefault(parent, []).append(int(stat.parent.name))
        found = [self._first.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def cpu(self) -> float:
        """Seconds of CPU that they have taken, without those of processes that have ended."""
        # Linux numbers the CPU clock of a process so; it counts in nanoseconds.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.all())

    def memory(self) -> Figures:
        """PSS and RSS in 10^6 bytes."""
        total = {"Pss": 0, "Rss": 0}
        for pid in self.all():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
                name, value, _ = line.split()
                if name[:-1] in total:
                    total[name[:-1]] += int(value) * 1024
        return {f"{name.lower()}_mb": value / 1e6 for name, value in total.items()}

    def stop(self) -> None:
        """End them by SIGINT, and kill those that remain."""
        before = self.all()
        self._first.send_signal(signal.SIGINT)
        try:
            self._first.wait(STOP)
        except subprocess.TimeoutExpired:
            self._first.kill()
            self._first.wait()
        for pid in before[1:]:
            if os.path.exists(f"/proc/{pid}"):
                os.kill(pid, signal.SIGKILL)


class Camera:
    """Publishes pictures on the topics of a node, and notes when its answers arrive."""

    def __init__(self, node: NodeCommand, pictures: Sequence[np.ndarray]) -> None:
        self._context = Context()
        rclpy.init(args=[], context=self._context)
        self._node = Node("camera", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._messages = [_message(picture, node.transport) for picture in pictures]
        kind = type(self._messages[0])
        self._publishers = []
        for number, (images, answers) in enumerate(node.cameras.items()):
            self._publishers.append(self._node.create_publisher(kind, images, QoSProfile(depth=5)))
            # As bytes: only the stamp of an answer is read.
            self._node.create_subscription(
                _type(node.type),
                answers,
                lambda data, number=number: self._on_answer(number, data),
                QoSProfile(depth=100),
                raw=True,
            )
        self._sent: dict[tuple[int, bytes], float] = {}
        self.ages: list[float] = []

    def feed(self, rate: float, seconds: float, lag: float = LAG) -> int:
        """Send images for some seconds, in turn from each camera; return their number."""
        self._sent.clear()
        self.ages.clear()
        cameras = len(self._publishers)
        count = max(1, round(rate * seconds)) * cameras
        began = time.monotonic()
        for number in range(count):
            self._spin_until(began + number / (rate * cameras))
            self._send(number % cameras, self._messages[number % len(self._messages)])
        self._spin_until(began + seconds + lag)
        return count

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _send(self, camera: int, message: Any) -> None:
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(time.time_ns(), 10**9)
        message.header.frame_id = f"camera_{camera}"
        self._sent[camera, STAMP.pack(stamp.sec, stamp.nanosec)] = time.monotonic()
        self._publishers[camera].publish(message)

    def _on_answer(self, camera: int, data: bytes) -> None:
        sent = self._sent.pop((camera, bytes(data[4 : 4 + STAMP.size])), None)
        if sent is not None:
            self.ages.append(time.monotonic() - sent)

    def _spin_until(self, end: float) -> None:
        self._executor.spin_once(0)
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(left)


def measure(
    node: NodeCommand, case: Case, pictures: Sequence[np.ndarray], seconds: float, log: Path
) -> Figures:
    """Start a node, feed it, and return its figures."""
    with closing(Camera(node, pictures)) as camera:
        began = time.monotonic()
        with _running(node, log) as processes:
            while not camera.ages:
                processes.check()
                if time.monotonic() > began + START:
                    sys.exit(f"{node.name} has not answered within {START:.0f} s: {log}")
                camera.feed(case.rate, 1 / case.rate, 0)
            figures = {"first_answer_s": time.monotonic() - began}
            camera.feed(case.rate, SETTLE)
            cpu = processes.cpu()
            sent = camera.feed(case.rate, seconds)
            answers = len(camera.ages)
            processes.check()
            figures |= {"lost": 1 - answers / sent}
            if answers:
                p50, p95 = 1e3 * np.percentile(camera.ages, (50, 95))
                figures |= {"age_ms_p50": p50, "age_ms_p95": p95}
                figures["cpu_ms"] = 1e3 * (processes.cpu() - cpu) / answers
            if case.peak:
                camera.feed(case.peak, seconds, 0)
                figures["answers_per_s"] = len(camera.ages) / seconds
            return figures | processes.memory()


def compare(turns: Sequence[tuple[Figures, Figures]]) -> dict[str, dict[str, float | list[float]]]:
    """Medians of both nodes and of the ratios of the rounds; the ratios' least and largest.

    Args:
        turns: the figures of the first and of the second node in each round.
    """
    result = {}
    for name in turns[0][0]:
        pairs = np.array([(a.get(name, np.nan), b.get(name, np.nan)) for a, b in turns])
        first, second = np.median(pairs, 0)
        row = {"first": round(float(first), 3), "second": round(float(second), 3)}
        if (pairs[:, 1] > 0).all():
            ratios = pairs[:, 0] / pairs[:, 1]
            row["ratio"] = round(float(np.median(ratios)), 3)
            row["range"] = [round(float(ratios.min()), 3), round(float(ratios.max()), 3)]
        result[name] = row
    return result


@contextmanager
def _running(node: NodeCommand, log: Path) -> Iterator[Processes]:
    processes = Processes(node, log)
    try:
        yield processes
    finally:
        processes.stop()


def _type(name: str) -> Any:
    package, group, kind = name.split("/")
    return getattr(import_module(f"{package}.{group}"), kind)


def _message(picture: np.ndarray, transport: str) -> Any:
    if transport == "compressed":
        encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        return CompressedImage(
            format="bgr8; jpeg compressed bgr8", data=array("B", encoded.tobytes())
        )
    height, width, _ = picture.shape
    data = array("B", picture.tobytes())
    return Image(height=height, width=width, encoding="bgr8", step=3 * width, data=data)


def _pictures(folder: str, size: str) -> list[np.ndarray]:
    """At most eight pictures, scaled."""
    found = sample_images()
    if folder:
        read = (cv2.imread(str(path)) for path in sorted(Path(folder).iterdir()))
        found = [picture for picture in read if picture is not None]
    if not found:
        sys.exit(f"{folder} holds no pictures")
    width, height = map(int, size.split("x"))
    return [cv2.resize(picture, (width, height)) for picture in found[:8]]


def _print(case: Case, rows: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"\n{case.name}: {case.nodes[0]} / {case.nodes[1]}, {case.size}, {case.rate:g} Hz")
    for name, row in rows.items():
        ratio = ""
        if "ratio" in row:
            least, largest = row["range"]
            ratio = f"{row['ratio']:10.3f}  ({least:.3f} to {largest:.3f})"
        print(f"  {name:16}{row['first']:10.3f}{row['second']:10.3f}{ratio}")


def main() -> None:
    """Run the cases of a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="YAML, see the top of this program")
    parser.add_argument("--case", action="append", help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="measured in each turn")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    options = parser.parse_args()
    given = yaml.safe_load(options.file.read_text())
    nodes = {name: NodeCommand(name, **fields) for name, fields in given["nodes"].items()}
    cases = [Case(name, **fields) for name, fields in given["cases"].items()]
    results = {"load": os.getloadavg(), "cores": len(os.sched_getaffinity(0))}
    for case in cases:
        if options.case and case.name not in options.case:
            continue
        pictures = _pictures(given.get("pictures", ""), case.size)
        turns = []
        with tempfile.TemporaryDirectory() as folder:
            for number in range(options.rounds):
                log = Path(folder, f"{number}.log")
                first, second = (
                    measure(nodes[name], case, pictures, options.seconds, log)
                    for name in case.nodes
                )
                turns.append((first, second))
        results[case.name] = {"figures": compare(turns), "rounds": turns}
        _print(case, results[case.name]["figures"])
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
