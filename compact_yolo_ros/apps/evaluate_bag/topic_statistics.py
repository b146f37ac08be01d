# SPDX-License-Identifier: Apache-2.0
"""Counts and times over the frames of one topic."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.evaluate_bag.frame_log import (
    ANSWERED,
    DROPPED,
    UNANSWERED,
    FrameResult,
    FrameStages,
)
from compact_yolo_ros.apps.evaluate_bag.results import (
    DetectionCounts,
    FlickerCounts,
    FrameCounts,
    StagePercentiles,
    StreamFigures,
    TimeCourse,
)
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.evaluation.matching import MATCH_IOU, overlaps
from compact_yolo_ros.support.percentiles import Percentiles

SAME = MATCH_IOU
"""Least IoU of two boxes of one object in successive frames."""
OTHER_CLOCK = 10.0
"""Seconds from stamp to reception, above which the stamps are of another clock."""
EARLY = 0.02
"""Seconds that an image may seem to arrive before its stamp: simulated clocks advance in steps."""
MOST_BINS = 600
"""Most steps of a course over time."""


class Flicker:
    """How unsteady the detections of successive answered frames are.

    A detection has a match in another frame that has a detection of its class with an IoU of at
    least 0.5. A *flash* is a detection without a match in the frame before and in the one after. A
    *gap* is a detection with a match two frames later, but none in the frame between.
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

    def counts(self) -> FlickerCounts:
        """The counts for the results."""
        unsteady = self.flashes + self.gaps
        share = unsteady / self.detections if self.detections else None
        return FlickerCounts(self.flashes, self.gaps, share)


def has_match(ours: Detections, theirs: Detections) -> NDArray[np.bool_]:
    """(n,) whether each of ``ours`` has a match in ``theirs``; see ``Flicker``."""
    own, others = ours.boxes.astype(np.float64), theirs.boxes.astype(np.float64)
    iou = overlaps(own, others, np.zeros(len(theirs), bool))
    same = ours.labels[:, None] == theirs.labels[None]
    return np.asarray((same & (iou >= SAME)).any(1))


class TopicStatistics:
    """Takes the frame results of a topic one by one; it keeps about 80 bytes of each.

    Attributes:
        flicker: of the detections.
        outcomes: frames of each outcome.
        per_class: detections of each class.
        problems: a sentence about the first error of each kind.
    """

    def __init__(self, classes: int, selection: Selection) -> None:
        """Count detections of so many classes whose scores ``selection`` keeps."""
        self._selection = selection
        self.flicker = Flicker()
        self.outcomes: Counter[str] = Counter()
        self.problems: dict[str, str] = {}
        self.per_class = np.zeros(classes, np.int64)
        self._stamps, self._received, self._finished = array("q"), array("q"), array("q")
        self._counts = array("i")
        self._seconds = array("d")

    def add(self, result: FrameResult) -> None:
        """Take the next result."""
        self.outcomes[result.outcome] += 1
        if result.problem:
            self.problems.setdefault(result.outcome, result.problem)
        self._stamps.append(result.stamp)
        self._received.append(result.time)
        count = -2 if result.outcome in UNANSWERED else -1
        if result.outcome == ANSWERED:
            found = result.detections
            seen = found[self._selection.above(found.scores, found.labels)]
            self.flicker.add(seen)
            np.add.at(self.per_class, seen.labels, 1)
            count = len(seen)
            self._finished.append(result.finished)
            self._seconds.extend(result.stages)
        self._counts.append(count)

    @property
    def stamps(self) -> NDArray[np.int64]:
        """(frames,) stamps in ns, in the order of the results."""
        return np.array(self._stamps, np.int64)

    @property
    def received(self) -> NDArray[np.int64]:
        """(frames,) times of reception in ns, in the order of the results."""
        return np.array(self._received, np.int64)

    @property
    def counts(self) -> NDArray[np.int32]:
        """(frames,) detections; -2 for an unanswered frame, -1 for one that could not be read."""
        return np.array(self._counts, np.int32)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """(answered, 4) seconds of the stages, see ``FrameStages``; nan where not measured."""
        return np.array(self._seconds, np.float64).reshape(-1, len(FrameStages._fields))

    @property
    def delay(self) -> float:
        """Median seconds from stamp to reception; 0 without frames."""
        return float(np.median(self.received - self.stamps)) * 1e-9 if self._stamps else 0.0

    @property
    def has_other_clock(self) -> bool:
        """Whether the stamps are of another clock than the times of reception."""
        return not -EARLY <= self.delay <= OTHER_CLOCK

    @property
    def ages(self) -> NDArray[np.float64]:
        """(n,) seconds from stamp to detections; only meaningful in realtime.

        Without those below zero, and empty if the stamps are of another clock.
        """
        ages = self._all_ages()
        return np.empty(0) if self.has_other_clock else ages[ages >= 0]

    @property
    def impossible_ages(self) -> int:
        """Number of ages below zero."""
        return int(np.count_nonzero(self._all_ages() < 0))

    def _all_ages(self) -> NDArray[np.float64]:
        """(answered,) seconds from stamp to detections."""
        stamps = self.stamps[self.counts >= 0]
        return (np.array(self._finished, np.int64) - stamps).astype(np.float64) * 1e-9

    def frame_counts(self) -> FrameCounts:
        """The counts of frames for the results."""
        kinds = sorted(self.outcomes.keys() - {ANSWERED, *UNANSWERED})
        return FrameCounts(
            all=self.outcomes.total(),
            answered=self.outcomes[ANSWERED],
            dropped=self.outcomes[DROPPED],
            errors={kind: self.outcomes[kind] for kind in kinds},
        )

    def unanswered_counts(self) -> dict[str, int]:
        """Frames that can be read, but were neither answered nor dropped, by the reason."""
        return {kind: n for kind in UNANSWERED[1:] if (n := self.outcomes[kind])}

    def detection_counts(self, classes: Sequence[str]) -> DetectionCounts:
        """The counts of detections for the results; ``classes`` are the names of the labels."""
        by_class = dict(zip(classes, self.per_class.tolist(), strict=True))
        return DetectionCounts(int(self.per_class.sum()), by_class, self.flicker.counts())


