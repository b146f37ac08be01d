# SPDX-License-Identifier: Apache-2.0
"""Choosing what to read on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from compact_yolo_ros.machine.power.battery import Battery
from compact_yolo_ros.machine.power.cpu import Cpu
from compact_yolo_ros.machine.power.ina3221 import Ina3221
from compact_yolo_ros.machine.power.jetson import Jetson
from compact_yolo_ros.machine.power.jtop import Jtop
from compact_yolo_ros.machine.power.nvml import Nvml
from compact_yolo_ros.machine.power.rapl import Rapl
from compact_yolo_ros.machine.power.source import PowerReading, PowerSource, Unavailable
from compact_yolo_ros.machine.power.tegrastats import Tegrastats


class Machine:
    """Several sources as one.

    Watts are the sum over the meters, and unknown if one of them fails: they measure different
    parts of the machine. Everything else is put together.
    """

    def __init__(
        self, meters: Sequence[PowerSource], others: Sequence[PowerSource], reasons: Sequence[str]
    ) -> None:
        """Take sources that measure watts, others, and why a better choice was not to be had."""
        self.name = " + ".join(meter.name for meter in meters) or "none"
        self._meters = meters
        self._others = others
        self._reasons = tuple(reasons)

    def read(self) -> PowerReading:
        metered = [meter.read() for meter in self._meters]
        readings = [*(other.read() for other in self._others), *metered]
        watts = [reading.watts for reading in metered if reading.watts is not None]
        modes = dict.fromkeys(reading.mode for reading in readings if reading.mode)
        throttled = [reading.throttled for reading in readings if reading.throttled is not None]
        return PowerReading(
            mode=", ".join(modes) or None,
            watts=sum(watts) if watts and len(watts) == len(metered) else None,
            clocks={name: mhz for reading in readings for name, mhz in reading.clocks.items()},
            temperatures={n: value for r in readings for n, value in r.temperatures.items()},
            events={kind: count for reading in readings for kind, count in reading.events.items()},
            throttled=tuple(chain(*throttled)) if throttled else None,
            problems=(*chain(*(reading.problems for reading in readings)), *self._reasons),
        )

    def close(self) -> None:
        for source in (*self._meters, *self._others):
            source.close()


def find_power_source(root: Path = Path("/"), *, on_gpu: bool = False) -> PowerSource:
    """Open what measures most of this machine.

    A Jetson's own meters; else a graphics card together with the processor, or the processor alone
    if the network runs there; else the battery, which feeds the whole machine. Mode, clocks,
    temperatures and throttling are read whatever measures the watts. It can take some seconds.

    Args:
        root: where sysfs and the like are found.
        on_gpu: the network runs on a graphics card, so the processor's watts alone would mislead.
    """
    reasons: list[str] = []

    def first(*candidates: Callable[[], PowerSource]) -> list[PowerSource]:
        for candidate in candidates:
            try:
                return [candidate()]
            except Unavailable as why:
                reasons.append(str(why))
        return []

    cpu = Cpu(root)
    battery, rapl = partial(Battery, root), partial(Rapl, root)
    if jetson := first(partial(Jetson, root)):
        meters = first(partial(Jtop, root), partial(Ina3221, root), Tegrastats)
        return Machine(meters, [*jetson, cpu], () if meters else reasons)
    reasons.clear()
    if not on_gpu:
        return Machine(first(rapl, battery), [cpu], reasons)
    if card := first(Nvml):
        return Machine([*card, *first(rapl)], [cpu], reasons)
    return Machine(first(battery), [cpu], reasons)
