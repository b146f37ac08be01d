# SPDX-License-Identifier: Apache-2.0
"""Times of detectors on this machine, as ratios: they run in turns in ONNX Runtime, on one thread.

The time is the processor's, so that other programs count little. Weights do not matter.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.json_files import read_json
from compact_yolo_ros.support.plain_values import from_plain
from training.deployment.onnx_export import deployed_graph
from training.detectors.variant import Variant

FILE = "latency.json"
ROUNDS = 15


Size = int | Mapping[str, int]
"""Side of the input in pixels, of all detectors or of each by its name."""


def kept_ratios(
    folder: Path, detectors: Mapping[str, Variant], classes: int, size: Size
) -> dict[str, float]:
    """Return ``ratios``, read from a file in ``folder`` if it has those of the same detectors.

    They are measured again if the file is damaged.
    """
    file = folder / FILE
    wanted = {"size": size, "detectors": {name: str(v) for name, v in detectors.items()}}
    if (kept := _kept(file, wanted)) is not None:
        return kept
    found = ratios(detectors, classes, size)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(wanted | {"ratios": found}, indent=1) + "\n")
    return found


def _kept(file: Path, wanted: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the ratios in a file; None: it has none of these detectors, or is damaged."""
    try:
        content = from_plain(dict[str, Any], read_json(file))
        found = from_plain(dict[str, float], content.get("ratios"))
    except (OSError, ValueError):
        return None
    same = {key: content.get(key) for key in wanted} == wanted
    return found if same and found.keys() == wanted["detectors"].keys() else None


def ratios(
    detectors: Mapping[str, Variant], classes: int, size: Size, rounds: int = ROUNDS
) -> dict[str, float]:
    """Return the time of each detector by that of the first, by name.

    Args:
        detectors: what to run, as it is deployed, with fresh weights.
        classes: how many.
        size: of the input.
        rounds: runs of each; the median counts.
    """
    sessions = {name: _open(variant, classes) for name, variant in detectors.items()}
    rng = np.random.default_rng(0)
    sides = size if isinstance(size, Mapping) else dict.fromkeys(detectors, size)
    pixels = {name: rng.integers(0, 255, (1, s, s, 3), np.uint8) for name, s in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds + 1):
        for name, session in sessions.items():
            began = time.process_time()
            session.run(None, {"images": pixels[name]})
            times[name].append(time.process_time() - began)
    # The first run of each has what is done once.
    medians = {name: median(taken[1:]) for name, taken in times.items()}
    first = next(iter(medians.values()))
    return {name: taken / first for name, taken in medians.items()}


def _open(detector: Variant, classes: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = deployed_graph(detector.build(classes)).SerializeToString()
    return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
