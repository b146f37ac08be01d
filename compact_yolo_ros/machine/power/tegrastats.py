# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's tegrastats, where a Jetson's meters cannot be read as files.

Its format differs between releases: ``VDD_IN 4067/4067`` (r32) or ``VDD_IN 5299mW/5299mW``, the
power now and its mean since the start. Not run on a Jetson yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from compact_yolo_ros.machine.power.jetson_rails import module_rails
from compact_yolo_ros.machine.power.source import (
    Part,
    PowerReading,
    PowerSourceInfo,
    Unavailable,
    metered,
)
from compact_yolo_ros.machine.power.tool_output import output_of

RAIL = re.compile(r"(?<=\s)([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/\d+(?:mW)?(?=\s|$)")


def _run() -> str:
    """Return one line: it prints the first after its interval, and runs until it is killed."""
    return output_of("tegrastats", "--interval", "500", seconds=1.5)


def parse_rails(line: str) -> dict[str, float]:
    """Present watts by the name of the rail."""
    return {name: int(milliwatts) * 1e-3 for name, milliwatts in RAIL.findall(line)}


class Tegrastats:
    """Watts of the module: the sum of the rails that ``jetson_rails`` chooses."""

    def __init__(self, run: Callable[[], str] = _run) -> None:
        """Run it once to find the rails.

        Raises:
            Unavailable: it is not installed, or shows no rail.
        """
        self._run = run
        self._rails = module_rails(self._read())
        if not self._rails:
            raise Unavailable("not installed, or without supply rails")
        self.name = f"tegrastats ({' + '.join(self._rails)})"

    def read(self) -> PowerReading:
        found = self._read()
        missing = [name for name in self._rails if name not in found]
        if missing:
            return PowerReading(problems=(f"tegrastats: it did not print {missing[0]}",))
        return metered("tegrastats", sum(found[name] for name in self._rails))

    def close(self) -> None:
        pass

    def _read(self) -> dict[str, float]:
        lines = self._run().splitlines()
        return parse_rails(lines[0]) if lines else {}


INFO = PowerSourceInfo(
    name="tegrastats",
    part=Part.MODULE,
    open=lambda root: Tegrastats(),
    reads="the same rails from NVIDIA's `tegrastats`",
    tool="tegrastats",
)
