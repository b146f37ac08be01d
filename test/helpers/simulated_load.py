# SPDX-License-Identifier: Apache-2.0
"""A camera and a network in made-up time, for the governor; the newest image is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compact_yolo_ros.detection.governor import Cost, Governor, Rung


@dataclass(frozen=True)
class Answer:
    """One answered image: what it took, at which rung, and the power then."""

    rung: Rung
    cost: Cost
    ended: float
    watts: float | None


def simulate(
    governor: Governor,
    inference: Mapping[int, float],
    load: Callable[[int], float],
    *,
    answers: int,
    period: float = 0.0,
    rest: float = 0.0,
    watts: Callable[[Rung], float | None] | None = None,
) -> list[Answer]:
    """Answer images one after the other, each the newest when the worker is free.

    Args:
        governor: is told of every answer, and decides for the next.
        inference: seconds of the network by size, unloaded.
        load: factor on it for the answer of a number.
        answers: how many.
        period: seconds between two images; 0 is a new one whenever the worker is free.
        rest: seconds of everything but the network.
        watts: power at a rung; None if it cannot be read.
    """
    done: list[Answer] = []
    now, taken = 0.0, -1
    for number in range(answers):
        rung = governor.rung
        arrived = now
        if period > 0:
            # The newest that has arrived and was not taken yet, else the next; then leave some out.
            taken = max(taken + 1, int(now / period)) + rung.skip
            arrived = taken * period
        started = max(now, arrived)
        network = inference[rung.size] * load(number)
        now = started + rest + network
        cost = Cost(now - arrived, now - started, network)
        power = watts(rung) if watts else None
        done.append(Answer(rung, cost, now, power))
        governor.observe(cost, now, power)
    return done
