# SPDX-License-Identifier: Apache-2.0
"""The table of backends. A backend is one file with its row, ``INFO``, and one line here."""

from __future__ import annotations

from compact_yolo_ros.backends import onnxruntime, openvino, tensorrt
from compact_yolo_ros.backends.info import BackendInfo

AUTO = "auto"
"""The option that leaves the choice to ``open_backend``."""

ALWAYS = "onnxruntime"
"""The backend that every installation has."""
BACKENDS: dict[str, BackendInfo] = {
    info.name: info for info in (tensorrt.INFO, onnxruntime.INFO, openvino.INFO)
}
"""Backends by name. ``auto`` takes that of a GPU if it works here."""


def backend_names() -> tuple[str, ...]:
    """What the option ``backend`` may be."""
    return (AUTO, *BACKENDS)
