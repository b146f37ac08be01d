# SPDX-License-Identifier: Apache-2.0
"""Counts and times of one camera's images, since activation and over the last few seconds."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from threading import Lock
from time import monotonic

from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.machine.power.monitor import WINDOW
from compact_yolo_ros.ros.diagnostics.causes import NewCauses
from compact_yolo_ros.support.percentiles import Percentiles

INTERVALS = 3
"""So few that a pause is soon forgotten."""


class Outcome(Enum):
    """What became of an image."""

    NONE = "none yet"
    ANSWERED = "answered"
    REFUSED = "refused by max_age"
    FAILED = "failed"


@dataclass(frozen=True)
class Snapshot:
    """The counters at one moment; counts are since activation, rates and times of the window.

    Attributes:
        received: images that arrived.
        processed: images whose detections were published.
        dropped: images replaced by a newer one before the worker was free.
        too_old: images that ``max_age`` refused.
        skipped: images that the governor skipped.
        errors: failures by kind.
        recent_errors: failures inside the window.
        fps_in: images received per second.
        fps_out: images processed per second.
        fps_skipped: images skipped per second.
        fps_refused: images refused by ``max_age`` per second.
        refused_age: seconds from the stamp of the last refused image to now; 0 without any.
        span: seconds that the rates cover.
        silence: seconds since the last image, or since activation.
        interval: the longest of the last ``INTERVALS`` between images in seconds; 0 without any.
        unanswered: seconds for which images have arrived and none has been answered or refused.
        age: percentiles of the age at publish in seconds; None if none was processed.
        stages: percentiles in seconds by stage name; empty if none was processed.
        last_error: the last failure's sentence; empty if there was none.
        outcome: that of the last image, however long ago; one that was skipped or dropped has none.
        is_told: whether one of the last failures, each within the window of the one before, was
            logged when it happened.
    """

    received: int
    processed: int
    dropped: int
    too_old: int
    skipped: int
    errors: dict[str, int]
    recent_errors: int
    fps_in: float
    fps_out: float
    fps_skipped: float
    fps_refused: float
    refused_age: float
    span: float
    silence: float
    interval: float
    unanswered: float
    age: Percentiles | None
    stages: dict[str, Percentiles]
    last_error: str
    outcome: Outcome = Outcome.NONE
    is_told: bool = False


@dataclass
class FrameCounters:
    """Counters that the threads of receiver and worker fill, and that of /diagnostics reads."""

    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: called on activation."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        self._since = monotonic()
        self._last_image = self._since
        self._received = self._processed = self._dropped = self._too_old = self._skipped = 0
        self._dropped_before = 0
        self._unanswered_since: float | None = None
        self._errors: Counter[str] = Counter()
        self._failed_images = 0
        self._last_error = ""
        self._outcome = Outcome.NONE
        self._is_told = False
        self._arrivals: deque[float] = deque()
        self._intervals: deque[float] = deque(maxlen=INTERVALS)
        self._times: deque[tuple[float, FrameTimes]] = deque()
        self._failures: deque[float] = deque()
        self._skips: deque[float] = deque()
        self._refusals: deque[float] = deque()
        self._refused_age = 0.0
        self._causes = NewCauses()

    def restart(self) -> None:
        """Forget all but the images that wait or are in work, which are still to be counted."""
        with self._lock:
            done = self._processed + self._dropped + self._too_old + self._skipped
            pending = self._received - done - self._failed_images
            self._clear()
            self._received = pending

    def image_received(self, *, replaced_another: bool) -> None:
        """Count an image from the camera, and the unprocessed one it may have replaced."""
        with self._lock:
            before, self._last_image = self._last_image, monotonic()
            if self._arrivals:
                self._intervals.append(self._last_image - before)
            if self._unanswered_since is None:
                self._unanswered_since = self._last_image
            self._received += 1
            self._dropped += replaced_another
            _append(self._arrivals, self._last_image)

    def image_too_old(self, age: float) -> None:
        """Count an image that ``max_age`` refuses.

        Args:
            age: in seconds since its stamp; negative if that is in the future.
        """
        with self._lock:
            self._too_old += 1
            self._refused_age = age
            self._conclude(Outcome.REFUSED)
            _append(self._refusals, monotonic())

    def image_skipped(self) -> None:
        """Count an image that the governor skipped."""
        with self._lock:
            self._skipped += 1
            self._unanswered_since = None
            _append(self._skips, monotonic())

    def image_processed(self, times: FrameTimes) -> int:
        """Count a processed image; return how many were dropped since the one before."""
        with self._lock:
            self._processed += 1
            self._conclude(Outcome.ANSWERED)
            now = monotonic()
            self._times.append((now, times))
            while self._times[0][0] < now - WINDOW:
                self._times.popleft()
            dropped, self._dropped_before = self._dropped - self._dropped_before, self._dropped
            return dropped

    def error(self, kind: str, sentence: str, *, is_image: bool = True) -> bool:
        """Count a failure; return whether its cause is new, so that it should be logged.

        Args:
            kind: of the failure.
            sentence: what is wrong.
            is_image: whether it cost an image that was received; packets of a video are none.
        """
        with self._lock:
            self._errors[kind] += 1
            self._failed_images += is_image
            self._conclude(Outcome.FAILED)
            self._last_error = sentence
            now = monotonic()
            _append(self._failures, now)
            is_new = self._causes.is_new(kind, sentence, now)
            self._is_told = is_new or (self._is_told and len(self._failures) > 1)
            return is_new

    def _conclude(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._unanswered_since = None

    def snapshot(self) -> Snapshot:
        """Summarise; the threads that count wait for a short lock only."""
        with self._lock:
            now = monotonic()
            start = max(now - WINDOW, self._since)
            span = max(now - start, 1e-3)
            times = [each for at, each in self._times if at >= start]
            arrivals = sum(at >= start for at in self._arrivals)
            failures = sum(at >= start for at in self._failures)
            skips = sum(at >= start for at in self._skips)
            refusals = sum(at >= start for at in self._refusals)
            refused_age = self._refused_age
            counts = (self._received, self._processed, self._dropped, self._too_old, self._skipped)
            errors, last_error, outcome = dict(self._errors), self._last_error, self._outcome
            is_told = self._is_told
            silence = now - self._last_image
            interval = max(self._intervals, default=0.0)
            unanswered = now - (self._unanswered_since or now)
        columns = zip(*times, strict=True)
        percentiles = {
            name: Percentiles.of(column)
            for name, column in zip(FrameTimes._fields, columns, strict=False)
        }
        return Snapshot(
            *counts,
            errors=errors,
            recent_errors=failures,
            fps_in=arrivals / span,
            fps_out=len(times) / span,
            fps_skipped=skips / span,
            fps_refused=refusals / span,
            refused_age=refused_age,
            span=span,
            silence=silence,
            interval=interval,
            unanswered=unanswered,
            age=percentiles.pop("age", None),
            stages=percentiles,
            last_error=last_error,
            outcome=outcome,
            is_told=is_told,
        )


def combined(snapshots: Sequence[Snapshot]) -> Snapshot:
    """One snapshot of several cameras: sums, and no times, which are of one camera each."""
    if len(snapshots) == 1:
        return snapshots[0]
    return Snapshot(
        received=sum(s.received for s in snapshots),
        processed=sum(s.processed for s in snapshots),
        dropped=sum(s.dropped for s in snapshots),
        too_old=sum(s.too_old for s in snapshots),
        skipped=sum(s.skipped for s in snapshots),
        errors=dict(sum((Counter(s.errors) for s in snapshots), Counter())),
        recent_errors=sum(s.recent_errors for s in snapshots),
        fps_in=sum(s.fps_in for s in snapshots),
        fps_out=sum(s.fps_out for s in snapshots),
        fps_skipped=sum(s.fps_skipped for s in snapshots),
        fps_refused=sum(s.fps_refused for s in snapshots),
        refused_age=next((s.refused_age for s in snapshots if s.refused_age), 0.0),
        span=max((s.span for s in snapshots), default=0.0),
        silence=min((s.silence for s in snapshots), default=0.0),
        interval=min((s.interval for s in snapshots), default=0.0),
        unanswered=max((s.unanswered for s in snapshots), default=0.0),
        age=None,
        stages={},
        last_error=next((s.last_error for s in snapshots if s.last_error), ""),
    )


def _append(times: deque[float], now: float) -> None:
    """Add ``now`` and forget what left the window."""
    times.append(now)
    while times[0] < now - WINDOW:
        times.popleft()
