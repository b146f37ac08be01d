# SPDX-License-Identifier: Apache-2.0
"""Training views a second: of drawn pictures, for every cache and number of loader processes.

    python test/benchmarks/loading.py --size 224 --images 400

"none" decodes every picture whenever it is used, as a plain loader does; the last column is the
ratio to that with the same processes. CPU time tells the cost on a busy machine.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from compact_yolo_ros.support.terminal import open_console, print_table  # noqa: E402
from training.data.augmentation import Augmentation  # noqa: E402
from training.data.dataset import Cache, DataSet, open_split  # noqa: E402
from training.data.loading import epoch_batches  # noqa: E402

VIEWS = {
    "default": Augmentation(),
    "with gamma, contrast, JPEG": Augmentation(gamma=(0.8, 2.0), contrast=0.1, jpeg=(80, 100)),
}


def draw(folder: Path, images: int) -> Path:
    """Write JPEG pictures of VOC's usual size, with noise that keeps the decoder busy."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(images):
        coarse = rng.integers(0, 255, (47, 63, 3), np.uint8)
        image = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"images/{number:05}.jpg"), image)
    data = folder / "data.yaml"
    data.write_text("names: [thing]\ntrain: images\n")
    return data


def measure(
    samples: DataSet, size: int, augmentation: Augmentation, mosaic: float, workers: int
) -> tuple[float, float]:
    """Return images a second, and CPU milliseconds an image, of one epoch."""
    started, cpu = time.perf_counter(), _cpu_seconds()
    batches = epoch_batches(samples, (size,), 16, augmentation, mosaic, (0, 0), workers=workers)
    images = sum(len(batch.images) for batch in batches)
    return images / (time.perf_counter() - started), (_cpu_seconds() - cpu) / images * 1e3


def _cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--data", type=Path, help="data.yaml to read instead of drawn pictures")
    arguments = parser.parse_args()
    cv2.setNumThreads(0)  # as in a loader process
    head = ("views", "mosaic", "workers", "cache", "images/s", "CPU ms/image", "ratio to none")
    rows = []
    console = open_console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or draw(Path(folder), arguments.images)
        opened = {
            cache: open_split(data, "train", cache, Path(folder) / "cache")
            for cache in reversed(get_args(Cache))
        }
        cases = [
            (name, mosaic, workers)
            for name in VIEWS
            for mosaic in (0.0, 1.0)
            for workers in arguments.workers
        ]
        for name, mosaic, workers in track(cases, "measuring", console=console, transient=True):
            plain = 0.0
            for cache, samples in opened.items():
                rate, cpu = measure(samples, arguments.size, VIEWS[name], mosaic, workers)
                plain = plain or rate
                figures = (f"{rate:.0f}", f"{cpu:.2f}", f"{rate / plain:.2f}")
                rows.append((name, f"{mosaic:g}", str(workers), cache, *figures))
    print_table(open_console(), head, rows, f"Views of {arguments.size} pixels")


if __name__ == "__main__":
    main()
