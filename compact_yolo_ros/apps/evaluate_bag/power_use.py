# SPDX-License-Identifier: Apache-2.0
"""What the machine draws while it works."""

from __future__ import annotations

import time
from statistics import fmean
from typing import Any

from compact_yolo_ros.machine.power import PowerMonitor, PowerSummary, find_power_source
from compact_yolo_ros.machine.power.monitor import WINDOW


class PowerLog:
    """Looks at the power every few seconds, where it can be read.

    Attributes:
        summary: of the last seconds before the end.
    """

    summary: PowerSummary

    def __init__(self, *, on_gpu: bool = False) -> None:
        """Start reading; ``on_gpu``: see ``find_power_source``."""
        self._monitor = PowerMonitor(lambda: find_power_source(on_gpu=on_gpu))
        self._next = time.monotonic() + WINDOW
        self._watts: list[float] = []
        self._throttling: dict[str, None] = {}

    def look(self) -> None:
        """Note the last seconds, when it is time to; call it often."""
        if time.monotonic() >= self._next:
            self._next += WINDOW
            self._note()

    def close(self) -> dict[str, Any]:
        """Stop reading, and return plain values; ``watts`` is None where they are not known."""
        self._note()
        self.summary = summary = self._monitor.summary()
        self._monitor.close()
        return {
            "source": summary.source,
            "mode": summary.mode,
            "watts": fmean(self._watts) if self._watts else None,
            "throttling": ", ".join(self._throttling),
            "problem": summary.problem,
        }

    def _note(self) -> None:
        summary = self._monitor.summary()
        if summary.watts is not None:
            self._watts.append(summary.watts)
        if summary.throttling:
            self._throttling[summary.throttling] = None