def percentiles_ms(seconds: NDArray[np.float64]) -> Percentiles | None:
    """Percentiles in ms; None without values. Those that are nan are left out."""
    seconds = seconds[~np.isnan(seconds)]
    return Percentiles.of(1e3 * seconds) if len(seconds) else None


def stage_percentiles(seconds: NDArray[np.float64]) -> StagePercentiles:
    """Percentiles of the stages, from their seconds (answered, 4)."""
    return StagePercentiles(*map(percentiles_ms, (*seconds.T, seconds.sum(1))))


def stream_figures(
    received: NDArray[np.int64], start: int, stretches: Sequence[tuple[int, int]] = ()
) -> StreamFigures:
    """How images came.

    Args:
        received: times of reception in ns (frames,).
        start: of the first stretch.
        stretches: of recorded time (ns, from and below), in order; there is no interval from one to
            the next.
    """
    received = np.sort(received)
    stretch = np.searchsorted([begin for begin, _ in stretches], received, "right")
    follows = np.flatnonzero(stretch[1:] == stretch[:-1])
    intervals = 1e-6 * (received[follows + 1] - received[follows]).astype(np.float64)
    if not len(intervals):
        return StreamFigures(None, None, None, None, None)
    median, longest = float(np.median(intervals)), int(np.argmax(intervals))
    return StreamFigures(
        rate=1e3 / median if median else None,
        interval_ms=Percentiles.of(intervals),
        jitter_ms=float(np.median(np.abs(intervals - median))),
        longest_gap_ms=float(intervals[longest]),
        longest_gap_at=float(received[follows[longest]] - start) * 1e-9,
    )


def over_time(statistics: TopicStatistics, start: int, end: int) -> TimeCourse:
    """Course over a recording from ``start`` to ``end`` (ns)."""
    width = max(1.0, (end - start) * 1e-9 / MOST_BINS)
    step = ((statistics.received - start) * 1e-9 / width).astype(np.int64)
    bins = int(step.max(initial=0)) + 1
    counts = statistics.counts
    answered = np.bincount(step[counts >= 0], minlength=bins)
    found = np.bincount(step[counts >= 0], counts[counts >= 0], bins).astype(np.float64)
    found[answered == 0] = np.nan
    return TimeCourse(
        second=tuple((np.arange(bins) * width).round(3).tolist()),
        frames=tuple(np.bincount(step, minlength=bins).tolist()),
        dropped=tuple(np.bincount(step[counts == -2], minlength=bins).tolist()),
        unreadable=tuple(np.bincount(step[counts == -1], minlength=bins).tolist()),
        detections=tuple((found / np.maximum(answered, 1)).round(3).tolist()),
    )
