# SPDX-License-Identifier: Apache-2.0
"""What a power source is: its readings, its interface and its row in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from compact_yolo_ros.backends.libraries import Library

MAX_WATTS = 5000.0
"""More than any computer with a camera takes; a higher value is a fault."""
MAX_MHZ = 20_000.0
"""Higher clock frequencies are faults."""
DEGREES = (-40.0, 150.0)
"""Temperatures in degrees Celsius outside this range are faults."""


class Unavailable(Exception):
    """A source cannot be used on this machine; the text says why, without the source's name.

    Of several sources, an argument each, with the names.
    """


class Part(Enum):
    """The part of a machine whose watts a source measures; the value is its name for people."""

    MODULE = "Jetson module"
    GRAPHICS_CARD = "graphics card"
    PROCESSOR = "processor package"
    MACHINE = "whole machine"
    NONE = "no watts"


@dataclass(frozen=True)
class PowerReading:
    """The state of the machine at one moment; what could not be read is None or absent.

    Attributes:
        mode: name of the power mode, for example ``MAXN``.
        watts: power in W.
        clocks: clock frequencies in MHz by unit.
        temperatures: temperatures in degrees Celsius by sensor.
        events: throttle and over-current events since boot by kind; only differences matter.
        throttled: what holds the clocks down at this moment; None if no source shows it.
        problems: why something that should be readable was not, one sentence each.
    """

    mode: str | None = None
    watts: float | None = None
    clocks: Mapping[str, float] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    throttled: tuple[str, ...] | None = None
    problems: tuple[str, ...] = ()


def metered(name: str, watts: float) -> PowerReading:
    """A reading that holds only watts, or a problem if no running computer takes so many.

    Args:
        name: of the source, for the problem.
        watts: what it measured.
    """
    if 0 < watts <= MAX_WATTS:
        return PowerReading(watts=watts)
    return PowerReading(problems=(f"{name}: {watts:g} W makes no sense",))


class PowerSource(Protocol):
    """Something that can be read about once a second.

    Attributes:
        name: what is read, and from which part of the machine.
    """

    name: str

    def read(self) -> PowerReading:
        """Read once. A file that is missing or holds nonsense is a problem listed, not raised."""

    def close(self) -> None:
        """Release what opening acquired."""


@dataclass(frozen=True)
class PowerSourceInfo:
    """The row of a power source: all that the discovery, doctor and the docs need to know.

    Attributes:
        name: what people call it.
        part: what its watts measure.
        open: opens it on the files below a root, which is ``/`` or a recorded tree. Raises
            ``Unavailable`` where it cannot be used.
        reads: what it reads, in Markdown for docs/power.md.
        files: patterns, relative to the root, of the files that need a permission.
        tool: command-line tool that it calls, found through PATH; empty if it calls none.
        library: Python library that it imports; None if it imports none, or one that a user of
            this package need not install.
        permission: what a user does who may not open the files.
    """

    name: str
    part: Part
    open: Callable[[Path], PowerSource]
    reads: str
    files: tuple[str, ...] = ()
    tool: str = ""
    library: Library | None = None
    permission: str = ""
