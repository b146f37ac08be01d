# SPDX-License-Identifier: Apache-2.0
"""Compare runtimes, precisions, thread counts and spinning on this CPU, alternating in one run.

    python test/benchmarks/cpu_runtime.py
    python test/benchmarks/cpu_runtime.py --pause 25

Each contestant is opened alone, because threads that spin would slow the others. The cost is CPU
time: what the network takes from everything else on the robot. With ``--pause`` there is a gap
between the images, as with a camera, in which threads either sleep or spin. Measure on a quiet
machine and on a busy one: spinning wins on the first and loses on the second.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402

from compact_yolo_ros.backends import (  # noqa: E402
    BACKENDS,
    BackendError,
    RunOptions,
    open_backend,
)
from compact_yolo_ros.backends.registry import AUTO  # noqa: E402
from compact_yolo_ros.model.sizes import Size  # noqa: E402
from compact_yolo_ros.model.store import ModelFile, find_model  # noqa: E402

WARM_UP = 5


def main() -> None:
    """Print milliseconds, CPU milliseconds and the ratio to the first contestant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="yolo_ret_m075")
    parser.add_argument("--size", type=int, default=320, help="side of the network input")
    parser.add_argument("--pause", type=float, default=0.0, help="milliseconds between images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=40, help="images a round")
    options = parser.parse_args()

    model = find_model(options.model)
    contestants = _contestants(model, options.size)
    wall: dict[str, list[list[float]]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, opener in contestants.items():
            times, seconds = _measure(opener(), options.images, options.pause * 1e-3)
            wall[name].append(times)
            cpu[name].append(seconds)
    first = next(iter(contestants))
    medians = {name: np.array([np.median(times) for times in wall[name]]) for name in contestants}
    result = {
        name: {
            **dict(zip(("p50_ms", "p95_ms", "p99_ms"), _percentiles(wall[name]), strict=True)),
            "cpu_ms_an_image": round(1e3 * float(np.median(cpu[name])), 2),
            "ratio_to_first": round(float(np.median(medians[name] / medians[first])), 3),
        }
        for name in contestants
    }
    print(json.dumps({**vars(options), "cores": len(os.sched_getaffinity(0)), **result}, indent=1))


def _contestants(model: ModelFile, size: int) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Openers by name; each returns a function that runs the network once."""
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    cores = len(os.sched_getaffinity(0))

    def backend(name: str, threads: int, precision: str = AUTO) -> Callable[[], Any]:
        options = RunOptions(
            str(model.path),
            backend=name,
            precision=precision,
            threads=threads,
            input_sizes=(Size.square(size),),
        )
        opened = open_backend(options).backend
        opened.input[:] = image
        return opened.run

    def spinning(threads: int, stop: str) -> Callable[[], Any]:
        options = ort.SessionOptions()
        options.add_session_config_entry("session.force_spinning_stop", stop)
        options.intra_op_num_threads = threads
        for name, value in zip(("batch", "height", "width"), image.shape, strict=False):
            options.add_free_dimension_override_by_name(name, value)
        opened = ort.InferenceSession(str(model.path), options)
        return lambda: opened.run(None, {"images": image})

    found = {}
    for threads in sorted({1, 2, 4} & set(range(1, cores + 1))):
        found[f"onnxruntime, {threads} threads"] = lambda n=threads: backend("onnxruntime", n)
        if threads > 1:
            for manner, stop in (("in a run", "1"), ("ever", "0")):
                name = f"onnxruntime, {threads} threads, spinning {manner}"
                found[name] = lambda n=threads, s=stop: spinning(n, s)
        for precision in (model.card.precision, *BACKENDS["openvino"].converts):
            try:
                backend("openvino", threads, precision)
            except BackendError:  # not installed, or not computed in by this processor
                continue
            found[f"openvino {precision}, {threads} threads"] = lambda n=threads, p=precision: (
                backend("openvino", n, p)
            )
    return found


def _measure(run: Callable[[], Any], images: int, pause: float) -> tuple[list[float], float]:
    """Seconds of each run, and CPU seconds an image with the pauses."""
    for _ in range(WARM_UP):
        run()
    times = []
    used = time.process_time()
    for _ in range(images):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
        time.sleep(pause)
    return times, (time.process_time() - used) / images


def _percentiles(rounds: list[list[float]]) -> list[float]:
    return [round(1e3 * float(x), 2) for x in np.percentile(np.ravel(rounds), (50, 95, 99))]


if __name__ == "__main__":
    main()
