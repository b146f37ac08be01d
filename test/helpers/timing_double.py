# SPDX-License-Identifier: Apache-2.0
"""Stands in for the process that times: it remembers figures of the test at once.

``TIMING_DOUBLE`` says what it does: ``hang``, ``fail``, or the milliseconds of OpenVINO with one
thread, where ONNX Runtime takes 10 with as many threads as it has without timings.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from compact_yolo_ros.backends.arguments import add_run_arguments, run_options_of
from compact_yolo_ros.backends.cpu import default_threads
from compact_yolo_ros.backends.fastest import Timing
from compact_yolo_ros.backends.remembered import remember
from compact_yolo_ros.model.store import find_model


def usual(ms: float) -> Timing:
    """What runs without timings."""
    return Timing("onnxruntime", "fp32", default_threads(), ms, 10.0)


def main() -> int:
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    options = run_options_of(parser.parse_args())
    print("timing onnxruntime fp32", flush=True)
    manner = os.environ["TIMING_DOUBLE"]
    if manner == "hang":
        time.sleep(600)
    if manner == "fail":
        print("the cores are too busy", file=sys.stderr)
        return 1
    model = find_model(options.model)
    openvino = Timing("openvino", "fp32", 1, float(manner), 10.0)
    remember(model, options.resolved(model.card), (usual(10.0), openvino))
    return 0


if __name__ == "__main__":
    sys.exit(main())
