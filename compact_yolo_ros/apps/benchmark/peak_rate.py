# SPDX-License-Identifier: Apache-2.0
"""The highest rate at which hardly an image is lost, by the method of ros2_benchmark.

The rate is found by bisection; a rate passes if at most 5 % of the images have no answer. Then five
runs are made at it, of which the best and the worst are dropped; then some at the fixed rates that
cameras have (github.com/NVIDIA-ISAAC-ROS/ros2_benchmark).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compact_yolo_ros.support.percentiles import Percentiles

LOSS = 0.05
"""Largest share of images without an answer at a rate that passes."""
RUNS = 5
FIXED = (10.0, 30.0, 60.0)
"""Images a second of common cameras."""
STEP = 0.02
"""The bisection ends when its bounds differ by this share."""
PUNCTUAL = 0.95
"""A run counts as one of its rate if it published at least this share of it."""


class NoRate(RuntimeError):
    """Even the lowest rate is too high."""


@dataclass(frozen=True)
class Run:
    """Images were published at a rate for some seconds.

    Attributes:
        asked: images a second that were to be published.
        rate: images a second that were published.
        sent: images published.
        seconds: from publishing an image to the arrival of its answer, of those answered.
        watts: power of the machine meanwhile; None if not known.
    """

    asked: float
    rate: float
    sent: int
    seconds: tuple[float, ...]
    watts: float | None = None

    @property
    def loss(self) -> float:
        """Share of the images without an answer."""
        return (self.sent - len(self.seconds)) / self.sent

    @property
    def answered(self) -> float:
        """Answers a second."""
        return self.rate * (1 - self.loss)

    @property
    def passed(self) -> bool:
        """Whether the rate was held and hardly an image lost."""
        return self.loss <= LOSS and self.rate >= PUNCTUAL * self.asked

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ages = Percentiles.of(1e3 * s for s in self.seconds)._asdict() if self.seconds else None
        return {
            "asked": self.asked,
            "rate": self.rate,
            "sent": self.sent,
            "answered": len(self.seconds),
            "loss": self.loss,
            "ms": ages,
            "watts": self.watts,
        }


@dataclass(frozen=True)
class Peak:
    """What a node can do.

    Attributes:
        name: what was measured.
        runs: the five at the peak rate.
        search: those before them.
        fixed: those at ``FIXED`` rates.
        facts: what the node said of its model and runtime.
    """

    name: str
    runs: tuple[Run, ...]
    search: tuple[Run, ...]
    fixed: tuple[Run, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> tuple[Run, ...]:
        """The runs without the best and the worst."""
        return _kept(self.runs)

    @property
    def rate(self) -> float:
        """Images published a second, mean of the runs that are kept."""
        return float(np.mean([run.rate for run in self.kept]))

    @property
    def answered(self) -> float:
        """Answers a second, likewise."""
        return float(np.mean([run.answered for run in self.kept]))

    @property
    def loss(self) -> float:
        """Share of the images without an answer, likewise."""
        return _loss(self.kept)

    @property
    def milliseconds(self) -> Percentiles:
        """From publishing an image to its answer, of all images of the runs that are kept."""
        return Percentiles.of(1e3 * s for run in self.kept for s in run.seconds)

    @property
    def watts(self) -> float | None:
        """Mean power of the runs that are kept; None if it is not known of all."""
        watts = [run.watts for run in self.kept if run.watts is not None]
        return float(np.mean(watts)) if len(watts) == len(self.kept) else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            **self.facts,
            "peak_rate": self.rate,
            "answered_rate": self.answered,
            "loss": self.loss,
            "ms": self.milliseconds._asdict(),
            "watts": self.watts,
            "images_per_s_per_w": self.answered / self.watts if self.watts else None,
            "runs": [run.to_dict() for run in self.runs],
            "search": [run.to_dict() for run in self.search],
            "fixed": [run.to_dict() for run in self.fixed],
        }


def find_peak(
    name: str,
    run: Callable[[float], Run],
    first: float = 10.0,
    lowest: float = 0.5,
    highest: float = 1000.0,
    fixed: Sequence[float] = FIXED,
) -> Peak:
    """Find the peak rate.

    Args:
        name: what is measured.
        run: publishes at a rate (images a second) and tells what came back.
        first: rate to begin with.
        lowest: rate to give up at.
        highest: rate to stop at.
        fixed: rates to run at in the end.

    Raises:
        NoRate: images are lost even at the lowest rate.
    """
    search: list[Run] = []

    def passes(rate: float) -> bool:
        # Once more if it fails: other programs may have taken the processor for a moment.
        for _ in range(2):
            search.append(run(rate))
            if search[-1].passed:
                return True
        return False

    good, bad = _bounds(passes, first, lowest, highest)
    if not good:
        raise NoRate(
            f"{name}: of {bad:g} images a second {search[-1].loss:.0%} are not answered: give a "
            "smaller input size or model"
        )
    while bad > good * (1 + STEP):
        rate = (good + bad) / 2
        good, bad = (rate, bad) if passes(rate) else (good, rate)
    # One good run may have been luck: the peak is what holds in the middle three of five.
    while True:
        runs = tuple(run(good) for _ in range(RUNS))
        if all(r.passed for r in _kept(runs)) or good <= lowest:
            break
        search += runs
        good = max(lowest, good * (1 - LOSS))
    return Peak(name, runs, tuple(search), tuple(run(rate) for rate in fixed))


def _bounds(
    passes: Callable[[float], bool], first: float, lowest: float, highest: float
) -> tuple[float, float]:
    """A rate that passes, 0 if none does, and twice that, which does not."""
    rate = first
    if passes(rate):
        while rate < highest:
            if not passes(min(2 * rate, highest)):
                return rate, min(2 * rate, highest)
            rate = min(2 * rate, highest)
        return rate, rate
    while rate > lowest:
        if passes(max(rate / 2, lowest)):
            return max(rate / 2, lowest), rate
        rate = max(rate / 2, lowest)
    return 0.0, rate


def _kept(runs: Sequence[Run]) -> tuple[Run, ...]:
    return tuple(sorted(runs, key=lambda run: run.answered)[1:-1])


def _loss(runs: Sequence[Run]) -> float:
    return float(np.mean([run.loss for run in runs]))
