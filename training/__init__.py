# SPDX-License-Identifier: Apache-2.0
"""Training: detectors, data, loss, loop, evaluation, ONNX export. Needs PyTorch, never ROS."""

import compact_yolo_ros  # noqa: F401  # turns off ONNX Runtime's telemetry, before it is loaded
