# SPDX-License-Identifier: Apache-2.0
"""Compact YOLO detectors as ROS 2 nodes: camera frames in, detections out."""

__version__ = "0.1.0"
