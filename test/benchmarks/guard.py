# SPDX-License-Identifier: Apache-2.0
"""Say which of the main ratios has moved since a stored run.

    make bench                                 # compare with test/benchmarks/guard.json
    python test/benchmarks/guard.py --store    # replace it, on a quiet machine

Every figure is the CPU time of our code by that of the least that anybody needs for the same, in
turns in one process, so that it depends little on the machine and on other load:

    detect        Detector.detect of a VGA image / the bare network
    decode 1080p  a JPEG in a message, checked and decoded whole / cv2.imdecode
    letterbox     a 1080p image made into the input / cv2.resize alone
    evaluation    all threads of evaluate_bag / the bare network
    node          all of the node's process for an image, fed over DDS / the bare network

A ratio has moved if it differs by more than ``TOLERANCE`` and lies outside of the stored rounds.
The exit code is 1 if one is worse.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import peer  # noqa: E402  isort:skip  (it prepares the environment before ROS is imported)
import bag as recordings  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402

from compact_yolo_ros.apps.evaluate_bag.detection_run import PartRunner  # noqa: E402
from compact_yolo_ros.apps.evaluate_bag.frame_log import FrameLog  # noqa: E402
from compact_yolo_ros.apps.evaluate_bag.job import Job  # noqa: E402
from compact_yolo_ros.backends import RunOptions  # noqa: E402
from compact_yolo_ros.detection.detector import Detector  # noqa: E402
from compact_yolo_ros.model.sizes import Size  # noqa: E402
from compact_yolo_ros.pixels.decoding import ImageDecoder  # noqa: E402
from compact_yolo_ros.pixels.letterbox import Letterbox  # noqa: E402
from compact_yolo_ros.pixels.sample_images import sample_images  # noqa: E402
from compact_yolo_ros.recordings.reader import Bag  # noqa: E402

STORED = HERE / "guard.json"
MODEL = "yolo_fastest"
OPTIONS = RunOptions(MODEL, backend="onnxruntime", threads=1, input_sizes=(Size.square(320),))
TOLERANCE = 0.1
FRAMES = 60
"""Images in each round of what takes a recording or a node."""

Rounds = list[float]
"""The ratio in each round."""


def detect(rounds: int) -> Rounds:
    """``Detector.detect`` against the bare network."""
    image = _picture(640, 480)
    with closing(Detector.open(OPTIONS)) as detector:
        return _ratios(rounds, lambda: detector.detect(image), lambda: detector.backend.run())


def decode(rounds: int) -> Rounds:
    """A 1080p JPEG in a message against ``cv2.imdecode``."""
    data = cv2.imencode(".jpg", _picture(1920, 1080))[1]
    message = SimpleNamespace(data=data, format="bgr8; jpeg compressed bgr8")
    decoder = ImageDecoder()
    return _ratios(
        rounds, lambda: decoder.compressed(message), lambda: cv2.imdecode(data, cv2.IMREAD_COLOR)
    )


def letterbox(rounds: int) -> Rounds:
    """The input of the network from a 1080p image against ``cv2.resize``."""
    image, out = _picture(1920, 1080), np.empty((320, 320, 3), np.uint8)
    place = Letterbox(out)
    small = np.empty((180, 320, 3), np.uint8)
    return _ratios(
        rounds, lambda: place(image, "bgr"), lambda: cv2.resize(image, (320, 180), dst=small)
    )


def evaluation(rounds: int) -> Rounds:
    """All threads of an evaluation against the bare network."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bag")
        images = (recordings._image(number, "raw") for number in range(FRAMES))
        job = Job((recordings.write_bag(path, images),), (recordings.TOPIC,), OPTIONS)
        reader = Bag(job.bags)
        with closing(PartRunner(job, reader)) as runner:
            network, found = runner.detector.backend, []
            for number in range(rounds + 1):
                bare = _cpu(lambda: [network.run() for _ in range(FRAMES)])
                with closing(FrameLog(Path(folder, f"{number}.jsonl"))) as log:
                    span = (reader.start, reader.end + 1)
                    whole = _cpu(lambda log=log, span=span: runner.run(span, log, lambda: None))
                found.append(whole / bare)
    return found[1:]  # the first round warms up


def node(rounds: int) -> Rounds:
    """The process of the node against the bare network."""
    command = f"{sys.executable} -m compact_yolo_ros.ros.run detector_node --ros-args"
    given = {"autostart": "true", "model": MODEL, "backend": "onnxruntime", "cpu_threads": 1}
    given["input_size"] = "320x320"
    command += "".join(f" -p {name}:={value}" for name, value in given.items())
    detector = peer.NodeCommand(
        "detector",
        command,
        {"/image": "/detector/detections"},
        environment={"PYTHONPATH": str(HERE.parents[1]), "AMENT_PREFIX_PATH": sys.prefix},
    )
    case, found = peer.Case("guard", ("detector", "detector")), []
    with tempfile.TemporaryDirectory() as folder, closing(Detector.open(OPTIONS)) as bare:
        for _ in range(rounds):
            log = Path(folder, "log")
            figures = peer.measure(detector, case, [_picture(640, 480)], FRAMES / case.rate, log)
            alone = _cpu(lambda: [bare.backend.run() for _ in range(FRAMES)]) / FRAMES
            found.append(1e-3 * figures["cpu_ms"] / alone)
    return found


RATIOS: dict[str, tuple[Callable[[int], Rounds], int]] = {
    "detect": (detect, 100),
    "decode 1080p": (decode, 60),
    "letterbox": (letterbox, 200),
    "evaluation": (evaluation, 5),
    "node": (node, 3),
}
"""What is measured, and in how many rounds."""


def compare(stored: Rounds, now: Rounds) -> str:
    """``worse``, ``better``, or nothing if a ratio has not moved."""
    before, after = float(np.median(stored)), float(np.median(now))
    if abs(after / before - 1) <= TOLERANCE or min(stored) <= after <= max(stored):
        return ""
    return "worse" if after > before else "better"


def main() -> int:
    """Measure, print and compare; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", action="store_true", help="keep this run as the one to compare")
    parser.add_argument("--only", nargs="+", choices=RATIOS, default=list(RATIOS))
    options = parser.parse_args()
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    worse = False
    print(f"{'ratio':14}{'stored':>8}{'now':>8}")
    for name in options.only:
        measured, rounds = RATIOS[name]
        now = measured(rounds)
        before = stored.get(name)
        verdict = compare(before, now) if before else "new"
        worse |= verdict == "worse"
        known = f"{np.median(before):8.3f}" if before else " " * 8
        print(f"{name:14}{known}{np.median(now):8.3f}  {verdict}", flush=True)
        # Of many rounds, the quartiles say enough.
        kept = now if len(now) <= 5 else np.percentile(now, (25, 50, 75)).tolist()
        stored[name] = [round(ratio, 3) for ratio in kept]
    if options.store:
        STORED.write_text(json.dumps(stored, indent=1) + "\n")
    return int(worse and not options.store)


def _picture(width: int, height: int) -> np.ndarray:
    return cv2.resize(sample_images()[0], (width, height))


def _ratios(rounds: int, ours: Callable[[], object], least: Callable[[], object]) -> Rounds:
    return [_cpu(ours) / _cpu(least) for _ in range(rounds + 5)][5:]


def _cpu(run: Callable[[], object]) -> float:
    """Seconds of CPU of all threads of this process."""
    began = time.process_time()
    run()
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())
