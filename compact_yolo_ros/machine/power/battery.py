# SPDX-License-Identifier: Apache-2.0
"""Power drawn from the battery of a notebook or robot (kernel: ABI/testing/sysfs-class-power)."""

from __future__ import annotations

from pathlib import Path

from compact_yolo_ros.machine.power.source import (
    MAX_WATTS,
    Part,
    PowerReading,
    PowerSourceInfo,
    Unavailable,
    metered,
)
from compact_yolo_ros.machine.power.sysfs import Tree


class Battery:
    """Watts of the whole machine while its battery discharges; no watts while it charges."""

    name = "battery (whole machine)"

    def __init__(self, root: Path) -> None:
        """Find out whether there are batteries that power the machine.

        Raises:
            Unavailable: there is none.
        """
        self._root = root
        if not _batteries(Tree(root)):
            raise Unavailable("none in /sys/class/power_supply")

    def read(self) -> PowerReading:
        tree = Tree(self._root)
        # They are looked for each time: a robot's may be exchanged while it runs.
        batteries = _batteries(tree)
        discharging = [b for b in batteries if tree.text(b / "status") == "Discharging"]
        found = [_watts(tree, battery) for battery in discharging]
        watts = [value for value in found if value is not None]
        if not discharging and not tree.problems:
            tree.problems.append("battery: not discharging, so the machine's power is unknown")
        if tree.problems or len(watts) < len(discharging):
            return PowerReading(problems=tuple(tree.problems))
        return metered("battery", sum(watts))

    def close(self) -> None:
        pass


def _batteries(tree: Tree) -> list[Path]:
    """The batteries that power the machine: not that of a mouse."""
    return [
        supply
        for supply in tree.find("sys/class/power_supply/*")
        if tree.text(supply / "type", optional=True) == "Battery"
        and tree.text(supply / "scope", optional=True) != "Device"
    ]


def _watts(tree: Tree, battery: Path) -> float | None:
    """Watts of one battery: the kernel's units are uW, uV and uA, and some drivers count down."""
    power = battery / "power_now"
    if power.exists():
        value = tree.number(power, -MAX_WATTS, MAX_WATTS, scale=1e-6)
        return None if value is None else abs(value)
    volts = tree.number(battery / "voltage_now", 0, 1000, scale=1e-6)
    amperes = tree.number(battery / "current_now", -1000, 1000, scale=1e-6)
    if volts is None or amperes is None:
        return None
    return volts * abs(amperes)


INFO = PowerSourceInfo(
    name="battery",
    part=Part.MACHINE,
    open=Battery,
    reads="`/sys/class/power_supply`, while the battery of a notebook or robot discharges",
)
