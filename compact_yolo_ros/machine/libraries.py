# SPDX-License-Identifier: Apache-2.0
"""The libraries that the package uses, and which versions of them are installed."""

from __future__ import annotations

import sys
from importlib import metadata

from compact_yolo_ros.backends import BACKENDS
from compact_yolo_ros.backends.libraries import Library
from compact_yolo_ros.machine.power.table import POWER_SOURCES

LIBRARIES = (
    Library("NumPy", "numpy", "numpy"),
    Library("OpenCV", "cv2", "opencv-python-headless"),
    *dict.fromkeys(library for info in BACKENDS.values() for library in info.libraries),
    *(info.library for info in POWER_SOURCES if info.library),
)
"""What every installation needs, then what the backends and the power sources import."""


def installed_version(library: Library) -> str | None:
    """Return the version, without importing the library; None if it is not known."""
    try:
        return metadata.version(library.distribution)
    except metadata.PackageNotFoundError:
        # What the system's package manager has installed is not listed among Python's packages.
        loaded = sys.modules.get(library.module.partition(".")[0])
        version = getattr(loaded, "__version__", None)
        return None if version is None else str(version)
