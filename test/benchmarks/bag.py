# SPDX-License-Identifier: Apache-2.0
"""Compare the evaluation of a recording with the bare network, in turns in one run.

    python test/benchmarks/bag.py
    python test/benchmarks/bag.py --format compressed --model yolo_ret_m075 --threads 1

A recording of 640 x 480 images is written into a temporary folder. For each part of it the
network alone is run as often as there are frames, then all frames are evaluated: reading, decoding,
letterbox, network, suppression and the log. The ratio is that of the two frame rates, 1 if
everything around the network were free, and the two cores that it takes did not slow each other;
its median over the parts is what other load on the machine changes least. The network's share is
that of its runs in the time of their thread, and does not depend on the other core.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "helpers")]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from bag_writer import CODEC, PERIOD, START, Recorded, header_of, write_bag  # noqa: E402

from compact_yolo_ros.apps.evaluate_bag.detection_run import PartRunner  # noqa: E402
from compact_yolo_ros.apps.evaluate_bag.frame_log import FrameLog  # noqa: E402
from compact_yolo_ros.apps.evaluate_bag.job import Job, parts  # noqa: E402
from compact_yolo_ros.backends import RunOptions  # noqa: E402
from compact_yolo_ros.recordings.image_types import COMPRESSED_IMAGE, IMAGE  # noqa: E402
from compact_yolo_ros.recordings.reader import Bag  # noqa: E402

WIDTH, HEIGHT = 640, 480
TOPIC = "/camera"


def main() -> None:
    """Print the two rates of each round and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="yolo_ret_m075")
    parser.add_argument("--format", choices=("raw", "compressed"), default="raw")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--frames", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bag")
        images = (_image(number, options.format) for number in range(options.frames))
        write_bag(path, images, options.storage)
        job = Job((path,), (TOPIC,), RunOptions(options.model, threads=options.threads))
        rates = np.array(_measure(job, options.rounds, Path(folder)))
    result = {
        **vars(options),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "network_frames_per_second": round(float(np.median(rates[:, 0])), 1),
        "evaluation_frames_per_second": round(float(np.median(rates[:, 1])), 1),
        "ratio": round(float(np.median(rates[:, 1] / rates[:, 0])), 3),
        "quartiles_of_ratio": np.percentile(rates[:, 1] / rates[:, 0], (25, 75)).round(3).tolist(),
        "share_of_the_network": round(float(np.median(rates[:, 2])), 3),
    }
    print(json.dumps(result, indent=1))


def _measure(job: Job, rounds: int, folder: Path) -> list[tuple[float, float, float]]:
    """Frames a second of the network alone and of the evaluation, and the network's share of the
    time of its thread, for each part."""
    bag, found = Bag(job.bags), []
    with closing(PartRunner(job, bag)) as runner:
        for number, span in enumerate(parts(job, bag) * rounds):
            frames = len(list(bag.messages(job.topics, *span)))
            backend = runner.detector.backend
            run = backend.run
            began = time.perf_counter()
            for _ in range(frames):
                run()
            bare = time.perf_counter() - began
            runs: list[tuple[float, float]] = []
            backend.run = _noting(run, runs)
            began = time.perf_counter()
            with closing(FrameLog(folder / f"{number}.jsonl")) as log:
                runner.run(span, log, lambda: None)
            whole = time.perf_counter() - began
            backend.run = run
            share = np.median([(b - a) / (c - a) for (a, b), (c, _) in pairwise(runs)])
            found.append((frames / bare, frames / whole, float(share)))
    return found[1:]  # the first part warms up


def _noting(run: Callable[..., Any], runs: list[tuple[float, float]]) -> Callable[..., Any]:
    """``run``, with the times of its begin and end."""

    def noting(images: int = 1) -> Any:
        began = time.perf_counter()
        found = run(images)
        runs.append((began, time.perf_counter()))
        return found

    return noting


def _image(number: int, form: str) -> Recorded:
    """A picture with some structure, so that JPEG and the network have something to do."""
    random = np.random.default_rng(number)
    small = random.integers(0, 256, (HEIGHT // 20, WIDTH // 20, 3), np.uint8)
    pixels = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    stamp = START + number * PERIOD
    types = CODEC.store.types
    if form == "raw":
        kind = IMAGE
        message = types[kind](
            header_of(stamp), HEIGHT, WIDTH, "bgr8", 0, 3 * WIDTH, pixels.reshape(-1)
        )
    else:
        kind = COMPRESSED_IMAGE
        content = cv2.imencode(".jpg", pixels)[1].reshape(-1)
        message = types[kind](header_of(stamp), "bgr8; jpeg compressed bgr8", content)
    return Recorded(TOPIC, kind, stamp, bytes(CODEC.store.serialize_cdr(message, kind)))


if __name__ == "__main__":
    main()
