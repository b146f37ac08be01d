# SPDX-License-Identifier: Apache-2.0
"""jetson-stats (module jtop), used only where the user has installed it and its service runs.

It is licensed under the AGPL, and this package neither contains nor needs it: without it the same
meters are read directly. Tested against a double of the documented interface of version 4, not run
on a Jetson yet.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from compact_yolo_ros.machine.power.source import (
    Part,
    PowerReading,
    PowerSourceInfo,
    Unavailable,
    metered,
)

SOCKET = "run/jtop.sock"


class Jtop:
    """Watts of the module, as jetson-stats adds its rails, and the power mode."""

    name = "jetson-stats (module)"

    def __init__(self, root: Path) -> None:
        """Connect to the service.

        Raises:
            Unavailable: the service does not run, the module is missing, or the versions differ.
        """
        if not (root / SOCKET).exists():
            raise Unavailable("its service does not run")
        try:
            from jtop import jtop

            self._jtop: Any = jtop(interval=1.0)
            self._jtop.start()
        except Exception as error:  # it raises what its connection raises
            raise Unavailable(str(error)) from None

    def read(self) -> PowerReading:
        try:
            if not self._jtop.ok(spin=True):
                return PowerReading(problems=("jetson-stats: its service has stopped",))
            watts = float(self._jtop.power["tot"]["power"]) * 1e-3
            mode = self._jtop.nvpmodel
        except Exception as error:
            return PowerReading(problems=(f"jetson-stats: {error!r}",))
        power = metered("jetson-stats", watts)
        return power if mode is None else replace(power, mode=str(mode.name))

    def close(self) -> None:
        self._jtop.close()


INFO = PowerSourceInfo(
    name="jetson-stats",
    part=Part.MODULE,
    open=Jtop,
    reads="jetson-stats, if its service runs and Python finds `jtop`",
    files=(SOCKET,),
    permission="sudo usermod -aG jtop $USER, then log in again",
)
