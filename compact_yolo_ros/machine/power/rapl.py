# SPDX-License-Identifier: Apache-2.0
"""Energy of x86 processor packages through RAPL (kernel: power/powercap/powercap).

Since Linux 5.10 only root may read the counter (CVE-2020-8694); docs/power.md has the udev rule
that opens it.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from compact_yolo_ros.machine.power.source import (
    Part,
    PowerReading,
    PowerSourceInfo,
    Unavailable,
    metered,
)
from compact_yolo_ros.machine.power.sysfs import Tree

MAX_MICROJOULES = float(2**63)
MIN_INTERVAL = 0.1
"""Least seconds between two reads for a mean; the counter moves about every millisecond."""


class Rapl:
    """Mean watts of all processor packages since the previous read, without the memory's."""

    name = "RAPL (processor package)"

    def __init__(self, root: Path) -> None:
        """Find the packages and read them once.

        Raises:
            Unavailable: there is none, or it may not be read.
        """
        self._root = root
        tree = Tree(root)
        self._packages = [
            zone
            for zone in tree.find("sys/class/powercap/intel-rapl:*")
            if (tree.text(zone / "name") or "").startswith("package-")
        ]
        if not self._packages:
            raise Unavailable("no processor package in /sys/class/powercap")
        self._last = self._counters(tree)
        self._time = monotonic()
        if tree.problems:
            raise Unavailable(tree.problems[0])

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
        """Joules between two counts; the counter wraps to zero at the end of its range."""
        if now >= last:
            return (now - last) * 1e-6
        span = tree.number(package / "max_energy_range_uj", last, MAX_MICROJOULES)
        return None if span is None else (span - last + now) * 1e-6


INFO = PowerSourceInfo(
    name="RAPL",
    part=Part.PROCESSOR,
    open=Rapl,
    reads="`/sys/class/powercap/intel-rapl:*` (Intel and AMD), without the memory",
    files=("sys/class/powercap/intel-rapl:*/energy_uj",),
    permission="docs/power.md has a udev rule that opens it for a group",
)
