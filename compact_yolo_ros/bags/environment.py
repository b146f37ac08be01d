# SPDX-License-Identifier: Apache-2.0
"""What figures were measured on, and what the machine drew meanwhile."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

from compact_yolo_ros import __version__
from compact_yolo_ros.diagnostics.power import PowerMonitor, find_power_source
from compact_yolo_ros.diagnostics.statistics import WINDOW

PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "tensorrt", "rosbags")


def environment() -> dict[str, Any]:
    """Plain values: versions, system, processor, time."""
    return {
        "compact_yolo_ros": __version__,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "evaluated": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


class PowerLog:
    """What the machine draws while it works, where that can be read.

    Without a frame in between, the first figures come after ``WINDOW`` seconds.
    """

    def __init__(self, *, on_gpu: bool = False) -> None:
        """Start reading; ``on_gpu``: see ``find_power_source``."""
        self._monitor = PowerMonitor(lambda: find_power_source(on_gpu=on_gpu))
        self._next = time.monotonic() + WINDOW
        self._watts: list[float] = []
        self._throttling: dict[str, None] = {}

    def look(self) -> None:
        """Note the last seconds, when it is time to; call it often."""
        if time.monotonic() >= self._next:
            self._next += WINDOW
            self._note()

    def close(self) -> dict[str, Any]:
        """Stop reading, and return plain values; ``watts`` is None where they are not known."""
        self._note()
        summary = self._monitor.summary()
        self._monitor.close()
        return {
            "source": summary.source,
            "mode": summary.mode,
            "watts": fmean(self._watts) if self._watts else None,
            "throttling": ", ".join(self._throttling),
            "problem": summary.problem,
        }

    def _note(self) -> None:
        summary = self._monitor.summary()
        if summary.watts is not None:
            self._watts.append(summary.watts)
        if summary.throttling:
            self._throttling[summary.throttling] = None
