# SPDX-License-Identifier: Apache-2.0
"""The detector node on a machine with a GPU: TensorRT and pycuda are doubles (test/doubles)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOUBLES = str(Path(__file__).resolve().parents[1] / "doubles")
sys.path.insert(0, DOUBLES)
os.environ["PYTHONPATH"] = os.pathsep.join([DOUBLES, os.environ["PYTHONPATH"]])  # for the build

from compact_yolo_ros.ros.run import detector_node  # noqa: E402

if __name__ == "__main__":
    sys.exit(detector_node())
