# SPDX-License-Identifier: Apache-2.0
"""What runs the network: one module per runtime, behind one protocol."""

from compact_yolo_ros.backends.backend import (
    BACKENDS,
    PRECISIONS,
    Backend,
    BackendError,
    BackendLost,
    EngineMissing,
    Size,
)
from compact_yolo_ros.backends.choice import open_backend

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Backend",
    "BackendError",
    "BackendLost",
    "EngineMissing",
    "Size",
    "open_backend",
]
