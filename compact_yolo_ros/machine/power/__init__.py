# SPDX-License-Identifier: Apache-2.0
"""Power of the machine: mode, watts, clocks, temperatures and throttling, where they can be read.

A source is one file and one row in ``table``. docs/power.md says what each reads and which
permission it needs. The Jetson sources have been tested on recorded files and outputs only: none
has run on a Jetson yet.
"""

from __future__ import annotations

from pathlib import Path

from compact_yolo_ros.machine.power.monitor import NO_READING, PowerMonitor, PowerSummary
from compact_yolo_ros.machine.power.source import PowerReading, PowerSource

__all__ = [
    "NO_READING",
    "PowerMonitor",
    "PowerReading",
    "PowerSource",
    "PowerSummary",
    "find_power_source",
]


def find_power_source(root: Path = Path("/"), *, on_gpu: bool = False) -> PowerSource:
    """See ``discovery.find_power_source``; loads the sources only now, in a monitor's thread."""
    from compact_yolo_ros.machine.power import discovery

    return discovery.find_power_source(root, on_gpu=on_gpu)
