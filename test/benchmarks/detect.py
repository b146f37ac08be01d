# SPDX-License-Identifier: Apache-2.0
"""Compare ``Detector.detect`` with the bare network in ONNX Runtime, alternating in one run.

    python test/benchmarks/detect.py

The bare network takes floats of the right size and returns raw maps: no resize, normalisation,
decoding, ranking or suppression. Both come from the same weights. The score threshold is set so
that ten candidates reach the suppression, as in a street scene.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402
from skimage import data  # noqa: E402

from compact_yolo_ros.backends import RunOptions, open_backend  # noqa: E402
from compact_yolo_ros.detection.detector import Detector  # noqa: E402
from compact_yolo_ros.detection.selection import Selection  # noqa: E402
from compact_yolo_ros.model.card import ModelCard  # noqa: E402
from compact_yolo_ros.pixels.letterbox import Letterbox  # noqa: E402
from training.deployment.onnx_export import export, export_bare  # noqa: E402
from training.detectors.registry import build  # noqa: E402

CANDIDATES = 10


def main() -> None:
    """Print medians in milliseconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", default="yolo_ret_m075")
    parser.add_argument("--size", type=int, default=320, help="side of the network input")
    parser.add_argument("--image", default="640x480", help="width x height of the image")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    width, height = map(int, options.image.split("x"))
    image = cv2.cvtColor(cv2.resize(data.astronaut(), (width, height)), cv2.COLOR_RGB2BGR)

    with tempfile.TemporaryDirectory() as folder:
        whole, bare = Path(folder) / "whole.onnx", Path(folder) / "bare.onnx"
        detector = build(options.detector, num_classes=5).eval()
        card = ModelCard(options.detector, options.detector, tuple("abcde"), options.size)
        export(detector, whole, card)
        export_bare(detector, bare)
        opened = open_backend(RunOptions(str(whole), threads=options.threads))
        backend = opened.backend
        session = _bare_session(bare, options.size, options.threads)

    Letterbox(backend.input[0])(image, "bgr")
    scores = backend.run()[1][0]
    threshold = float(scores[CANDIDATES - 1])
    measured = Detector(opened, Selection(score_threshold=threshold))
    floats = np.ascontiguousarray(backend.input.transpose(0, 3, 1, 2), np.float32) / 255
    contestants = {
        "detect": lambda: measured.detect(image),
        "bare": lambda: session.run(None, {"images": floats}),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, run in contestants.items():
            began = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - began))
    result = {f"{name}_ms_p50": round(float(np.median(t)), 3) for name, t in times.items()}
    ratios = np.array(times["detect"]) / np.array(times["bare"])
    result["ratio_of_medians"] = round(result["detect_ms_p50"] / result["bare_ms_p50"], 4)
    result["median_of_ratios"] = round(float(np.median(ratios)), 4)
    print(json.dumps({**vars(options), **result}, indent=1))


def _bare_session(path: Path, size: int, threads: int) -> ort.InferenceSession:
    """The bare network, opened with the same options as the backend."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, value in (("batch", 1), ("height", size), ("width", size)):
        options.add_free_dimension_override_by_name(name, value)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
