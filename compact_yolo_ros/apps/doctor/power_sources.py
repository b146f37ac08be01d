# SPDX-License-Identifier: Apache-2.0
"""Power: every source, what it can read here, and what the node takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from time import sleep

from compact_yolo_ros.apps.doctor.finding import Finding, Surroundings, note, ok, problem
from compact_yolo_ros.machine.power import PowerReading, PowerSource, find_power_source
from compact_yolo_ros.machine.power.battery import Battery
from compact_yolo_ros.machine.power.cpu import Cpu
from compact_yolo_ros.machine.power.ina3221 import Ina3221
from compact_yolo_ros.machine.power.jetson import Jetson
from compact_yolo_ros.machine.power.jtop import Jtop
from compact_yolo_ros.machine.power.nvml import Nvml
from compact_yolo_ros.machine.power.rapl import Rapl
from compact_yolo_ros.machine.power.source import Unavailable
from compact_yolo_ros.machine.power.tegrastats import Tegrastats

SETTLE = 0.3
"""Seconds between opening and reading: a counter gives watts only as a mean over time."""


def sources(around: Surroundings) -> Iterator[Finding]:
    """Open each source alone, and tell what it reads."""
    root = around.root
    candidates: dict[str, Callable[[], PowerSource]] = {
        "Jetson": partial(Jetson, root),
        "jetson-stats": partial(Jtop, root),
        "INA3221": partial(Ina3221, root),
        "tegrastats": Tegrastats,
        "NVML": Nvml,
        "RAPL": partial(Rapl, root),
        "battery": partial(Battery, root),
        "kernel": partial(Cpu, root),
    }
    for name, opener in candidates.items():
        try:
            source = opener()
        except Unavailable as why:
            yield ok(name, f"not used: {str(why).removeprefix(f'{name}: ')}")
            continue
        sleep(SETTLE)
        seen = source.read()
        source.close()
        found = described(seen)
        if seen.problems:
            yield note(name, f"{found}; {seen.problems[0]}", "docs/power.md tells what it needs")
        else:
            yield ok(name, found)


def choice(around: Surroundings, on_gpu: bool) -> Iterator[Finding]:
    """What the node would read on this machine."""
    source = find_power_source(around.root, on_gpu=on_gpu)
    sleep(SETTLE)
    seen = source.read()
    source.close()
    if seen.throttled:
        yield problem(
            "throttling",
            f"the machine is slowed down now: {', '.join(seen.throttled)}",
            "check its power supply and cooling, or take a lower power mode",
        )
    if seen.watts is None:
        yield note(
            "watts",
            f"unknown: {'; '.join(seen.problems[:3])}",
            "the node works without; docs/power.md tells what each source needs",
        )
    else:
        yield ok("watts", f"{seen.watts:.2f} W by {source.name}", watts=seen.watts)


def described(seen: PowerReading) -> str:
    """What a reading holds, in one line."""
    parts = [f"mode {seen.mode}"] if seen.mode else []
    parts += [f"{seen.watts:.2f} W"] if seen.watts is not None else []
    parts += [f"{unit} {mhz:.0f} MHz" for unit, mhz in seen.clocks.items()]
    if seen.temperatures:
        hottest = max(seen.temperatures, key=lambda name: seen.temperatures[name])
        parts.append(f"{hottest} {seen.temperatures[hottest]:.0f} degrees")
    if seen.events or seen.throttled is not None:
        parts.append("tells throttling")
    return ", ".join(parts) or "nothing at this moment"
