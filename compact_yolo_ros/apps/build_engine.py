# SPDX-License-Identifier: Apache-2.0
"""The command ``build_engine``: TensorRT engines ahead of time."""

from compact_yolo_ros.backends.engine_build import main

__all__ = ["main"]
