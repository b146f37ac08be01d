# SPDX-License-Identifier: Apache-2.0
"""What every power source gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

MAX_WATTS = 5000.0
"""More than any computer takes that a camera is connected to; a higher value is a fault."""
MAX_MHZ = 20_000.0
DEGREES = (-40.0, 150.0)
"""Clocks above and temperatures outside are faults, too."""


class Unavailable(Exception):
    """A source cannot be used here; the text says why."""


@dataclass(frozen=True)
class PowerReading:
    """One look at the machine; what could not be read is None or not in the mapping.

    Attributes:
        mode: name of the power mode, for example ``MAXN``.
        watts: power in W.
        clocks: clock frequencies in MHz by unit.
        temperatures: temperatures in degrees Celsius by sensor.
        events: throttle and over-current events since boot, by kind; only differences count.
        throttled: what holds the clocks down at this moment; None if nothing tells that.
        problems: why something that should be there could not be read, one sentence each.
    """

    mode: str | None = None
    watts: float | None = None
    clocks: Mapping[str, float] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    throttled: tuple[str, ...] | None = None
    problems: tuple[str, ...] = ()


def metered(who: str, watts: float) -> PowerReading:
    """A reading of watts alone, or of the problem with them if no running computer takes that."""
    if 0 < watts <= MAX_WATTS:
        return PowerReading(watts=watts)
    return PowerReading(problems=(f"{who}: {watts:g} W makes no sense",))


class PowerSource(Protocol):
    """Something that can be read about once a second.

    Attributes:
        name: what is read, and of which part of the machine.
    """

    name: str

    def read(self) -> PowerReading:
        """Look once. It never raises for a file that is gone or odd: that is a problem listed."""

    def close(self) -> None:
        """Give back what opening took."""
