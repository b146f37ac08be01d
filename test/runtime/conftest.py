# SPDX-License-Identifier: Apache-2.0
"""A machine with a GPU, which is a double of TensorRT and pycuda (test/doubles)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compact_yolo_ros.backends import cuda as cuda_module

DOUBLES = Path(__file__).resolve().parents[1] / "doubles"
VERSIONS = ("8.6.1", "10.3.0", "11.4.0")
MODULES = ("tensorrt", "pycuda", "pycuda.driver")


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
