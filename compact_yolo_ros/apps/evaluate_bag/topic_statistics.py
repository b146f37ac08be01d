# SPDX-License-Identifier: Apache-2.0
"""Counts and times over the frames of one topic."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.evaluate_bag.frame_results import ANSWERED, DROPPED, Record, Times
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.support.percentiles import Percentiles

SAME = 0.5
"""Least IoU of two boxes of one object in successive frames."""
OTHER_CLOCK = 10.0
"""Seconds from stamp to reception, either way, that make stamps those of another clock."""
MOST_BINS = 600
"""Points of a course over time."""


class Flicker:
    """How unsteady the detections of successive answered frames are.

    A detection has a match in another frame if that shows a box of its class with an IoU of at
    least 0.5. A *flash* is a detection that has a match neither in the frame before nor in the one
    after. A *gap* is a detection with a match two frames later, but none in the frame between.
    The measure is (flashes + gaps) / detections: 0 for boxes that stay or move steadily.
    """

    def __init__(self) -> None:
        """Start without frames."""
        self._last: deque[Detections] = deque(maxlen=3)
        self.flashes = self.gaps = self.detections = 0

    def add(self, found: Detections) -> None:
        """Take the next frame's detections, those above the threshold only."""
        self._last.append(found)
        self.detections += len(found)
        if len(self._last) < 3:
            return
        before, between, after = self._last
        steady = has_match(between, before) | has_match(between, after)
        self.flashes += int(np.count_nonzero(~steady))
        gone = has_match(before, after) & ~has_match(before, between)
        self.gaps += int(np.count_nonzero(gone))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in the results."""
        unsteady = self.flashes + self.gaps
        return {
            "flashes": self.flashes,
            "gaps": self.gaps,
            "per_detection": unsteady / self.detections if self.detections else None,
        }


def has_match(ours: Detections, theirs: Detections) -> NDArray[np.bool_]:
    """(n,) whether each of ``ours`` has a match in ``theirs``; see ``Flicker``."""
    a, b = ours.boxes[:, None].astype(np.float64), theirs.boxes[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    same = ours.labels[:, None] == theirs.labels[None]
    return (same & (common >= SAME * union)).any(1)


def above(found: Detections, threshold: float) -> Detections:
    """What a user of a score threshold sees."""
    kept = found.scores >= threshold
    return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])


class TopicStatistics:
    """Takes the records of a topic one by one; it keeps about 80 bytes of each.

    Attributes:
        flicker: of the detections.
        outcomes: frames of each outcome.
        per_class: detections of each class.
        problems: a sentence about the first error of each kind.
    """

    def __init__(self, classes: int, threshold: float) -> None:
        """Count detections of so many classes with scores from ``threshold`` on."""
        self._threshold = threshold
        self.flicker = Flicker()
        self.outcomes: Counter[str] = Counter()
        self.problems: dict[str, str] = {}
        self.per_class = np.zeros(classes, np.int64)
        self._stamps, self._received, self._finished = array("q"), array("q"), array("q")
        self._counts = array("i")
        self._seconds = array("d")

    def add(self, record: Record) -> None:
        """Take the next record."""
        self.outcomes[record.outcome] += 1
        if record.problem:
            self.problems.setdefault(record.outcome, record.problem)
        self._stamps.append(record.stamp)
        self._received.append(record.time)
        count = -2 if record.outcome == DROPPED else -1
        if record.outcome == ANSWERED:
            seen = above(record.detections, self._threshold)
            self.flicker.add(seen)
            np.add.at(self.per_class, seen.labels, 1)
            count = len(seen)
            self._finished.append(record.finished)
            self._seconds.extend(record.times)
        self._counts.append(count)

    @property
    def stamps(self) -> NDArray[np.int64]:
        """(frames,) stamps in ns, in the order of the records."""
        return np.array(self._stamps, np.int64)

    @property
    def received(self) -> NDArray[np.int64]:
        """(frames,) times of reception in ns, in the order of the records."""
        return np.array(self._received, np.int64)

    @property
    def counts(self) -> NDArray[np.int32]:
        """(frames,) detections; -2 for a dropped frame, -1 for one that could not be read."""
        return np.array(self._counts, np.int32)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """(answered, 4) seconds of the stages, see ``Times``."""
        return np.array(self._seconds, np.float64).reshape(-1, len(Times._fields))

    @property
    def delay(self) -> float:
        """Median seconds from stamp to reception; 0 without frames."""
        return float(np.median(self.received - self.stamps)) * 1e-9 if self._stamps else 0.0

    @property
    def ages(self) -> NDArray[np.float64]:
        """(answered,) seconds from stamp to answer; only meaningful in realtime.

        Empty if the stamps are of another clock than the times of reception.
        """
        if abs(self.delay) > OTHER_CLOCK:
            return np.empty(0)
        stamps = self.stamps[self.counts >= 0]
        return (np.array(self._finished, np.int64) - stamps).astype(np.float64) * 1e-9

    def frames(self) -> dict[str, Any]:
        """Counts of frames: all, answered, dropped and errors by kind."""
        errors = {k: n for k, n in sorted(self.outcomes.items()) if k not in (ANSWERED, DROPPED)}
        return {
            "all": self.outcomes.total(),
            "answered": self.outcomes[ANSWERED],
            "dropped": self.outcomes[DROPPED],
            "errors": errors,
        }


def percentiles_ms(seconds: NDArray[np.float64]) -> dict[str, float] | None:
    """p50, p95 and p99 in ms; None without values."""
    if not len(seconds):
        return None
    return {name: 1e3 * value for name, value in Percentiles.of(seconds)._asdict().items()}


def stages_ms(seconds: NDArray[np.float64]) -> dict[str, dict[str, float] | None]:
    """Percentiles of every stage, and of a frame in all."""
    columns = dict(zip(Times._fields, seconds.T, strict=True))
    return {name: percentiles_ms(column) for name, column in columns.items()} | {
        "total": percentiles_ms(seconds.sum(1))
    }


def over_time(statistics: TopicStatistics, start: int, end: int) -> dict[str, list[float]]:
    """Course over a recording from ``start`` to ``end`` (ns), in equal steps of at least 1 s.

    Returns:
        ``second`` (beginning of the step), ``frames``, ``dropped``, ``unreadable`` and
        ``detections`` per answered frame.
    """
    width = max(1.0, (end - start) * 1e-9 / MOST_BINS)
    step = ((statistics.received - start) * 1e-9 / width).astype(np.int64)
    bins = int(step.max(initial=0)) + 1
    counts = statistics.counts
    answered = np.bincount(step[counts >= 0], minlength=bins)
    found = np.bincount(step[counts >= 0], counts[counts >= 0], bins)
    return {
        "second": (np.arange(bins) * width).round(3).tolist(),
        "frames": np.bincount(step, minlength=bins).tolist(),
        "dropped": np.bincount(step[counts == -2], minlength=bins).tolist(),
        "unreadable": np.bincount(step[counts == -1], minlength=bins).tolist(),
        "detections": (found / np.maximum(answered, 1)).round(3).tolist(),
    }
