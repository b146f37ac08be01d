# SPDX-License-Identifier: Apache-2.0
"""Energy of x86 processor packages through RAPL (kernel: power/powercap/powercap).

The counter is readable for root only since Linux 5.10 (CVE-2020-8694); docs/power.md has the rule
for udev that opens it.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from compact_yolo_ros.machine.power.source import PowerReading, Unavailable, metered
from compact_yolo_ros.machine.power.sysfs import Tree

MAX_MICROJOULES = float(2**63)
MIN_INTERVAL = 0.1
"""Seconds between two reads that give a mean; the counter moves about every millisecond."""


class Rapl:
    """Watts of all processor packages: the mean since the read before. Memory is not in it."""

    name = "RAPL (processor package)"

    def __init__(self, root: Path) -> None:
        """Find the packages and read them once.

        Raises:
            Unavailable: there are none, or they may not be read.
        """
        self._root = root
        tree = Tree(root)
        self._packages = [
            zone
            for zone in tree.find("sys/class/powercap/intel-rapl:*")
            if (tree.text(zone / "name") or "").startswith("package-")
        ]
        if not self._packages:
            raise Unavailable("RAPL: no processor package in /sys/class/powercap")
        self._last = self._counters(tree)
        self._time = monotonic()
        if tree.problems:
            raise Unavailable(f"RAPL: {tree.problems[0]}")

    def read(self) -> PowerReading:
        if monotonic() - self._time < MIN_INTERVAL:
            return PowerReading()
        tree = Tree(self._root)
        last, before = self._last, self._time
        self._last, self._time = self._counters(tree), monotonic()
        used = [
            self._used(tree, package, last[package], now)
            for package, now in self._last.items()
            if package in last
        ]
        joules = [value for value in used if value is not None]
        if len(joules) < len(self._packages):
            return PowerReading(problems=tuple(tree.problems))
        return metered("RAPL", sum(joules) / (self._time - before))

    def close(self) -> None:
        pass

    def _counters(self, tree: Tree) -> dict[Path, float]:
        found = {p: tree.number(p / "energy_uj", 0, MAX_MICROJOULES) for p in self._packages}
        return {package: value for package, value in found.items() if value is not None}

    def _used(self, tree: Tree, package: Path, last: float, now: float) -> float | None:
        """Joules between two counts; the counter starts at zero again above its range."""
        if now >= last:
            return (now - last) * 1e-6
        span = tree.number(package / "max_energy_range_uj", last, MAX_MICROJOULES)
        return None if span is None else (span - last + now) * 1e-6
