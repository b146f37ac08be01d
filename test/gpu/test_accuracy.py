# SPDX-License-Identifier: Apache-2.0
"""What the default model finds in labelled images, on the GPU as on the CPU in FP32.

``COMPACT_YOLO_GPU_PICTURES`` names a set with YOLO labels and the model's classes: images/val and
labels/val.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
from gpu_builds import Builds, Case, timed_cases
from gpu_report import GpuReport, is_double

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.backends.options import DEFAULT_MODEL
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.selection import EVERYTHING
from compact_yolo_ros.evaluation.evaluator import Evaluator
from compact_yolo_ros.labels.yolo import read_labels
from compact_yolo_ros.model.sizes import Size

PICTURES = os.environ.get("COMPACT_YOLO_GPU_PICTURES", "")
if find_spec("tensorrt") is None:
    pytest.skip("TensorRT is not installed here", allow_module_level=True)
if not PICTURES:
    pytest.skip("COMPACT_YOLO_GPU_PICTURES is not set", allow_module_level=True)

ALLOWED = {"fp32": 0.001, "fp16": 0.005, "int8": 0.01}
"""By how much AP50 may fall below that of FP32 on the CPU."""
CASES = [
    case for case in timed_cases() if case.file.card.name.removesuffix("_int8") == DEFAULT_MODEL
]


@pytest.mark.parametrize(("case", "rank"), [pytest.param(case, 1, id=str(case)) for case in CASES])
def test_ap50_is_that_of_the_cpu(
    case: Case, rank: int, on_gpu: SimpleNamespace, report: GpuReport, builds: Builds
) -> None:
    pictures = sorted(Path(PICTURES, "images", "val").iterdir())
    if is_double(on_gpu.device):
        pictures = pictures[::40]
    builds.finish(case)
    found = ap50(case.options(on_gpu.engines), pictures)
    expected = ap50_on_the_cpu(case.size, tuple(pictures))
    figures = {"AP50": found, "FP32 on the CPU": expected, "images": len(pictures)}
    report.add("Accuracy", model=case.file.card.name, precision=case.precision, **figures)
    assert found >= expected - ALLOWED[case.precision] or is_double(on_gpu.device)


@lru_cache
def ap50_on_the_cpu(size: Size, pictures: tuple[Path, ...]) -> float:
    return ap50(RunOptions(DEFAULT_MODEL, backend="onnxruntime", input_sizes=(size,)), pictures)


def ap50(options: RunOptions, pictures: Sequence[Path]) -> float:
    detector = Detector.open(options, selection=EVERYTHING)
    classes = detector.card.classes
    evaluator = Evaluator(classes)
    for path in pictures:
        image = cv2.imread(str(path))
        assert image is not None, path
        labels = Path(PICTURES, "labels", "val", f"{path.stem}.txt")
        size = Size(image.shape[1], image.shape[0])
        truth = read_labels(labels, len(classes)).in_pixels_of(size).clipped()
        evaluator.add(truth, detector.detect(image))
    detector.close()
    return evaluator.result().summary().ap50
