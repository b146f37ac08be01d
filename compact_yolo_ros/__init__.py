# SPDX-License-Identifier: Apache-2.0
"""Compact YOLO detectors for robots: images in, detections out, with ROS 2 nodes around them.

``from compact_yolo_ros import Detector`` and the other names below load what they need when they
are first used; importing the package itself loads neither ROS nor OpenCV nor a runtime.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compact_yolo_ros.backends.backend import BackendError, BackendLost
    from compact_yolo_ros.backends.options import RunOptions
    from compact_yolo_ros.detection.detections import Detections
    from compact_yolo_ros.detection.detector import Detector
    from compact_yolo_ros.detection.selection import Selection
    from compact_yolo_ros.model.card import ModelCard, ModelCardError
    from compact_yolo_ros.model.sizes import Size
    from compact_yolo_ros.model.store import ModelError

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "BackendLost",
    "Detections",
    "Detector",
    "ModelCard",
    "ModelCardError",
    "ModelError",
    "RunOptions",
    "Selection",
    "Size",
]

_HOMES = {
    "BackendError": "backends.backend",
    "BackendLost": "backends.backend",
    "Detections": "detection.detections",
    "Detector": "detection.detector",
    "ModelCard": "model.card",
    "ModelCardError": "model.card",
    "ModelError": "model.store",
    "RunOptions": "backends.options",
    "Selection": "detection.selection",
    "Size": "model.sizes",
}
"""In which module each public name is defined."""

# Since 1.29, ONNX Runtime for Linux reports its use to Microsoft, models' names included, and keeps
# an identity of the machine on disk, unless this is set before it is loaded. No robot of ours does.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenVINO reports its import to Google Analytics, and keeps an identity in ~/intel, unless the
# package that does so cannot be imported: then it takes a stub of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
