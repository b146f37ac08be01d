# SPDX-License-Identifier: Apache-2.0
"""The runtimes' telemetry is off: nothing about a user is stored or sent."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ONE_IMAGE = """
import importlib, sys
importlib.import_module(sys.argv[1])
from compact_yolo_ros.backends import RunOptions, open_backend
open_backend(RunOptions("yolo_fastest", backend=sys.argv[2])).backend.run()
"""


@pytest.mark.parametrize(
    ("module", "backend"),
    [
        ("compact_yolo_ros.detection.detector", "onnxruntime"),
        ("compact_yolo_ros.detection.detector", "openvino"),
        ("training.loop.onnxruntime_backbone", "onnxruntime"),
    ],
)
def test_a_run_leaves_no_trace_in_the_home_folder(
    module: str, backend: str, tmp_path: Path
) -> None:
    if module.startswith("training"):
        pytest.importorskip("torch")
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed here")
    # the telemetry turns itself off in continuous integration
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS", "XDG_CACHE_HOME")
    }
    command = [sys.executable, "-c", ONE_IMAGE, module, backend]
    environment["HOME"] = str(tmp_path)
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert not list(tmp_path.iterdir())
