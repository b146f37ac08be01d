# SPDX-License-Identifier: Apache-2.0
"""The evaluation of a live node, with the real ``launch``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ament_index_python.packages import get_packages_with_prefixes
from harness import PATIENCE, ROOT
from launching import LAUNCH

pytest.importorskip("launch_ros", reason="launch comes with ROS 2, not as a Python wheel")
pytest.importorskip("rosbags", reason="recordings are read with rosbags")
if "compact_yolo_ros" not in get_packages_with_prefixes():
    pytest.skip("compact_yolo_ros is not installed", allow_module_level=True)

from bag_writer import TOPIC, write_labelled_bag

COUNT = 10


def launch(bag: Path, out: Path, model: str, labels: str) -> subprocess.CompletedProcess[str]:
    arguments = [f"bag:={bag}", f"out:={out}", f"model:={model}", f"ground_truth:={labels}"]
    command = [sys.executable, "-c", LAUNCH, str(ROOT / "launch/evaluate_bag.launch.py")]
    return subprocess.run(
        [*command, *arguments, "player:=own", "rate:=0.5"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
    )


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return write_labelled_bag(tmp_path / "bag", COUNT)


def test_it_ends_by_itself_and_leaves_results(bag: Path, toy: str, tmp_path: Path) -> None:
    done = launch(bag, tmp_path / "out", toy, "/truth")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    frames = results["topics"][TOPIC]["frames"]
    lost = results["topics"][TOPIC]["unanswered"]
    assert frames["answered"] + frames["dropped"] + sum(lost.values()) == COUNT
    assert lost.keys() <= {"lost before the node"} and frames["answered"] > 0
    assert results["accuracy"]["summary"]["AP50"] > 0


def test_a_failed_evaluation_is_told(bag: Path, toy: str, tmp_path: Path) -> None:
    done = launch(bag, tmp_path / "out", toy, "/nowhere.json")
    assert done.returncode == 1
    assert "evaluate_bag: " in done.stdout + done.stderr
    assert not (tmp_path / "out" / "results.json").exists()
