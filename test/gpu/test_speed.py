# SPDX-License-Identifier: Apache-2.0
"""How fast every detector is, beside the figures that were published of it.

Nothing here fails because it is slow: the report has the figures, and the targets that were met.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gpu_builds import Builds, Case, in_order, timed_cases
from gpu_meter import Meter, measure
from gpu_report import GpuReport, is_double

from compact_yolo_ros.backends import Opened
from compact_yolo_ros.backends.options import DEFAULT_MODEL
from compact_yolo_ros.backends.tensorrt.run import open_tensorrt
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.published import published_figures
from compact_yolo_ros.model.sizes import Size

if find_spec("tensorrt") is None:
    pytest.skip("TensorRT is not installed here", allow_module_level=True)

SECONDS = float(os.environ.get("COMPACT_YOLO_GPU_SPEED_SECONDS", "0.3"))
"""For which an engine runs again and again, for each number of images."""
LARGEST = 8
BATCHES = {1: (1,), LARGEST: (4, LARGEST)}
"""The numbers of images that are timed, by the largest one of the engine."""
FIRST = (DEFAULT_MODEL, f"{DEFAULT_MODEL}_int8", "yolov4_tiny")
"""They are timed before all others."""
CASES = list(in_order(timed_cases(), DEFAULT_MODEL))


def rank_of(case: Case) -> int:
    return 3 if case.file.card.name in FIRST else 5


@pytest.mark.parametrize(
    ("case", "rank"), [pytest.param(case, rank_of(case), id=str(case)) for case in CASES]
)
def test_it_is_timed(
    case: Case,
    rank: int,
    on_gpu: SimpleNamespace,
    report: GpuReport,
    builds: Builds,
    meter: Meter,
) -> None:
    engines = [replace(case, batch=largest) for largest in BATCHES]
    for engine in engines:
        builds.finish(engine)
        opened = open_tensorrt(case.file, engine.options(on_gpu.engines), build=False)
        if not isinstance(opened, Opened):
            report.add("Not reached", test=f"speed of {engine}")
            pytest.skip(f"not reached: {opened.reason}")
        noise = np.random.default_rng(0)
        backend = opened.backend
        backend.input[...] = noise.integers(0, 256, backend.input.shape, np.uint8)
        for images in BATCHES[engine.batch]:
            seconds = 0.0 if is_double(on_gpu.device) else SECONDS
            with builds.paused():
                figures = measure(backend, images, meter, seconds)
            about = described(case, backend.precision, images)
            published = published_fps(case.file.card, case.size)
            report.add("Speed", **about, **figures, published=published)
        backend.close()


def described(case: Case, precision: str, images: int) -> dict[str, Any]:
    card = case.file.card
    return {
        "model": card.name,
        "input": str(case.size),
        "GMAC": card.gmacs.get(str(case.size.width)),
        "precision": precision,
        "batch": images,
    }


def published_fps(card: ModelCard, size: Size) -> str:
    """Published images a second of the detector at this size, with the conditions."""
    known = published_figures().get(card.detector)
    if known is None or card.detector_options:  # with other options it is another network
        return "-"
    at = {device: fps[size.width] for device, fps in known.fps.items() if size.width in fps}
    return "; ".join(f"{fps:g} ({device})" for device, fps in at.items()) or "-"
