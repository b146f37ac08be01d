# SPDX-License-Identifier: Apache-2.0
"""Training: detectors, data, loss, loop, evaluation, ONNX export. Needs PyTorch, never ROS."""

import sys

import compact_yolo_ros  # noqa: F401  # turns off ONNX Runtime's telemetry, before it is loaded
from compact_yolo_ros.support.termination import end_quietly

if sys.argv[0] == "-m":  # a command, of which Python looks for the file: PyTorch takes seconds
    end_quietly()
