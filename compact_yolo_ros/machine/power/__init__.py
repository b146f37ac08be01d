# SPDX-License-Identifier: Apache-2.0
"""Power of the machine: mode, watts, clocks, temperatures and throttling, where they can be read.

A source is one file and one row in ``table``. docs/power.md says what each reads and which
permission it needs. The Jetson sources have been tested on recorded files and outputs only: none
has run on a Jetson yet.
"""

from compact_yolo_ros.machine.power.discovery import find_power_source
from compact_yolo_ros.machine.power.monitor import NO_READING, PowerMonitor, PowerSummary
from compact_yolo_ros.machine.power.source import PowerReading, PowerSource
from compact_yolo_ros.machine.power.table import POWER_SOURCES

__all__ = [
    "NO_READING",
    "POWER_SOURCES",
    "PowerMonitor",
    "PowerReading",
    "PowerSource",
    "PowerSummary",
    "find_power_source",
]
