# SPDX-License-Identifier: Apache-2.0
"""What an input that fits the camera costs, against the square of the same long side, in turns.

    python test/benchmarks/fitted_input.py --models yolo_fastest --backends onnxruntime

Prints JSON: for each model, backend and camera the median over the rounds of fitted / square, as
CPU time on one thread, and the milliseconds to the first answer of a new detector that opens the
square first (as the node does) or the fitted size when the image comes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import closing
from statistics import median
from time import process_time

import numpy as np

from compact_yolo_ros.backends import RunOptions, open_backend
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.sizes import Size

CAMERAS = (Size(1280, 720), Size(640, 480))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["yolo_ret_m075"])
    parser.add_argument("--backends", nargs="+", default=["onnxruntime"])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--side", type=int, default=320)
    given = parser.parse_args()
    for model in given.models:
        for backend in given.backends:
            options = RunOptions(model, backend, input_sizes=(given.side,), threads=1)
            for camera in CAMERAS:
                print(json.dumps(_compared(options, camera, given.rounds)), flush=True)


def _compared(options: RunOptions, camera: Size, rounds: int) -> dict[str, object]:
    fitting = options.change(image_sizes=(camera,))
    image = np.random.default_rng(0).integers(0, 256, (*camera.shape, 3), np.uint8)
    with (
        closing(open_backend(options).backend) as square,
        closing(open_backend(fitting).backend) as fitted,
    ):
        pairs = [(_cpu(fitted.run), _cpu(square.run)) for _ in range(rounds)]
    return {
        "model": options.model,
        "backend": options.backend,
        "camera": str(camera),
        "fitted": str(fitting.sizes[0]),
        "square": str(options.sizes[0]),
        "ratio": round(median(own / other for own, other in pairs), 3),
        "square_cpu_ms": round(1e3 * median(other for _, other in pairs), 2),
        "first_answer_cpu_ms": _first_answer(options, image),
    }


def _first_answer(options: RunOptions, image: np.ndarray) -> dict[str, float]:
    """CPU milliseconds from the first image to its answer."""
    answers_at_once = Detector(open_backend(options))
    opens_first = Detector.open(options)
    with closing(answers_at_once), closing(opens_first):
        return {
            "square, the fitted one opens meanwhile": round(
                1e3 * _cpu(lambda: answers_at_once.detect(image)), 1
            ),
            "fitted, opened first": round(1e3 * _cpu(lambda: opens_first.detect(image)), 1),
        }


def _cpu(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return process_time() - began


if __name__ == "__main__":
    main()
