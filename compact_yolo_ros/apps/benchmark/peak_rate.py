# SPDX-License-Identifier: Apache-2.0
"""The highest rate at which hardly any image is lost, by the method of ros2_benchmark.

The rate is found by bisection; a rate passes if at most 5 % of the images have no answer. Then five
runs are made at it, and the best and the worst are dropped; then some runs at the fixed rates of
cameras (github.com/NVIDIA-ISAAC-ROS/ros2_benchmark).
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
"""Runs at the peak rate."""
FIXED = (10.0, 30.0, 60.0)
"""Images per second of common cameras."""
STEP = 0.02
"""The bisection ends when its bounds differ by this share."""
PUNCTUAL = 0.95
"""A run counts only if it published at least this share of its rate."""


class NoRate(RuntimeError):
    """Images are lost even at the lowest rate."""


@dataclass(frozen=True)
class LoadRun:
    """Images were published at one rate for some seconds.

    Attributes:
        target_rate: images per second that were planned.
        rate: images per second that were published.
        sent: images published.
        seconds: for each image with an answer, from its publication to the arrival of the answer.
        watts: power of the machine during the run; None if unknown.
    """

    target_rate: float
    rate: float
    sent: int
    seconds: tuple[float, ...]
    watts: float | None = None

    @property
    def loss(self) -> float:
        """Share of the images without an answer."""
        return (self.sent - len(self.seconds)) / self.sent

    @property
    def answer_rate(self) -> float:
        """Answers per second."""
        return self.rate * (1 - self.loss)

    @property
    def passed(self) -> bool:
        """Whether the rate was reached and hardly any image was lost."""
        return self.loss <= LOSS and self.rate >= PUNCTUAL * self.target_rate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ages = Percentiles.of(1e3 * s for s in self.seconds)._asdict() if self.seconds else None
        return {
            "asked": self.target_rate,
            "rate": self.rate,
            "sent": self.sent,
            "answered": len(self.seconds),
            "loss": self.loss,
            "ms": ages,
            "watts": self.watts,
        }


@dataclass(frozen=True)
class Peak:
    """The peak rate of a node, and the runs that found it.

    Attributes:
        name: what was measured.
        runs: the five at the peak rate.
        search: those before.
        fixed: those at the ``FIXED`` rates.
        facts: what the node reported about its model and runtime.
    """

    name: str
    runs: tuple[LoadRun, ...]
    search: tuple[LoadRun, ...]
    fixed: tuple[LoadRun, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> tuple[LoadRun, ...]:
        """The runs at the peak rate without the best and the worst."""
        return _kept(self.runs)

    @property
    def rate(self) -> float:
        """Images published per second, mean of the kept runs."""
        return float(np.mean([run.rate for run in self.kept]))

    @property
    def answer_rate(self) -> float:
        """Answers per second, mean of the kept runs."""
        return float(np.mean([run.answer_rate for run in self.kept]))

    @property
    def loss(self) -> float:
        """Share of the images without an answer, mean of the kept runs."""
        return _loss(self.kept)

    @property
    def milliseconds(self) -> Percentiles:
        """From publishing an image to its answer, over all images of the kept runs."""
        return Percentiles.of(1e3 * s for run in self.kept for s in run.seconds)

    @property
    def watts(self) -> float | None:
        """Mean power of the kept runs; None if it is unknown for one of them."""
        watts = [run.watts for run in self.kept if run.watts is not None]
        return float(np.mean(watts)) if len(watts) == len(self.kept) else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            **self.facts,
            "peak_rate": self.rate,
            "answered_rate": self.answer_rate,
            "loss": self.loss,
            "ms": self.milliseconds._asdict(),
            "watts": self.watts,
            "images_per_s_per_w": self.answer_rate / self.watts if self.watts else None,
            "runs": [run.to_dict() for run in self.runs],
            "search": [run.to_dict() for run in self.search],
            "fixed": [run.to_dict() for run in self.fixed],
        }


def find_peak(
    name: str,
    run: Callable[[float], LoadRun],
    first: float = 10.0,
    lowest: float = 0.5,
    highest: float = 1000.0,
    fixed: Sequence[float] = FIXED,
) -> Peak:
    """Find the peak rate.

    Args:
        name: what is measured.
        run: publishes at a rate (images per second) and returns what came back.
        first: rate of the first run.
        lowest: rate below which the search gives up.
        highest: rate above which it does not go.
        fixed: rates to run at afterwards.

    Raises:
        NoRate: images are lost even at the lowest rate.
    """
    search: list[LoadRun] = []

    def passes(rate: float) -> bool:
        # A second try: other programs may have taken the processor for a moment.
        for _ in range(2):
            search.append(run(rate))
            if search[-1].passed:
                return True
        return False

    good, bad = _bounds(passes, first, lowest, highest)
    if not good:
        raise _no_rate(name, bad, search[-1].loss)
    while bad > good * (1 + STEP):
        rate = (good + bad) / 2
        good, bad = (rate, bad) if passes(rate) else (good, rate)
    # One good run may have been luck: at the peak the middle three of five must pass.
    while True:
        runs = tuple(run(good) for _ in range(RUNS))
        if all(r.passed for r in _kept(runs)):
            break
        if good <= lowest:
            raise _no_rate(name, good, _loss(_kept(runs)))
        search += runs
        good = max(lowest, good * (1 - LOSS))
    return Peak(name, runs, tuple(search), tuple(run(rate) for rate in fixed))


def _no_rate(name: str, rate: float, loss: float) -> NoRate:
    return NoRate(
        f"{name}: at {rate:g} images per second {loss:.0%} have no answer: give a smaller input "
        "size or model"
    )


def _bounds(
    passes: Callable[[float], bool], first: float, lowest: float, highest: float
) -> tuple[float, float]:
    """A rate that passes (0 if none does), and up to twice that rate, which does not."""
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


def _kept(runs: Sequence[LoadRun]) -> tuple[LoadRun, ...]:
    return tuple(sorted(runs, key=lambda run: run.answer_rate)[1:-1])


def _loss(runs: Sequence[LoadRun]) -> float:
    return float(np.mean([run.loss for run in runs]))
