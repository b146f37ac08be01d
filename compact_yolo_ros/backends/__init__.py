# SPDX-License-Identifier: Apache-2.0
"""What runs the network: one module per runtime, behind one protocol."""

from compact_yolo_ros.backends.backend import (
    Backend,
    BackendError,
    BackendLost,
    MissingEngine,
    Opened,
)
from compact_yolo_ros.backends.choice import open_at_start, open_backend, open_if_built
from compact_yolo_ros.backends.options import PRECISIONS, RunOptions
from compact_yolo_ros.backends.registry import BACKENDS, backend_names

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Backend",
    "BackendError",
    "BackendLost",
    "MissingEngine",
    "Opened",
    "RunOptions",
    "backend_names",
    "open_at_start",
    "open_backend",
    "open_if_built",
]
