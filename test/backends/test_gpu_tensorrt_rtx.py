# SPDX-License-Identifier: Apache-2.0
"""The trial of TensorRT for RTX, without its plugin: its session runs on the CPU instead."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from compact_yolo_ros.backends import comparison
from compact_yolo_ros.pixels.sample_images import sample_images

SCRIPT = Path(__file__).resolve().parents[1] / "gpu" / "tensorrt_rtx.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_tensorrt_rtx", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RUNS", 1)
    few = sample_images()[:4]
    monkeypatch.setattr(comparison, "sample_images", lambda: few)
    return module


def test_answers_are_compared_in_both_precisions(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "on_gpu", lambda: lambda options: None)
    assert script.main(["yolo_fastest"]) == 0
    full, half = capsys.readouterr().out.splitlines()[2:]
    assert full.startswith("| yolo_fastest | fp32 |") and full.endswith("| 0.000 | 0.0000 | yes |")
    assert half.startswith("| yolo_fastest | fp16 |") and half.endswith("| yes |")


def test_what_fails_is_a_line_and_a_failure(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(options: Any) -> None:
        raise RuntimeError("compute capability 9.0\nis not supported")

    monkeypatch.setattr(script, "on_gpu", lambda: refuse)
    assert script.main(["yolo_fastest"]) == 1
    assert capsys.readouterr().out.count("compute capability 9.0 is not supported |") == 2


def test_without_the_plugin_it_says_how_to_get_it(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "plugin_library", lambda: None)
    assert script.main([]) == 10
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("pip install onnxruntime-ep-nv-tensorrt-rtx-cu13")
