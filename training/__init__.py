# SPDX-License-Identifier: Apache-2.0
"""Training: detectors, data, loss, loop, evaluation, ONNX export. Needs PyTorch, never ROS."""
