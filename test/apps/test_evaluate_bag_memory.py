# SPDX-License-Identifier: Apache-2.0
"""Evaluating a recording takes the memory of one frame for the next."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bag_writer import Scene, image, write_bag

FRAMES = 320
EVALUATE = """
import resource, sys
from pathlib import Path
from compact_yolo_ros.apps.evaluate_bag.detection_run import PartRunner
from compact_yolo_ros.apps.evaluate_bag.frame_log import FrameLog
from compact_yolo_ros.apps.evaluate_bag.job import Job, parts
from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.recordings.reader import Bag

job = Job((Path(sys.argv[1]),), ("/camera",), RunOptions("yolo_fastest", backend="onnxruntime"))
bag, begun = Bag(job.bags), []
runner = PartRunner(job, bag)
for number, span in enumerate(parts(job, bag)):
    begun.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    runner.run(span, FrameLog(Path(sys.argv[2], f"{number}.jsonl")), lambda: None)
half = len(begun) // 2
print(begun[-1] - begun[half], len(begun) - 1 - half)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_frames_are_read_into_the_pages_of_those_before(tmp_path: Path) -> None:
    """A frame of 640x480 has 225 pages, and is copied more than once."""
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    scene = Scene(np.zeros((480, 640, 3), np.uint8), *empty)
    bag = write_bag(tmp_path / "bag", (image(scene, number, "/camera") for number in range(FRAMES)))
    found = subprocess.run(
        [sys.executable, "-c", EVALUATE, str(bag), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )
    faults, parts = map(int, found.stdout.split())
    assert parts >= 6
    assert faults / (parts * FRAMES / 16) < 20
