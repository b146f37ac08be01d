# SPDX-License-Identifier: Apache-2.0
"""The power mode of a Jetson: its name by nvpmodel, without root.

nvpmodel keeps the number in a status file (``pmode:0002``) and the names in its configuration
(``< POWER_MODEL ID=2 NAME=MODE_15W_6CORE >``); where these are missing, ``nvpmodel -q`` is asked.
NVIDIA Jetson Linux Developer Guide, Power Mode Controls. Not run on a Jetson yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from compact_yolo_ros.machine.power.command import output_of
from compact_yolo_ros.machine.power.sysfs import Tree

ASK_PERIOD = 10.0
"""Seconds between two questions to the command."""
NUMBER = re.compile(r"pmode:(\d+)")
ANSWER = re.compile(r"NV Power Mode:\s*(\S+)")


def _run() -> str:
    return output_of("nvpmodel", "-q", seconds=2.0)


class PowerMode:
    """Gives the mode's name each time it is called; None if it is not known."""

    def __init__(self, root: Path, run: Callable[[], str] = _run) -> None:
        self._status = root / "var/lib/nvpmodel/status"
        self._configuration = root / "etc/nvpmodel.conf"
        self._run = run
        self._answer: str | None = None
        self._asked = -ASK_PERIOD

    def __call__(self, tree: Tree) -> str | None:
        number = NUMBER.search(tree.text(self._status, optional=True) or "")
        if number:
            names = tree.text(self._configuration, optional=True) or ""
            name = re.search(rf"POWER_MODEL\s+ID={int(number[1])}\s+NAME=(\S+)", names)
            return name[1] if name else f"mode {int(number[1])}"
        if monotonic() - self._asked >= ASK_PERIOD:
            answer = ANSWER.search(self._run())
            self._answer = answer[1] if answer else None
            self._asked = monotonic()
        return self._answer
