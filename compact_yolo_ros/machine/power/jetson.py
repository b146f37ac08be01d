# SPDX-License-Identifier: Apache-2.0
"""What a Jetson shows in addition to its watts: power mode, GPU clock, over-current events.

Over-current counters exist from L4T r35 on (soctherm-oc-event: ``oc1_event_cnt`` to
``oc3_event_cnt``; on Orin under-voltage, average and instantaneous over-current). Before, only the
kernel's log has them. NVIDIA Jetson Linux Developer Guide, Platform Power and Performance. Not
run on a Jetson yet.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compact_yolo_ros.machine.power.jetson_rails import ONLY_JETSON
from compact_yolo_ros.machine.power.nvpmodel import PowerMode
from compact_yolo_ros.machine.power.source import (
    MAX_MHZ,
    Part,
    PowerReading,
    PowerSourceInfo,
    Unavailable,
)
from compact_yolo_ros.machine.power.sysfs import Tree

SIGNS = ("etc/nv_tegra_release", "sys/bus/i2c/drivers/ina3221x/*-00*")
"""Files that only Jetsons have; the first may be missing in a container, the second is NVIDIA's own
driver of L4T r32."""
DEVICE_TREE = "proc/device-tree/compatible"
"""Empty in a container, where Docker masks /sys/firmware, to which it leads."""
SOC_FAMILY = "sys/devices/soc0/family"
RAILS = "sys/bus/i2c/drivers/ina3221/*-00*/hwmon/hwmon*/in*_label"
"""Names of what the kernel's driver measures, on boards of any maker."""
GPU_NAMES = ("gpu", "ga10b", "gv11b", "gp10b")
"""Endings of the GPU's name in /sys/class/devfreq, which differs between chips and releases."""


def is_jetson(root: Path) -> bool:
    """Whether the machine with these files is an NVIDIA Jetson."""
    tree = Tree(root)
    if any(tree.find(sign) for sign in SIGNS):
        return True
    if "nvidia,tegra" in (tree.text(root / DEVICE_TREE) or ""):
        return True
    if (tree.text(root / SOC_FAMILY) or "").lower().startswith("tegra"):
        return True
    return any(tree.text(label) in ONLY_JETSON for label in tree.find(RAILS))


class Jetson:
    """Mode, GPU clock and over-current events; the watts come from a meter."""

    name = "Jetson"

    def __init__(self, root: Path, mode: Callable[[Tree], str | None] | None = None) -> None:
        """Find out whether this is a Jetson.

        Raises:
            Unavailable: it is not.
        """
        if not is_jetson(root):
            raise Unavailable("not a Jetson")
        self._root = root
        self._mode = mode or PowerMode(root)

    def read(self) -> PowerReading:
        tree = Tree(self._root)
        return PowerReading(
            mode=self._mode(tree),
            clocks=_gpu_clock(tree),
            events=_over_currents(tree),
            problems=tuple(tree.problems),
        )

    def close(self) -> None:
        pass


def _gpu_clock(tree: Tree) -> dict[str, float]:
    for path in tree.find("sys/class/devfreq/*/cur_freq"):
        if path.parent.name.endswith(GPU_NAMES):
            clock = tree.number(path, 0, MAX_MHZ, scale=1e-6, optional=True)
            return {} if clock is None else {"gpu": clock}
    return {}


def _over_currents(tree: Tree) -> dict[str, int]:
    counts = {
        path.name.removesuffix("_event_cnt"): tree.number(path, 0, 2**63)
        for path in tree.find("sys/class/hwmon/hwmon*/oc*_event_cnt")
    }
    return {f"over-current {name}": int(n) for name, n in counts.items() if n is not None}


INFO = PowerSourceInfo(
    name="Jetson",
    part=Part.NONE,
    open=Jetson,
    reads="nvpmodel's mode, the GPU's clock and the over-current counters",
)
