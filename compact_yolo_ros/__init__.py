# SPDX-License-Identifier: Apache-2.0
"""Compact YOLO detectors as ROS 2 nodes: camera frames in, detections out."""

import os
import sys

__version__ = "0.1.0"

# Since 1.29, ONNX Runtime for Linux reports its use to Microsoft, models' names included, and keeps
# an identity of the machine on disk, unless this is set before it is loaded. No robot of ours does.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenVINO tells Google Analytics that it was imported, and keeps an identity in ~/intel, unless the
# package that does so cannot be imported: then it takes a stub of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
