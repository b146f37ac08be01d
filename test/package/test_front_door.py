# SPDX-License-Identifier: Apache-2.0
"""What ``from compact_yolo_ros import ...`` gives, and what importing the package costs."""

from __future__ import annotations

import importlib
import inspect
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import compact_yolo_ros

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "cv2", "rclpy", "onnxruntime", "openvino", "tensorrt", "yaml", "torch")

USER = """
import numpy as np
from compact_yolo_ros import Detections, Detector, RunOptions, Selection, Size

options = RunOptions("yolo_ret_m075", input_sizes=(Size(416, 256),), threads=2)
detector = Detector.open(options, selection=Selection(score_threshold=0.4))
found: Detections = detector.detect(np.zeros((480, 640, 3), np.uint8))
sure: Detections = found[found.scores > 0.5]
names: list[str] = [detector.card.classes[label] for label in sure.labels]
"""
WRONG = """
from compact_yolo_ros import Detector

found: int = Detector.open("yolo_ret_m075").detect("street.jpg")
"""


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = f"print([name for name in {HEAVY} if name in sys.modules])"
    assert run(f"import sys, compact_yolo_ros; {loaded}") == "[]"


def test_every_public_name_is_there_and_documented() -> None:
    for name in compact_yolo_ros.__all__:
        assert inspect.getdoc(getattr(compact_yolo_ros, name)), name
    assert set(compact_yolo_ros.__all__) <= set(dir(compact_yolo_ros))
    assert compact_yolo_ros._HOMES.keys() == set(compact_yolo_ros.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Tracker'"):
        _ = compact_yolo_ros.Tracker
    with pytest.raises(ImportError):
        importlib.import_module("compact_yolo_ros.Tracker")


@pytest.mark.slow
def test_files_outside_type_check_against_the_package(tmp_path: Path) -> None:
    """What mypy says of files outside the repository that use the installed package."""
    (tmp_path / "right.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(WRONG)
    cache = tmp_path / "cache"
    with suppress(FileNotFoundError):  # what `make lint` has found of NumPy: it takes most of it
        shutil.copytree(ROOT / ".mypy_cache", cache)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    command += ["--python-executable", sys.executable, "--cache-dir", str(cache)]
    command += ["right.py", "wrong.py"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    lines = said.splitlines()
    assert not [line for line in lines if line.startswith("right.py")], said
    wrong = "\n".join(line for line in lines if line.startswith("wrong.py"))
    assert 'incompatible type "str"' in wrong
    assert 'expression has type "Detections"' in wrong
