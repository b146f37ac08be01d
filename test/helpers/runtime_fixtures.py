# SPDX-License-Identifier: Apache-2.0
"""The toy detector, and machines: one without matplotlib, one with a GPU, which is a double of
TensorRT and pycuda (test/doubles).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_model import write_toy_model

from compact_yolo_ros.backends.tensorrt import cuda as cuda_module
from compact_yolo_ros.evaluation.report import ReportError

DOUBLES = Path(__file__).resolve().parents[1] / "doubles"
VERSIONS = ("8.6.1", "10.3.0", "11.4.0")
MODULES = ("tensorrt", "pycuda", "pycuda.driver", "pycuda.driver_library")


@pytest.fixture(scope="session")
def toy(model: str) -> str:
    """Path of the toy detector."""
    return model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of the toy detector."""
    return str(write_toy_model(tmp_path_factory.mktemp("model") / "toy.onnx"))


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording is evaluated as on a robot without matplotlib; saves a second or two."""

    def fail() -> None:
        raise ReportError("a report needs matplotlib")

    monkeypatch.setattr(
        "compact_yolo_ros.apps.evaluate_bag.recording_evaluation.check_libraries", fail
    )


def forget_modules() -> None:
    for name in MODULES:
        sys.modules.pop(name, None)
    cuda_module.gpu.cache_clear()


@pytest.fixture(params=VERSIONS)
def trt(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Any]:
    """The double as one version of TensorRT; no rule may be broken silently."""
    forget_modules()
    monkeypatch.syspath_prepend(str(DOUBLES))
    monkeypatch.setenv("TENSORRT_DOUBLE_VERSION", request.param)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module = importlib.import_module("tensorrt")
    yield module
    assert importlib.import_module("pycuda.driver").violations == []
    forget_modules()
