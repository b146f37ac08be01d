# SPDX-License-Identifier: Apache-2.0
"""What the demo shows and keeps: a live table, a video, a picture sheet and two JSON files."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rich.live import Live
from rich.table import Table
from rich.text import Text
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from compact_yolo_ros.apps.demo.pictures import Pictures
from compact_yolo_ros.detection.detection_array import read_detection_array
from compact_yolo_ros.detection.frame_times import STAGES
from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.terminal import Cell, open_console, pairs_table, say

RESULTS = ("annotated.jpg", "annotated.mp4", "detections.json", "diagnostics.json")
LEVELS = ("OK", "WARN", "ERROR", "STALE")


class DemoViewer:
    """Subscribes to a detector node called ``detector`` and collects its messages."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor, out: Path, model: str) -> None:
        """Subscribe; results will be written to the folder ``out``."""
        self.detections = 0
        self._node = node
        self._executor = executor
        self._out = out
        self._model = model
        self._results: list[dict[str, Any]] = []
        self._states: list[dict[str, str]] = []
        self._video = ""  # what is wrong with it
        self._pictures = Pictures()
        self._classes: Counter[str] = Counter()
        self._recording = False
        self._live: Live | None = None
        node.create_subscription(Detection2DArray, "detector/detections", self._on_detections, 50)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    @classmethod
    @contextmanager
    def opened(cls, namespace: str, out: Path, model: str) -> Iterator[DemoViewer]:
        """A viewer of the detector in ``namespace``, inside a ROS context of its own."""
        with ExitStack() as opened:
            opened.callback(rclpy.try_shutdown)
            rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
            node = Node("demo", namespace=namespace)
            opened.callback(node.destroy_node)
            executor = SingleThreadedExecutor()
            opened.callback(executor.shutdown)
            executor.add_node(node)
            yield cls(node, executor, out, model)

    @property
    def answered(self) -> bool:
        """Whether the detector has answered an image."""
        return bool(self._results)

    @property
    def state(self) -> str | None:
        """What the detector said last on /diagnostics; None if nothing of it arrived."""
        return self._states[-1]["message"] if self._states else None

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the table while the block runs; without a terminal, only its last state."""
        with Live(self._table(), console=open_console(), refresh_per_second=4) as self._live:
            yield
            self._live.update(self._table())

    def update(self) -> None:
        """Take what arrives in a quarter of a second, and refresh the table."""
        end = time.monotonic() + 0.25
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(left)
        if self._live is not None:
            self._live.update(self._table())

    def record(self) -> None:
        """Subscribe to the node's annotated images from now on."""
        if not self._recording:
            self._recording = True
            qos = QoSProfile(depth=2)
            self._node.create_subscription(Image, "detector/debug_image", self._on_picture, qos)

    def save(self) -> None:
        """Write everything collected so far in place of an earlier run's results."""
        for name in RESULTS:
            (self._out / name).unlink(missing_ok=True)
        self._save_json("detections.json", self._results)
        self._save_json("diagnostics.json", self._states)
        if self._pictures:
            scores = {r["stamp"]: sum(d["score"] for d in r["detections"]) for r in self._results}
            self._pictures.save_sheet(self._out / "annotated.jpg", scores)
            self._pictures.save_video(self._out / "annotated.mp4")  # what needs most comes last
        names = ", ".join(name for name in RESULTS if (self._out / name).exists())
        say(open_console(), f"\nResults in {self._out}: {names}")

    # What arrives

    def _on_detections(self, message: Detection2DArray) -> None:
        stamp = message.header.stamp
        found = _plain(message)
        self._results.append({"stamp": stamp.sec + stamp.nanosec * 1e-9, "detections": found})
        self._classes.update(detection["class"] for detection in found)
        self.detections += len(found)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        own = self._node.get_namespace()
        for status in message.status:
            level = LEVELS[status.level[0]]
            if status.name.startswith(f"{own}/detector: "):
                values = {pair.key: pair.value for pair in status.values}
                self._states.append({"level": level, "message": status.message, **values})
            elif status.name.startswith(f"{own}/video_publisher: ") and level != "OK":
                self._video = status.message

    def _on_picture(self, message: Image) -> None:
        stamp = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        pixels = np.frombuffer(message.data, np.uint8)
        self._pictures.add(stamp, pixels.reshape(message.height, message.width, 3))

    # What is shown and kept

    def _table(self) -> Table:
        state = self._states[-1] if self._states else {}
        level = state.get("level", "waiting for the node")
        where = (state.get(key, "-") for key in ("backend", "device", "input_size", "threads"))
        rates = (state.get(key, "-") for key in ("fps_in", "fps_out", "images_dropped"))
        rows: list[tuple[str, Cell]] = [
            ("state", f"{level}: {state.get('message', '')}"),
            ("runs on", "{}, {}, input {}, threads: {}".format(*where)),
            ("images/s in, out", "{} in, {} out, {} dropped".format(*rates)),
            ("", Text("p50 / p95 / p99 in ms", style="dim")),
            *((stage, _percentiles(state, stage)) for stage in ("age", *STAGES)),
        ]
        if self._video:
            rows.append(("video", self._video))
        for name, count in self._classes.most_common():
            share = count / max(len(self._results), 1)
            rows.append((name, f"{count} detections, {share:.2f} per image"))
        return pairs_table(rows, f"compact_yolo_ros: {self._model}", width=78)

    def _save_json(self, name: str, content: object) -> None:
        with replacing(self._out / name) as path:
            path.write_text(json.dumps(content, indent=1))


def _plain(message: Detection2DArray) -> list[dict[str, Any]]:
    """The detections as they go into detections.json: boxes x1 y1 x2 y2 in image pixels."""
    rows = read_detection_array(message)
    return [
        {"class": class_id, "score": round(score, 4), "box": [round(side, 2) for side in box]}
        for box, score, class_id in zip(
            rows.boxes.tolist(), rows.scores.tolist(), rows.class_ids, strict=True
        )
    ]


def _percentiles(state: dict[str, str], stage: str) -> str:
    values = [state.get(f"{stage}_ms {label}") for label in ("p50", "p95", "p99")]
    return " / ".join("-" if value is None else f"{float(value):.2f}" for value in values)
