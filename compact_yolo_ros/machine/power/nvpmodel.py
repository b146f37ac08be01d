# SPDX-License-Identifier: Apache-2.0
"""The name of a Jetson's power mode, as nvpmodel calls it, without root.

nvpmodel keeps the number in a status file (``pmode:0002``) and the names in its configuration
(``< POWER_MODEL ID=2 NAME=MODE_15W_6CORE >``); where these are missing, ``nvpmodel -q`` is called.
NVIDIA Jetson Linux Developer Guide, Power Mode Controls. Not run on a Jetson yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from compact_yolo_ros.machine.power.sysfs import Tree
from compact_yolo_ros.machine.power.tool_output import output_of

QUERY_PERIOD = 10.0
"""Seconds between two calls of the command."""
NUMBER = re.compile(r"pmode:(\d+)")
ANSWER = re.compile(r"NV Power Mode:\s*(\S+)")


def _run() -> str:
    return output_of("nvpmodel", "-q", seconds=2.0)


class PowerMode:
    """Returns the mode's name at each call; None if it is unknown."""

    def __init__(self, root: Path, run: Callable[[], str] = _run) -> None:
        self._status = root / "var/lib/nvpmodel/status"
        self._configuration = root / "etc/nvpmodel.conf"
        self._run = run
        self._answer: str | None = None
        self._queried = -QUERY_PERIOD

    def __call__(self, tree: Tree) -> str | None:
        number = NUMBER.search(tree.text(self._status, optional=True) or "")
        if number:
            names = tree.text(self._configuration, optional=True) or ""
            name = re.search(rf"POWER_MODEL\s+ID={int(number[1])}\s+NAME=(\S+)", names)
            return name[1] if name else f"mode {int(number[1])}"
        if monotonic() - self._queried >= QUERY_PERIOD:
            answer = ANSWER.search(self._run())
            self._answer = answer[1] if answer else None
            self._queried = monotonic()
        return self._answer
