# SPDX-License-Identifier: Apache-2.0
"""Compare files of one model, as before and after a change: start and latency, alternating.

    python -m training.repack yolo_ret_m075 --storage float32 --out plain.onnx
    python test/benchmarks/model_files.py plain.onnx models/yolo_ret_m075.onnx

*Start* is a process of its own, from its first line to its first detection. *Open* is the file's
part of that, in a process that has the libraries loaded. Every round takes the files in the other
order. CPU time is the better measure on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from skimage import data  # noqa: E402

from compact_yolo_ros import Detector, RunOptions  # noqa: E402

FIRST_DETECTION = """
import sys
import numpy as np
from compact_yolo_ros import Detector, RunOptions
model, backend = sys.argv[1:]
options = RunOptions(model, backend, threads=1)
Detector.open(options).detect(np.zeros((480, 640, 3), np.uint8))
"""


def main() -> None:
    """Print percentiles in milliseconds, and the medians of the ratios to the first file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", help="ONNX files; ratios are to the first")
    parser.add_argument("--backends", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--opens", type=int, default=20)
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    print(json.dumps({name: _measure(name, options) for name in options.backends}, indent=1))


def _measure(backend: str, options: argparse.Namespace) -> dict[str, Any]:
    image = data.astronaut()
    files = options.files
    detectors = {file: _opened(file, backend) for file in files}
    return {
        "latency": _alternating(files, options.images, lambda f: detectors[f].detect(image, "rgb")),
        "open": _alternating(files, options.opens, lambda f: _opened(f, backend)),
        "start": _alternating(files, options.starts, lambda f: _start(f, backend)),
    }


def _alternating(
    files: Sequence[str], rounds: int, run: Callable[[str], object]
) -> dict[str, dict[str, float]]:
    """Time ``run`` of every file in turn; the first round only warms up."""
    times = {file: np.empty((rounds, 2)) for file in files}
    for number in range(-1, rounds):
        for file in files if number % 2 else reversed(files):
            began = _now()
            run(file)
            times[file][max(number, 0)] = 1e3 * (_now() - began)
    first = times[files[0]]
    return {
        file: {
            **{f"p{p}_ms": round(float(np.percentile(values[:, 0], p)), 2) for p in (50, 95, 99)},
            "cpu_p50_ms": round(float(np.median(values[:, 1])), 2),
            "ratio": round(float(np.median(values[:, 0] / first[:, 0])), 3),
            "cpu_ratio": round(float(np.median(values[:, 1] / first[:, 1])), 3),
            "ratio_of_least_cpu": round(float(values[:, 1].min() / first[:, 1].min()), 3),
        }
        for file, values in times.items()
    }


def _now() -> NDArray[np.float64]:
    """Seconds on the clock, and of CPU time in this process and its ended children."""
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return np.array([time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in usages)])


def _opened(file: str, backend: str) -> Detector:
    return Detector.open(RunOptions(file, backend, threads=1))


def _start(file: str, backend: str) -> None:
    subprocess.run([sys.executable, "-c", FIRST_DETECTION, file, backend], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
