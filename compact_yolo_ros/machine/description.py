# SPDX-License-Identifier: Apache-2.0
"""What a measurement depends on besides the model: machine, versions, power mode, other load."""

from __future__ import annotations

import os
import platform
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from compact_yolo_ros import __version__
from compact_yolo_ros.apps.doctor.versions import LIBRARIES
from compact_yolo_ros.machine.power import PowerSummary


def environment(power: PowerSummary) -> dict[str, str]:
    """Facts about this machine at this moment, for people; what is not known is left out."""
    cores = os.cpu_count() or 0
    usable = len(os.sched_getaffinity(0))
    facts = {
        "time": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor(),
        "cores": f"{cores}" if usable == cores else f"{usable} of {cores}",
        "memory": f"{_memory() / 2**30:.1f} GiB",
        "system": f"Linux {platform.release()}, {platform.machine()}",
        "load before": f"{os.getloadavg()[0]:.1f} processes that ran or waited in the last minute",
        "power mode": power.mode or "not known",
        "power": power.source if power.watts is not None else f"not readable: {power.problem}",
        "compact_yolo_ros": __version__,
        "Python": platform.python_version(),
        **_versions(),
    }
    if clocks := ", ".join(f"{unit} {mhz:.0f} MHz" for unit, mhz in power.clocks.items()):
        facts["clocks"] = clocks
    if distribution := os.environ.get("ROS_DISTRO"):
        facts["ROS"] = distribution
    return facts


def middleware() -> str:
    """The ROS middleware in use. ImportError without ROS."""
    from rclpy.utilities import get_rmw_implementation_identifier

    return str(get_rmw_implementation_identifier())


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _versions() -> dict[str, str]:
    """Versions of the libraries that are installed; nothing is imported for it."""
    found = {}
    for library in LIBRARIES:
        # What a distribution's package manager installed is not among Python's own packages.
        loaded = sys.modules.get(library.module.partition(".")[0])
        try:
            found[library.name] = metadata.version(library.distribution)
        except metadata.PackageNotFoundError:
            if version := getattr(loaded, "__version__", None):
                found[library.name] = str(version)
    return found
