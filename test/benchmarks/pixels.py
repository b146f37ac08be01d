# SPDX-License-Identifier: Apache-2.0
"""Measure what happens to the pixels of an image before the network, in turns in one run.

    python test/benchmarks/pixels.py
    python test/benchmarks/pixels.py --image 3840x2160 --input 320x192

CPU time and page faults of decoding a JPEG whole and as small as the network needs it, with freed
memory given back and kept, and of making the input of the pixels: a linear resize, what the package
does, and the mean of all pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from array import array
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_THREAD, getrusage
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from skimage import data  # noqa: E402

from compact_yolo_ros.model.sizes import Size  # noqa: E402
from compact_yolo_ros.pixels.decoding import ImageDecoder  # noqa: E402
from compact_yolo_ros.pixels.letterbox import Letterbox, Placement  # noqa: E402
from compact_yolo_ros.support.allocator import keep_freed_memory  # noqa: E402

Figures = dict[str, dict[str, float]]


def measure(contestants: dict[str, Callable[[], object]], rounds: int) -> Figures:
    """Medians of CPU time in ms and of page faults, of each."""
    taken: dict[str, list[tuple[float, int]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            faults, began = getrusage(RUSAGE_THREAD).ru_minflt, time.thread_time()
            run()
            seconds = time.thread_time() - began
            taken[name].append((1e3 * seconds, getrusage(RUSAGE_THREAD).ru_minflt - faults))
    medians = {name: np.median(rows, axis=0) for name, rows in taken.items()}
    return {name: {"cpu_ms": round(t, 2), "page_faults": f} for name, (t, f) in medians.items()}


def decoding(options: argparse.Namespace, *, kept: bool) -> Figures:
    """Decode whole and small; for a process of its own."""
    cv2.setNumThreads(1)
    if kept:
        keep_freed_memory()
    file = cv2.imencode(".jpg", picture(options.image), (cv2.IMWRITE_JPEG_QUALITY, 90))[1]
    message: Any = SimpleNamespace(format="jpeg", data=array("B", file.tobytes()))
    placement = Placement.fit(options.image, options.input)
    decoder, small = ImageDecoder(), ImageDecoder()
    return measure(
        {
            "whole": lambda: decoder.compressed(message),
            "small": lambda: small.compressed(
                message, lambda _: (placement.width, placement.height)
            ),
        },
        options.rounds,
    )


def resizing(options: argparse.Namespace) -> Figures:
    """Make the network's input of raw pixels, which were written just before."""
    cv2.setNumThreads(1)
    source = picture(options.image)
    image = source.copy()
    letterbox = Letterbox(np.empty((*options.input.shape, 3), np.uint8))
    placement = letterbox(image, "bgr")
    size = (placement.width, placement.height)
    out = np.empty((size[1], size[0], 3), np.uint8)

    def resize(how: int) -> None:
        cv2.resize(image, size, dst=out, interpolation=how)
        cv2.cvtColor(out, cv2.COLOR_BGR2RGB, dst=out)

    return measure(
        {
            "(copy)": lambda: np.copyto(image, source),
            "linear": lambda: resize(cv2.INTER_LINEAR),
            "(copy again)": lambda: np.copyto(image, source),
            "letterbox": lambda: letterbox(image, "bgr"),
            "(copy a third time)": lambda: np.copyto(image, source),
            "mean": lambda: resize(cv2.INTER_AREA),
        },
        options.rounds,
    )


def picture(size: Size) -> Any:
    return cv2.cvtColor(cv2.resize(data.astronaut(), size), cv2.COLOR_RGB2BGR)


def main() -> None:
    """Print all figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Size.parse, default=Size(1920, 1080))
    parser.add_argument("--input", type=Size.parse, default=Size(320, 192))
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    figures = {}
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name, kept in (("memory given back", False), ("memory kept", True)):
            figures[f"decode, {name}"] = pool.apply(decoding, (options,), {"kept": kept})
        figures["resize"] = pool.apply(resizing, (options,))
    print(
        json.dumps({"image": str(options.image), "input": str(options.input), **figures}, indent=1)
    )


if __name__ == "__main__":
    main()
