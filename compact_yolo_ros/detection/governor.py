# SPDX-License-Identifier: Apache-2.0
"""The deadline governor: which input size the next image gets, so that the targets are held.

It only decides, from the times of each processed image: it has no clock, no thread and no ROS.
docs/governor.md explains the rules and shows a load step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import numpy as np

WINDOW = 40
"""Images at the current size that are remembered."""
RARE = 2
"""So many of these may miss a target: one in twenty."""
MARGIN = 0.15
"""Share of a target that must stay free at the size it moves to: its hysteresis."""
FIRST_HOLD, LAST_HOLD = 30, 960
"""Images to wait before a larger size is tried; doubled each time that size failed."""
TRIAL = 4
"""A larger size has succeeded, and the wait is halved, after so many times the wait. A smaller one
doubts by then what it learnt against going up."""
RELIEF = 0.75
"""If the network has become faster by this factor since a failure, the wait is reset."""
SETTLE = 6.0
"""Seconds until the mean power is that of the current size alone."""
SAMPLES = 5
"""Images from which the cost of a size is learnt."""
BOUND = 4.0
"""A learnt cost stays within this factor of the given one: the load may have changed too."""


@dataclass(frozen=True)
class Targets:
    """What is to be held; 0 is no target.

    Attributes:
        fps: images per second that must be possible.
        latency: longest time in seconds from receiving an image to publishing its detections.
        watts: highest mean power.
        max_skip: most images to skip after each processed one when the smallest size is not enough.
    """

    fps: float = 0.0
    latency: float = 0.0
    watts: float = 0.0
    max_skip: int = 0

    def __bool__(self) -> bool:
        return self.fps > 0 or self.latency > 0 or self.watts > 0


class Cost(NamedTuple):
    """What one processed image took, in seconds.

    Attributes:
        latency: from its receipt to its published detections, waiting included.
        service: the same without waiting: how long it kept the worker busy.
        inference: the network's part, the only one that depends on the input size.
        images: that went through the network together, and shared the last two.
    """

    latency: float
    service: float
    inference: float
    images: int = 1

    @property
    def share(self) -> float:
        """Seconds of the worker for this image alone."""
        return self.service / self.images

    @property
    def is_usable(self) -> bool:
        """Whether all are finite and not negative."""
        return all(isfinite(seconds) and seconds >= 0 for seconds in self)


class Rung(NamedTuple):
    """A step of the governor's ladder.

    Attributes:
        size: long side of the input in pixels.
        skip: images to skip after each processed one.
    """

    size: int
    skip: int = 0

    def __str__(self) -> str:
        return str(self.size) + (f", skipping {self.skip}" if self.skip else "")


class Governor:
    """Moves down at once when a target is missed, and up only when the prediction has room.

    One thread calls ``observe`` for each image; another one may replace ``targets``.

    Attributes:
        targets: what is to be held.
        rung: where it is now.
        holds: whether the targets are held there; false only if no lower rung is left.
        reason: why it is there, for people.
        switches: how often it moved.
    """

    def __init__(self, costs: Mapping[int, float], targets: Targets | None = None) -> None:
        """Start at the largest of the sizes that ``costs`` gives seconds for."""
        self.targets = self._held = targets or Targets()
        self.switches = 0
        self.rung = Rung(0)
        self.use_sizes(costs)

    def use_sizes(self, costs: Mapping[int, float]) -> None:
        """Use other sizes, or another device, from now on; forget what was learnt.

        Args:
            costs: seconds of the network by long side of its input in pixels; only their ratios
                matter. Without times (0) it starts from the number of pixels.

        Raises:
            ValueError: there are no sizes.
        """
        if not costs:
            raise ValueError("the governor needs at least one input size")
        self.sizes = tuple(sorted(costs, reverse=True))
        known = all(isfinite(seconds) and seconds > 0 for seconds in costs.values())
        self._given = dict(costs) if known else {side: float(side) ** 2 for side in costs}
        self._costs = dict(self._given)
        self._left: tuple[Rung, tuple[float, float]] | None = None
        self._watts: dict[Rung, float] = {}
        self._more_watts: dict[tuple[Rung, Rung], float] = {}
        self._hold = FIRST_HOLD
        self._before_climb: tuple[Rung, float] | None = None
        self._failed: tuple[Rung, float] | None = None
        kept = self.rung.size in self.sizes
        self._arrive(self.rung if kept else Rung(self.sizes[0]), "start")

    @property
    def state(self) -> str:
        """For people: off, holding, or over target."""
        if not self.targets:
            return "off"
        return "holding" if self.holds else "over target"

    def observe(self, cost: Cost, now: float = 0.0, watts: float | None = None) -> Rung:
        """Take a processed image into account, and decide.

        Args:
            cost: its times; times that are not finite or negative are ignored.
            now: seconds on any clock that goes forward.
            watts: mean power of the last seconds; None if it is not known.

        Returns:
            The rung for the next image.
        """
        self._take_targets()
        ladder = self._ladder()
        if not self._held:
            if self.rung != ladder[0]:
                self._move(ladder[0], "no target is set")
        elif self.rung not in ladder:
            self._move(ladder[-1], "no more images may be skipped")
        elif cost.is_usable:
            self._images += 1
            if self._images == 1:  # it may have waited for a slower one, and found cold caches
                self._since = now
            else:
                self._recent.append(cost)
                self._late.append(self._pressure(cost, self.rung.size) > 1)
                self._learn()
                self._decide(ladder, now, watts)
        return self.rung

    # Where it is

    def _take_targets(self) -> None:
        if self.targets is not self._held:
            self._held = self.targets
            self._late.clear()
            self._late.extend(self._pressure(cost, self.rung.size) > 1 for cost in self._recent)

    def _ladder(self) -> list[Rung]:
        """From the largest size down. Skipping images does not help a rate."""
        most = 0 if self._held.fps > 0 else self._held.max_skip
        return [*map(Rung, self.sizes), *(Rung(self.sizes[-1], n + 1) for n in range(most))]

    def _move(self, rung: Rung, why: str) -> None:
        self._left = (self.rung, (self._before(), self._lately()))
        self.switches += 1
        self._arrive(rung, f"{self.rung} to {rung}: {why}")

    def _arrive(self, rung: Rung, reason: str) -> None:
        self.rung, self.reason, self.holds = rung, reason, True
        self._images = 0
        self._since = 0.0
        self._on_trial = False
        self._recent: deque[Cost] = deque(maxlen=WINDOW)
        self._late: deque[bool] = deque(maxlen=WINDOW)

    # Where it goes

    def _decide(self, ladder: list[Rung], now: float, watts: float | None) -> None:
        limit = self._held.watts
        if limit <= 0 or watts is None or not isfinite(watts) or watts < 0:
            watts = None
        settled = watts is not None and now - self._since >= SETTLE
        if watts is not None and settled:
            self._learn_power(watts)
        place = ladder.index(self.rung)
        if self._is_over():
            self._descend(ladder[place + 1 :])
        elif watts is not None and settled and watts > limit:
            self._save_power(ladder[place + 1 :], watts)
        else:
            self.holds = True
            blind = limit > 0 and watts is None and bool(self._watts)  # it could be read before
            if not blind and (watts is None or settled):
                self._end_trial()
                if place > 0:
                    self._climb(ladder[place - 1], watts)

    def _descend(self, lower: list[Rung]) -> None:
        """Leave a rung that is too slow."""
        # Skipping images only shortens the waiting.
        last = list(self._recent)[-2:]
        waiting = all(cost.service <= self._held.latency for cost in last)
        if lower and (waiting or not lower[0].skip):
            self._fail_trial()
            self._move(self._fitting(lower), self._complaint())
        elif self.holds:
            self.holds, self.reason = False, f"{self.rung} is the last resort: {self._complaint()}"

    def _fitting(self, lower: list[Rung]) -> Rung:
        """The first size with room for the worst of the last images, else the smallest."""
        sizes = [rung for rung in lower if not rung.skip] or lower[:1]
        last = list(self._recent)[-3:]
        for rung in sizes:
            if max(self._pressure(cost, rung.size) for cost in last) <= 1 - MARGIN:
                return rung
        return sizes[-1]

    def _save_power(self, lower: list[Rung], watts: float) -> None:
        """Leave a rung that takes too much power."""
        why = f"{watts:.1f} W, power_budget_w is {self._held.watts:.1f}"
        if lower:
            self._fail_trial()
            self._move(lower[0], why)
        else:
            self.holds, self.reason = False, f"{self.rung} is the last resort: {why}"

    def _climb(self, higher: Rung, watts: float | None) -> None:
        """Go one rung up if there has been room for it long enough."""
        if self._failed is not None and self._is_relieved(*self._failed):
            self._hold, self._failed = FIRST_HOLD, None
        if self._images <= self._hold:
            return
        self._doubt(higher)
        if self._pressure(self._recent[-1], higher.size) > 1 - MARGIN:
            return  # in most cases, and the next lines take longer
        pressures = sorted(self._pressure(cost, higher.size) for cost in self._recent)
        expected = pressures[-min(RARE + 1, len(pressures))]
        if watts is not None:
            more = self._more_watts.get((self.rung, higher), 0.0)
            expected = max(expected, (watts + more) / self._held.watts)
        if expected > 1 - MARGIN:
            return
        usual = self._usual()
        self._before_climb = (self.rung, usual)
        self._move(higher, f"expected to take {expected:.0%} of the target")
        self._on_trial = True

    def _fail_trial(self) -> None:
        """Lengthen the wait if the rung to which it went up is left soon."""
        if self._on_trial:
            self._hold = min(2 * self._hold, LAST_HOLD)
            self._failed = self._before_climb

    def _end_trial(self) -> None:
        """Shorten the wait once the rung has lasted to which it went up."""
        if self._on_trial and self._images > TRIAL * self._hold:
            self._on_trial = False
            self._hold = max(FIRST_HOLD, self._hold // 2)

    def _is_relieved(self, failed: Rung, before: float) -> bool:
        """Whether the machine is clearly faster than when the next rung up was too much."""
        if failed != self.rung or self._images % WINDOW:
            return False
        return self._usual() < RELIEF * before

    # What it knows

    def _pressure(self, cost: Cost, size: int) -> float:
        """The part of the tightest target that such an image would take at another size."""
        more = cost.inference * (self._costs[size] / self._costs[self.rung.size] - 1)
        latency, fps = self._held.latency, self._held.fps
        return max(
            (cost.latency + more) / latency if latency > 0 else 0.0,
            (cost.service + more) / cost.images * fps if fps > 0 else 0.0,
        )

    def _is_over(self) -> bool:
        """Whether a target was missed twice in a row, or more than rarely."""
        late = self._late
        return (len(late) > 1 and late[-1] and late[-2]) or late.count(True) > RARE

    def _usual(self) -> float:
        """The network's time; the median of the images that are remembered."""
        return float(np.median([cost.inference for cost in self._recent])) if self._recent else 0.0

    def _lately(self) -> float:
        """The network's time; the median of three images, so that two of a new load count."""
        last = [cost.inference for cost in self._recent][-3:]
        return float(np.median(last)) if last else 0.0

    def _before(self) -> float:
        """The network's usual time here; where it only passed, as expected from the size before."""
        if self._left is None or self._on_trial or len(self._recent) >= FIRST_HOLD:
            return self._usual()
        left, (before, _) = self._left
        return before * self._costs[self.rung.size] / self._costs[left.size]

    def _learn(self) -> None:
        """Compare the network's times before and after the last move.

        The load before it was the usual one or that of the last images, and which of them goes on
        is not known: the least correction that explains the times is learnt.
        """
        if len(self._recent) != SAMPLES or self._left is None:
            return
        (left, before), size = self._left, self.rung.size
        after = self._usual()
        if size == left.size or min(before) <= 0 or after <= 0:
            return
        least, most = (self._costs[left.size] * after / time for time in (max(before), min(before)))
        learnt = min(max(self._costs[size], least), most)
        given = self._given[size]
        self._costs[size] = min(max(learnt, given / BOUND), given * BOUND)

    def _learn_power(self, watts: float) -> None:
        """Keep what a higher rung took more than this one when it was left for this one.

        Of a rung the least counts: the rest may have been another program's, which has ended.
        """
        least = self._watts.get(self.rung, watts)
        if self.rung not in self._watts and self._left is not None:
            left = self._left[0]
            if left in self._watts:
                self._more_watts[self.rung, left] = max(0.0, self._watts[left] - watts)
        self._watts = {self.rung: min(least, watts)}

    def _doubt(self, higher: Rung) -> None:
        """Forget in time what keeps it from going up: it may have been learnt from a passing load.

        If it was right, trying costs a few images, and the next wait is twice as long.
        """
        if self._images > TRIAL * self._hold:
            given = self._given[self.rung.size] / self._given[higher.size]
            size, above = self.rung.size, higher.size
            self._costs[size] = max(self._costs[size], self._costs[above] * given)
        if self._images > TRIAL * LAST_HOLD:  # a power that is too high is noticed after seconds
            self._more_watts.pop((self.rung, higher), None)

    def _complaint(self) -> str:
        worst = max(self._recent, key=lambda cost: self._pressure(cost, self.rung.size))
        latency, fps = self._held.latency, self._held.fps
        if latency > 0 and worst.latency > latency:
            return (
                f"the latency was {1e3 * worst.latency:.0f} ms, max_latency is {1e3 * latency:.0f}"
            )
        return f"an image took {1e3 * worst.share:.0f} ms, target_fps leaves {1e3 / fps:.0f}"
