# SPDX-License-Identifier: Apache-2.0
"""Training of the detectors: models, data, loss, loop, evaluation and ONNX export. Needs PyTorch, never ROS."""
