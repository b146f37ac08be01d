# SPDX-License-Identifier: Apache-2.0
"""What the default model finds in labelled images, on the GPU as on the CPU in FP32.

``COMPACT_YOLO_GPU_PICTURES`` names a set with YOLO labels and the model's classes: images/val and
labels/val.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
from gpu_builds import Case, timed_cases
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


@pytest.mark.parametrize(("case", "rank"), [pytest.param(case, 2, id=str(case)) for case in CASES])
def test_ap50_is_that_of_the_cpu(
    case: Case, rank: int, on_gpu: SimpleNamespace, report: GpuReport
) -> None:
    pictures = sorted(Path(PICTURES, "images", "val").iterdir())
    if is_double(on_gpu.device):
        pictures = pictures[::40]
    found = ap50(case.options(on_gpu.engines), pictures)
    exact = RunOptions(DEFAULT_MODEL, backend="onnxruntime", input_sizes=(case.size,))
    expected = ap50(exact, pictures)
    figures = {"AP50": found, "FP32 on the CPU": expected, "images": len(pictures)}
    report.add("Accuracy", model=case.file.card.name, precision=case.precision, **figures)
    assert found >= expected - ALLOWED[case.precision] or is_double(on_gpu.device)


def ap50(options: RunOptions, pictures: list[Path]) -> float:
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
