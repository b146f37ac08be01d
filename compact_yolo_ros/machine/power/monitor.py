# SPDX-License-Identifier: Apache-2.0
"""Reads the power about once a second in its own thread, and summarises the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event, Lock, Thread
from time import monotonic

from compact_yolo_ros.machine.power.source import PowerReading, PowerSource, Unavailable

PERIOD = 1.0
"""Seconds between two readings."""
WINDOW = 5.0
"""Seconds over which power is averaged."""
NO_READING = "no reading yet"
"""The problem reported before the first reading."""


@dataclass(frozen=True)
class PowerSummary:
    """The readings of the last ``WINDOW`` seconds.

    Attributes:
        source: what the watts measure.
        mode: the newest power mode; None if it is unknown.
        watts: mean power in W; None if it could not be read.
        clocks: newest clock frequencies in MHz.
        temperatures: newest temperatures in degrees Celsius.
        throttling: what slowed the machine down, empty if nothing did; None if no source shows it.
        problem: what could not be read, and why; empty if everything could.
    """

    source: str
    mode: str | None
    watts: float | None
    clocks: Mapping[str, float]
    temperatures: Mapping[str, float]
    throttling: str | None
    problem: str

    def facts(self, images_per_second: float) -> dict[str, str]:
        """Key-value pairs for /diagnostics; what is unknown is left out.

        Images per second and watt is the figure of "YOLO Nano" (Wong et al. 2019,
        arXiv:1910.01271), which gives it for power budgets of 15 W and 30 W.
        """
        facts = {"power_source": self.source, "power_problem": self.problem or "none"}
        if self.mode is not None:
            facts["power_mode"] = self.mode
        if self.watts is not None:
            facts["power_w"] = f"{self.watts:.2f}"
            if images_per_second > 0 and self.watts > 0:
                facts["energy_per_image_j"] = f"{self.watts / images_per_second:.4f}"
                facts["images_per_s_per_w"] = f"{images_per_second / self.watts:.3f}"
        if self.throttling is not None:
            facts["throttling"] = self.throttling or "none"
        facts |= {f"clock_mhz {unit}": f"{mhz:.0f}" for unit, mhz in self.clocks.items()}
        facts |= {f"temperature_c {name}": f"{t:.1f}" for name, t in self.temperatures.items()}
        return facts


class PowerMonitor:
    """Opens a source and reads it until closed; it can neither delay nor break the node.

    Where nothing can be read, its thread ends.
    """

    def __init__(self, find: Callable[[], PowerSource], period: float = PERIOD) -> None:
        """Start the thread, which first calls ``find``: that may take seconds."""
        self._find = find
        self._period = period
        self._lock = Lock()
        self._begin()

    def find_again(self) -> None:
        """Call ``find`` again, because something else is to be measured, and forget all readings.

        For the thread that closes it.
        """
        self.close()
        self._begin()

    def _begin(self) -> None:
        with self._lock:
            self._readings: deque[tuple[float, PowerReading]] = deque()
            self._source, self._problem = "none", NO_READING
            self._ended = Event()
        self._thread = Thread(target=self._run, args=(self._ended,), name="power", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading; a reading that hangs is abandoned."""
        self._ended.set()
        self._thread.join(timeout=0.5)

    def summary(self) -> PowerSummary:
        """Summarise the readings of the last ``WINDOW`` seconds."""
        start = monotonic() - WINDOW
        with self._lock:
            readings = [reading for at, reading in self._readings if at >= start]
            source, problem = self._source, self._problem
        if not readings:
            return PowerSummary(source, None, None, {}, {}, None, problem)
        watts = [reading.watts for reading in readings if reading.watts is not None]
        newest = readings[-1]
        return PowerSummary(
            source,
            newest.mode,
            sum(watts) / len(watts) if watts else None,
            newest.clocks,
            newest.temperatures,
            _throttling(readings),
            _shortened(newest.problems),
        )

    def _run(self, ended: Event) -> None:
        try:
            source = self._find()
        except Unavailable as why:  # and never will be
            self._note(ended, "none", _shortened(why.args))
            return
        except Exception as error:  # whatever a driver or a library raises, the node keeps running
            self._note(ended, "none", f"{type(error).__name__}: {error}")
            return
        self._note(ended, source.name, f"no reading in the last {WINDOW:.0f} s")
        while not ended.is_set():
            self._keep(ended, _read(source))
            ended.wait(self._period)
        source.close()

    def _note(self, ended: Event, source: str, problem: str) -> None:
        with self._lock:
            if ended is self._ended:  # else it hung, and another thread has begun
                self._source, self._problem = source, problem

    def _keep(self, ended: Event, reading: PowerReading) -> None:
        now = monotonic()
        with self._lock:
            if ended is not self._ended:  # as in _note
                return
            self._readings.append((now, reading))
            while self._readings[0][0] < now - WINDOW:
                self._readings.popleft()


def _read(source: PowerSource) -> PowerReading:
    try:
        return source.read()
    except Exception as error:  # as in _run
        return PowerReading(problems=(f"{type(error).__name__}: {error}",))


def _throttling(readings: list[PowerReading]) -> str | None:
    """Events counted between the first and the last reading, and what throttled in between."""
    states = [reading.throttled for reading in readings if reading.throttled is not None]
    first, last = readings[0].events, readings[-1].events
    if not states and not last:
        return None
    more = {kind: count - first.get(kind, count) for kind, count in last.items()}
    events = [f"{kind} ({count} times)" for kind, count in more.items() if count > 0]
    return ", ".join([*events, *dict.fromkeys(name for state in states for name in state)])


def _shortened(problems: Sequence[str]) -> str:
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    return "; ".join(problems[:3]) + more
