# SPDX-License-Identifier: Apache-2.0
"""Where the time of a detector node goes, from exec to the first answer.

    python test/benchmarks/start.py --starts 9

Each start is a process of its own that does what the node's does, part by part. Time, CPU time and
page faults are printed as Markdown, as medians; on a busy machine the time says little. A node with
``autostart`` opens its network beside the parts that do not need it; here they come one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)

from compact_yolo_ros.ros.child_process import prepare_environment  # noqa: E402
from compact_yolo_ros.ros.fast_dds import DETECTOR_PROFILE  # noqa: E402

PARTS = {
    "Python": """
import gc, json, os, sys; gc.disable()
os.environ["OPENBLAS_NUM_THREADS"] = "1"
""",
    "rclpy and NumPy": """
sys.modules.setdefault("rosidl_parser.parser", None)
import numpy, rclpy, rclpy.lifecycle, std_srvs.srv
from rclpy.executors import SingleThreadedExecutor""",
    "this package, for the network": """
from compact_yolo_ros.ros.detector.node import DetectorNode
from compact_yolo_ros.ros.run import _tell_files_of_logs
_tell_files_of_logs()""",
    "OpenCV and message packages": """
import cv2, diagnostic_msgs.msg, geometry_msgs.msg, sensor_msgs.msg, std_msgs.msg, vision_msgs.msg
""",
    "this package, the rest": """
import compact_yolo_ros.ros.detector.activation, compact_yolo_ros.ros.diagnostics.publisher""",
    "node, parameters and services": """
rclpy.init(args=["x", "--ros-args", "-p", f"model:={sys.argv[1]}", "--log-level", "error"])
node = DetectorNode()""",
    "ONNX Runtime": "import onnxruntime",
    "model and publishers": "node.trigger_configure()",
    "first image": """
node.trigger_activate()
camera = node.create_publisher(sensor_msgs.msg.Image, "image", 1)
executor = SingleThreadedExecutor()
executor.add_node(node)
image = sensor_msgs.msg.Image(height=480, width=640, step=1920, encoding="bgr8")
image.data = bytes(480 * 1920)
while not node._session.cameras[0].counters.snapshot().processed:
    camera.publish(image)
    executor.spin_once(0.05)""",
}
"""What a start does, in its order, and the code of each part."""
_BYTECODE = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""An environment in which this package is compiled once, as it is where it is installed."""
MARK = """
usage = resource.getrusage(resource.RUSAGE_SELF)
marks.append((time.monotonic(), usage.ru_utime + usage.ru_stime, usage.ru_minflt))
"""


def main() -> None:
    """Measure the starts, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=9)
    parser.add_argument("--model", default="yolo_ret_m075")
    options = parser.parse_args()
    prepare_environment(ROOT / "config" / DETECTOR_PROFILE)
    _start(options.model)
    starts = [_start(options.model) for _ in range(options.starts)]
    parts = [
        [median(column) for column in zip(*part, strict=True)] for part in zip(*starts, strict=True)
    ]
    parts.append([sum(column) for column in zip(*parts, strict=True)])
    print("| Part | Time | CPU time | Page faults |\n| --- | --- | --- | --- |")
    for name, (seconds, computing, faults) in zip((*PARTS, "**all**"), parts, strict=True):
        print(f"| {name} | {1e3 * seconds:.0f} ms | {1e3 * computing:.0f} ms | {faults:.0f} |")


def _start(model: str) -> list[tuple[float, float, int]]:
    """Seconds, CPU seconds and page faults of each part of one start."""
    code = f"import resource, time\nmarks = [({time.monotonic()!r}, 0.0, 0)]\n"
    code += "".join(part.strip() + "\n" + MARK for part in PARTS.values())
    code += "print(json.dumps(marks), flush=True)\nimport os\nos._exit(0)\n"
    ended = subprocess.run(
        [sys.executable, "-c", code, model],
        env={**_BYTECODE, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    marks = json.loads(ended.stdout.splitlines()[-1])
    return [(b[0] - a[0], b[1] - a[1], b[2] - a[2]) for a, b in zip(marks, marks[1:], strict=False)]


if __name__ == "__main__":
    main()
