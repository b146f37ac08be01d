# SPDX-License-Identifier: Apache-2.0
"""CPU time of a tracker's step: objects that move apart, a crowd, and the worst there can be.

python test/benchmarks/tracks.py --objects 50
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from compact_yolo_ros.detection.detections import Detections  # noqa: E402
from compact_yolo_ros.detection.tracking.bytetrack import ByteTracker  # noqa: E402
from compact_yolo_ros.detection.tracking.options import TrackingOptions  # noqa: E402

RATE = 30
Scene = Callable[[int, np.random.Generator], np.ndarray]
"""Boxes (n, 4) of an image, by its number."""


def main() -> None:
    """Print percentiles in milliseconds of each scene."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--images", type=int, default=300)
    options = parser.parse_args()
    count = options.objects
    scenes: dict[str, Scene] = {
        "apart": moving(count, 1920, 1080),
        "crowd": moving(count, 500, 200),
        "alike": lambda number, random: random.uniform(0, 10, (count, 4)) + [0, 0, 100, 200],
    }
    result = {name: measure(scene, options.images) for name, scene in scenes.items()}
    print(json.dumps({**vars(options), **result}, indent=1))


def moving(count: int, width: float, height: float) -> Scene:
    """Boxes of 40 x 80 pixels that walk in a field of that size, and are measured with noise."""
    random = np.random.default_rng(0)
    start = random.uniform(0, [width, height], (count, 2))
    velocity = random.normal(0, 40, (count, 2))

    def scene(number: int, random: np.random.Generator) -> np.ndarray:
        centre = start + velocity * number / RATE
        size = np.array([40.0, 80.0])
        corners = np.concatenate([centre - size / 2, centre + size / 2], 1)
        return corners + random.normal(0, 1, corners.shape)

    return scene


def measure(scene: Scene, images: int) -> dict[str, float]:
    """Percentiles of the process's CPU time, and how often a track was lost."""
    random = np.random.default_rng(1)
    tracker, times = ByteTracker(TrackingOptions()), []
    for number in range(images):
        boxes = scene(number, random).astype(np.float32)
        scores = np.sort(random.beta(5, 3, len(boxes)).astype(np.float32))[::-1]
        labels = np.zeros(len(boxes), np.int32)
        found = Detections(boxes, scores, labels)
        began = time.process_time()
        tracker.step(number * 10**9 // RATE, found)
        times.append(1e3 * (time.process_time() - began))
    p50, p95, p99 = np.percentile(times, (50, 95, 99)).round(3).tolist()
    return {"ms_p50": p50, "ms_p95": p95, "ms_p99": p99, "lost": tracker.counts.lost}


if __name__ == "__main__":
    main()
