# SPDX-License-Identifier: Apache-2.0
"""Power: every source in the table and what it reads here, and which ones the node would use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import sleep

from compact_yolo_ros.apps.doctor.probe import Finding, Surroundings, note, ok, problem
from compact_yolo_ros.machine.power import PowerReading, find_power_source
from compact_yolo_ros.machine.power.source import PowerSource, PowerSourceInfo, Unavailable
from compact_yolo_ros.machine.power.table import POWER_SOURCES

SETTLE = 0.3
"""Seconds between opening and reading: a counter gives watts only as a mean over time."""


def sources(around: Surroundings) -> Iterator[Finding]:
    """Open each source of the table alone, and report what it reads."""
    for info in POWER_SOURCES:
        yield _source(info, around)


def _source(info: PowerSourceInfo, around: Surroundings) -> Finding:
    try:
        source = info.open(around.root)
    except Unavailable as why:
        return ok(info.name, f"not used: {why}")
    reading = _read_once(source)
    found = described(reading)
    if reading.problems:
        remedy = info.permission or "docs/power.md says what it needs"
        return note(info.name, f"{found}; {reading.problems[0]}", remedy)
    return ok(info.name, found)


def choice(around: Surroundings, on_gpu: bool) -> Iterator[Finding]:
    """Report what the node would read on this machine."""
    try:
        source = find_power_source(around.root, on_gpu=on_gpu)
    except Unavailable as why:
        yield _without_watts(why.args)
        return
    reading = _read_once(source)
    if reading.throttled:
        yield problem(
            "throttling",
            f"the machine is slowed down now: {', '.join(reading.throttled)}",
            "check its power supply and cooling, or choose a lower power mode",
        )
    if reading.watts is None:
        yield _without_watts(reading.problems)
    else:
        yield ok("watts", f"{reading.watts:.2f} W by {source.name}", watts=reading.watts)


def _without_watts(reasons: Sequence[str]) -> Finding:
    return note(
        "watts",
        f"unknown: {'; '.join(reasons[:3])}",
        "the node works without; docs/power.md says what each source needs",
    )


def _read_once(source: PowerSource) -> PowerReading:
    """Read a source that has just been opened, and close it."""
    sleep(SETTLE)
    reading = source.read()
    source.close()
    return reading


def described(reading: PowerReading) -> str:
    """What a reading holds, in one line."""
    parts = [f"mode {reading.mode}"] if reading.mode else []
    parts += [f"{reading.watts:.2f} W"] if reading.watts is not None else []
    parts += [f"{unit} {mhz:.0f} MHz" for unit, mhz in reading.clocks.items()]
    if reading.temperatures:
        hottest = max(reading.temperatures, key=lambda name: reading.temperatures[name])
        parts.append(f"{hottest} {reading.temperatures[hottest]:.0f} degrees")
    if reading.events or reading.throttled is not None:
        parts.append("shows throttling")
    return ", ".join(parts) or "nothing at this moment"
