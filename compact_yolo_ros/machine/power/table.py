# SPDX-License-Identifier: Apache-2.0
"""The table of power sources. A source is one file with its row, ``INFO``, and one line here."""

from __future__ import annotations

from compact_yolo_ros.machine.power import (
    battery,
    ina3221,
    jetson,
    jtop,
    kernel,
    nvml,
    rapl,
    tegrastats,
)
from compact_yolo_ros.machine.power.source import PowerSourceInfo

POWER_SOURCES: tuple[PowerSourceInfo, ...] = (
    jtop.INFO,
    ina3221.INFO,
    tegrastats.INFO,
    nvml.INFO,
    rapl.INFO,
    battery.INFO,
    jetson.INFO,
    kernel.INFO,
)
"""Where several measure the same part of a machine, the first one that opens is used."""
