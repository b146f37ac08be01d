# SPDX-License-Identifier: Apache-2.0
"""How fast an engine answers, and the energy that the card takes meanwhile, by NVML."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from compact_yolo_ros.backends import Backend
from compact_yolo_ros.machine.power.nvml_card import card_of_cuda

SM, MEMORY = 1, 2
"""NVML's numbers of two clocks."""
SLACK = 30e-6
"""Seconds that a call may take besides its copies and 1.15 times the network."""


class Meter:
    """The card in use; a value that it does not tell is None (NVML of a Jetson tells little)."""

    def __init__(self) -> None:
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml: Any = pynvml
            self._card = card_of_cuda(pynvml)
        except Exception:  # the package, the library or the card is missing: all the same here
            self._nvml = None

    def joules(self) -> float | None:
        """Energy since the driver was loaded."""
        return self._ask("nvmlDeviceGetTotalEnergyConsumption", 1e-3)

    def megahertz(self, clock: int = SM) -> float | None:
        return self._ask("nvmlDeviceGetClockInfo", 1, clock)

    def facts(self) -> dict[str, str]:
        """Power limit and clocks at this moment, and the highest clocks."""
        watts = self._ask("nvmlDeviceGetEnforcedPowerLimit", 1e-3)
        clocks = [
            f"{name} {_number(self.megahertz(clock))} of "
            f"{_number(self._ask('nvmlDeviceGetMaxClockInfo', 1, clock))} MHz"
            for name, clock in (("SM", SM), ("memory", MEMORY))
        ]
        facts = {"GPU power limit": f"{_number(watts)} W", "GPU clocks": ", ".join(clocks)}
        try:
            return {**facts, "driver": str(self._nvml.nvmlSystemGetDriverVersion())}
        except Exception:  # as in ``_ask``
            return facts

    def _ask(self, function: str, unit: float, *arguments: int) -> float | None:
        try:
            return float(getattr(self._nvml, function)(self._card, *arguments)) * unit
        except Exception:  # as above; also a function that this card does not support
            return None


def measure(backend: Backend, images: int, meter: Meter, seconds: float) -> dict[str, float | None]:
    """Run so many images at once, again and again.

    Returns:
        Medians: the call by the host's clock and its parts by the GPU's events, in microseconds;
        images a second, watts and images a second and watt over all runs; the clock at the end.
    """
    _repeat(backend, images, seconds / 4)
    before = meter.joules()
    began = perf_counter()
    calls, parts = _repeat(backend, images, seconds)
    took = perf_counter() - began
    after = meter.joules()
    rate = images * len(calls) / took
    watts = None if before is None or after is None or after <= before else (after - before) / took
    device = {f"{name} us": 1e6 * float(np.median(of)) for name, of in parts.items()}
    return {
        "images/s": images / float(np.median(calls)),
        "call us": 1e6 * float(np.median(calls)),
        **device,
        "W": watts,
        "images/s/W": None if watts is None else rate / watts,
        "SM MHz": meter.megahertz(),
    }


def _repeat(
    backend: Backend, images: int, seconds: float
) -> tuple[list[float], dict[str, list[float]]]:
    """Seconds of each call and of its parts; at least two calls."""
    calls: list[float] = []
    parts: dict[str, list[float]] = {name: [] for name in backend.device_times}
    ends = perf_counter() + seconds
    while len(calls) < 2 or perf_counter() < ends:
        began = perf_counter()
        backend.run(images)
        calls.append(perf_counter() - began)
        for name, value in backend.device_times.items():
            parts[name].append(value)
    return calls, parts


Row = dict[str, Any]


def targets(rows: list[Row]) -> list[Row]:
    """What the rows of the speed table say about the targets of this package."""
    by = {(row["model"], row["precision"], row["batch"]): row for row in rows}
    found = [_overhead(row) for row in rows if row["batch"] == 1]
    for (model, precision, batch), row in by.items():
        full = by.get((model, "fp32", batch))
        if precision == "fp16" and batch == 8 and full and (row["GMAC"] or 0) > 1:
            gain = row["images/s"] / full["images/s"]
            found.append(_target(f"{model}: FP16 by FP32 at 8 images", gain, 1.5, gain >= 1.5))
    tiny = by.get(("yolov4_tiny", "fp16", 4))
    if tiny:
        rate = tiny["images/s"]
        name = "yolov4_tiny in FP16, 4 images: images/s"
        found.append(_target(name, rate, 1774.0, rate > 1774))
    return found


def _overhead(row: Row) -> Row:
    """The call by what it may take: 1.15 times the network, the copies, and ``SLACK``."""
    copies = row.get("copy_in us", 0.0) + row.get("copy_out us", 0.0)
    allowed = 1.15 * row.get("compute us", 0.0) + copies + 1e6 * SLACK
    name = f"{row['model']} in {row['precision']}: us of a call"
    return _target(name, row["call us"], allowed, row["call us"] <= allowed)


def _target(what: str, found: float, target: float, met: bool) -> Row:
    return {"target": what, "found": found, "wanted": target, "met": "yes" if met else "no"}


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f}"
