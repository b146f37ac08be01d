# SPDX-License-Identifier: Apache-2.0
"""What a measurement depends on besides the model: machine, versions, power mode, other load."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path

from compact_yolo_ros import __version__
from compact_yolo_ros.machine.libraries import LIBRARIES, installed_version
from compact_yolo_ros.machine.power import PowerSummary


def describe_machine(power: PowerSummary) -> dict[str, str]:
    """Describe this machine at this moment, for people; what is unknown is left out.

    Args:
        power: what a ``PowerMonitor`` has read.
    """
    cores = os.cpu_count() or 0
    usable = len(os.sched_getaffinity(0))
    facts = {
        "time": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor_name(),
        "cores": f"{cores}" if usable == cores else f"{usable} of {cores}",
        "memory": f"{_memory() / 2**30:.1f} GiB",
        "system": f"Linux {platform.release()}, {platform.machine()}",
        "load before": f"{os.getloadavg()[0]:.1f} processes running or waiting in the last minute",
        "power mode": power.mode or "unknown",
        "power": power.source if power.watts is not None else f"not readable: {power.problem}",
        "compact_yolo_ros": __version__,
        "Python": platform.python_version(),
        **{
            library.name: version
            for library in LIBRARIES
            if (version := installed_version(library)) is not None
        },
    }
    if clocks := ", ".join(f"{unit} {mhz:.0f} MHz" for unit, mhz in power.clocks.items()):
        facts["clocks"] = clocks
    if distribution := os.environ.get("ROS_DISTRO"):
        facts["ROS"] = distribution
    return facts


def processor_name() -> str:
    """Return the name of the processor's model."""
    name = _of_processor("model name")
    return platform.processor() if name is None else name or platform.machine()


def processor_features() -> frozenset[str] | None:
    """Return the kernel's names of the instructions that the processor has; None: unknown."""
    listed = _of_processor("flags") or _of_processor("Features")  # x86, ARM
    return frozenset(listed.split()) if listed else None


def _of_processor(name: str) -> str | None:
    """The value of a line of /proc/cpuinfo; empty: it has no such line; None: there is no file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(named, "")


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
