# SPDX-License-Identifier: Apache-2.0
"""A camera and a network in simulated time, for the governor; the newest image is processed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compact_yolo_ros.detection.governor import Cost, Governor, Rung


@dataclass(frozen=True)
class Frame:
    """One processed image: what it took, at which rung, and the power then."""

    rung: Rung
    cost: Cost
    ended: float
    watts: float | None


def simulate(
    governor: Governor,
    inference: Mapping[int, float],
    load: Callable[[int], float],
    *,
    frames: int,
    period: float = 0.0,
    rest: float = 0.0,
    watts: Callable[[Rung], float | None] | None = None,
) -> list[Frame]:
    """Process images one after the other, each the newest when the worker is free.

    Args:
        governor: observes each frame, and decides for the next.
        inference: seconds of the network by size, unloaded.
        load: factor on it, by the number of the frame.
        frames: how many.
        period: seconds between two images; 0 is a new one whenever the worker is free.
        rest: seconds of everything but the network.
        watts: power at a rung; None if it cannot be read.
    """
    done: list[Frame] = []
    now, taken = 0.0, -1
    for number in range(frames):
        rung = governor.rung
        arrived = now
        if period > 0:
            # The newest that has arrived and was not taken yet, else the next; then skip some.
            taken = max(taken + 1, int(now / period)) + rung.skip
            arrived = taken * period
        started = max(now, arrived)
        network = inference[rung.size] * load(number)
        now = started + rest + network
        cost = Cost(now - arrived, now - started, network)
        power = watts(rung) if watts else None
        done.append(Frame(rung, cost, now, power))
        governor.observe(cost, now, power)
    return done
