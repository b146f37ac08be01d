# SPDX-License-Identifier: Apache-2.0
"""The GPU that the tests run on, their budget of time, and the report of what they find."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from gpu_report import GpuReport, describe

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.backends.tensorrt.cuda import gpu
from compact_yolo_ros.backends.tensorrt.library import library

SECONDS = float(os.environ.get("COMPACT_YOLO_GPU_SECONDS", "240"))
"""No test begins later than this after the first."""


@pytest.fixture(scope="session")
def on_gpu(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """TensorRT, the device, and a folder in which the tests share their engines."""
    try:
        trt, device = library(), gpu()
    except BackendError as error:
        pytest.skip(f"there is no GPU to test on: {error.reason}")
    engines = tmp_path_factory.mktemp("engines")
    engines.chmod(0o700)
    return SimpleNamespace(trt=trt, device=device, engines=str(engines), began=time.monotonic())


@pytest.fixture(autouse=True)
def within_budget(on_gpu: SimpleNamespace) -> None:
    if time.monotonic() - on_gpu.began > SECONDS:
        pytest.skip(f"left out: COMPACT_YOLO_GPU_SECONDS ({SECONDS:.0f} s) are over")


@pytest.fixture(scope="session")
def report(on_gpu: SimpleNamespace) -> Iterator[GpuReport]:
    """What the tests find, for people who were not there."""
    folder = os.environ.get("COMPACT_YOLO_GPU_REPORT", "")
    yield GpuReport(Path(folder) if folder else None, describe(on_gpu.trt, on_gpu.device))
