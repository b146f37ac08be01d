# SPDX-License-Identifier: Apache-2.0
"""Compare images that go through the network together with images one after the other.

    python test/benchmarks/batches.py --backend onnxruntime openvino

Ratios of the time and of the CPU time of an image, both ways in turns in one run. Below 1, a batch
pays; ``alone`` is one image in a backend that could take more, by one in a backend that takes one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter, process_time

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from compact_yolo_ros.backends import Backend, RunOptions, open_backend  # noqa: E402


def main() -> None:
    """Print a line for each backend and number of images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="yolo_ret_m075")
    parser.add_argument("--backend", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--images", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    for name in given.backend:
        options = RunOptions(given.model, backend=name, threads=given.threads)
        one = open_backend(options).backend
        for images in given.images:
            several = open_backend(options.change(batch=images)).backend
            ways = [(one, 1, images), (several, images, 1), (several, 1, images)]
            taken = [[_times(*way) for way in ways] for _ in range(given.rounds)]
            time, cpu = np.median(np.array(taken), axis=0).T / images
            print(
                f"{name}, {images} images: time {time[1] / time[0]:.2f}, CPU time "
                f"{cpu[1] / cpu[0]:.2f} of one by one ({1e3 * cpu[0]:.1f} ms CPU an image); "
                f"alone: time {time[2] / time[0]:.2f}, CPU time {cpu[2] / cpu[0]:.2f}"
            )
            several.close()
        one.close()


def _times(backend: Backend, images: int, runs: int) -> tuple[float, float]:
    """Seconds and CPU seconds of so many runs."""
    began, used = perf_counter(), process_time()
    for _ in range(runs):
        backend.run(images)
    return perf_counter() - began, process_time() - used


if __name__ == "__main__":
    main()
