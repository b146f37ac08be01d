# SPDX-License-Identifier: Apache-2.0
"""Power of the machine: mode, watts, clocks, temperatures and throttling, where they can be read.

Every source is one file. docs/power.md says what each reads and which permission that takes. The
Jetson sources have been tested on recorded files and outputs only: none has run on a Jetson yet.
"""

from compact_yolo_ros.machine.power.discovery import find_power_source
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
