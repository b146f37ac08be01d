# SPDX-License-Identifier: Apache-2.0
"""The choice of the power sources to read on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from compact_yolo_ros.machine.power.jetson import is_jetson
from compact_yolo_ros.machine.power.source import (
    Part,
    PowerReading,
    PowerSource,
    PowerSourceInfo,
    Unavailable,
)
from compact_yolo_ros.machine.power.table import POWER_SOURCES


class CombinedSource:
    """Several power sources as one.

    The watts are the sum over the meters, each of which measures another part of the machine, and
    unknown if one of them fails. Everything else is merged.
    """

    def __init__(
        self, meters: Sequence[PowerSource], states: Sequence[PowerSource], reasons: Sequence[str]
    ) -> None:
        """Combine the sources.

        Args:
            meters: those that measure watts.
            states: those that show modes, clocks, temperatures and throttling.
            reasons: why better meters could not be used; part of the problems of each reading.
        """
        self.name = " + ".join(meter.name for meter in meters) or "none"
        self._meters = meters
        self._states = states
        self._reasons = tuple(reasons)

    def read(self) -> PowerReading:
        metered = [meter.read() for meter in self._meters]
        readings = [*(state.read() for state in self._states), *metered]
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
        for source in (*self._meters, *self._states):
            with suppress(Exception):  # a driver that has lost its device raises anything
                source.close()


def find_power_source(root: Path = Path("/"), *, on_gpu: bool = False) -> PowerSource:
    """Open the sources that measure most of what runs the network. It can take some seconds.

    On a Jetson that is a meter of the module; elsewhere the graphics card together with the
    processor, or the processor alone if the network runs there; else the battery, which powers the
    whole machine. Modes, clocks, temperatures and throttling are read in every case.

    Args:
        root: folder that holds /sys, /run and the like.
        on_gpu: whether the network runs on a graphics card, which the processor's watts miss.

    Raises:
        Unavailable: nothing at all can be read here.
    """
    reasons: list[str] = []

    def first(*parts: Part) -> list[PowerSource]:
        for info in _rows(*parts):
            try:
                return [info.open(root)]
            except Unavailable as why:
                reasons.append(f"{info.name}: {why}")
        return []

    states = list(_opened(_rows(Part.NONE), root))
    if is_jetson(root):
        meters = first(Part.MODULE)
        if meters:
            reasons.clear()
    elif on_gpu:
        card = first(Part.GRAPHICS_CARD)
        meters = [*card, *first(Part.PROCESSOR)] if card else first(Part.MACHINE)
    else:
        meters = first(Part.PROCESSOR, Part.MACHINE)
    if not meters and not states:
        raise Unavailable(*reasons)
    return CombinedSource(meters, states, reasons)


def _rows(*parts: Part) -> list[PowerSourceInfo]:
    """The rows of these parts, in the order of the parts, then of the table."""
    return [info for part in parts for info in POWER_SOURCES if info.part is part]


def _opened(rows: Iterable[PowerSourceInfo], root: Path) -> Iterator[PowerSource]:
    """The sources that can be used here."""
    for info in rows:
        with suppress(Unavailable):
            yield info.open(root)
