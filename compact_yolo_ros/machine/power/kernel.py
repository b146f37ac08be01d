# SPDX-License-Identifier: Apache-2.0
"""What the Linux kernel shows on any machine: profile, governor, clocks, temperatures, throttling.

Kernel documentation: admin-guide/pm/cpufreq, driver-api/thermal/sysfs-api,
ABI/testing/sysfs-platform_profile; ``thermal_throttle`` exists on Intel processors.
"""

from __future__ import annotations

from pathlib import Path

from compact_yolo_ros.machine.power.source import (
    DEGREES,
    MAX_MHZ,
    Part,
    PowerReading,
    PowerSourceInfo,
    Unavailable,
)
from compact_yolo_ros.machine.power.sysfs import Tree

POLICIES = "sys/devices/system/cpu/cpufreq/policy*"
ZONES = "sys/class/thermal/thermal_zone*"
ALERTS = "sys/class/thermal/cooling_device*"
COUNTS = "sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"

FIND_EVERY = 10
"""Readings until the files are looked for again: that takes longer than to read them, and they only
change when a core is switched on or off."""


class Kernel:
    """Mode, clock, temperatures and throttling, no watts; real machines show some of them."""

    name = "kernel"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, list[Path]] = {}
        self._reads = 0
        self._throttles = _Throttles()

    def read(self) -> PowerReading:
        if self._reads % FIND_EVERY == 0:
            self._known.clear()
        self._reads += 1
        tree = Tree(self._root, self._known)
        return PowerReading(
            mode=_mode(tree),
            clocks=_clocks(tree),
            temperatures=_temperatures(tree),
            events=self._throttles.read(tree),
            throttled=_alerts(tree),
        )

    def close(self) -> None:
        pass


def _mode(tree: Tree) -> str | None:
    """For example ``balanced, powersave governor``."""
    profiles = [
        tree.text(path, optional=True) for path in tree.find("sys/firmware/acpi/platform_profile")
    ]
    governors = {
        tree.text(path, optional=True) for path in tree.find(f"{POLICIES}/scaling_governor")
    }
    names = [*profiles, *(f"{name} governor" for name in sorted(filter(None, governors)))]
    return ", ".join(filter(None, names)) or None


def _clocks(tree: Tree) -> dict[str, float]:
    """Mean over the clusters that are on; the kernel's unit is kHz."""
    found = [
        tree.number(path, 1, MAX_MHZ, scale=1e-3, optional=True)
        for path in tree.find(f"{POLICIES}/scaling_cur_freq")
    ]
    clocks = [clock for clock in found if clock is not None]
    return {"cpu": sum(clocks) / len(clocks)} if clocks else {}


def _temperatures(tree: Tree) -> dict[str, float]:
    """The hottest zone of each name; the kernel's unit is 0.001 degrees Celsius.

    Sensors that are off cannot be read or show -256, and the Nano's PMIC always shows 100.
    """
    temperatures: dict[str, float] = {}
    for zone in tree.find(ZONES):
        name = tree.text(zone / "type", optional=True)
        value = tree.number(zone / "temp", *DEGREES, scale=1e-3, optional=True)
        if name and value is not None and not name.startswith("PMIC"):
            temperatures[name] = max(value, temperatures.get(name, value))
    return temperatures


class _Throttles:
    """How often a core or a package was too hot since the start of the machine.

    Each core has counts of its own and of its package, and all may be too hot at once: of what the
    counts of a kind have grown by since the last reading, the most is added.
    """

    def __init__(self) -> None:
        self._counts: dict[Path, int] = {}
        self._events: dict[str, int] = {}

    def read(self, tree: Tree) -> dict[str, int]:
        first, more = not self._counts, dict[str, int]()
        for path in tree.find(COUNTS):
            number = tree.number(path, 0, 2**63, optional=True)
            if number is not None:
                count = int(number)
                # A core that is switched on later brings counts of before.
                before = self._counts.get(path, 0 if first else count)
                kind = f"cpu {path.name.removesuffix('_throttle_count')} thermal"
                more[kind] = max(count - before, more.get(kind, 0))
                self._counts[path] = count
        for kind, growth in more.items():
            self._events[kind] = self._events.get(kind, 0) + growth
        return {kind: self._events[kind] for kind in more}


def _alerts(tree: Tree) -> tuple[str, ...] | None:
    """Thermal throttling, which Jetsons show as cooling devices such as gpu-throttle-alert."""
    names = {device: tree.text(device / "type", optional=True) for device in tree.find(ALERTS)}
    alerts = {d: name for d, name in names.items() if name and name.endswith("throttle-alert")}
    if not alerts:
        return None
    return tuple(
        name
        for device, name in alerts.items()
        if tree.number(device / "cur_state", 1, 1000, optional=True)
    )


def _open(root: Path) -> Kernel:
    if Kernel(root).read() == PowerReading():
        raise Unavailable("shows nothing, as in many virtual machines and containers")
    return Kernel(root)


INFO = PowerSourceInfo(
    name="kernel",
    part=Part.NONE,
    open=_open,
    reads="power mode, clocks, temperatures and thermal throttling from sysfs",
)
