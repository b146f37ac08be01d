# SPDX-License-Identifier: Apache-2.0
"""The tracks that a node would have made of the detections in a recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from compact_yolo_ros.apps.evaluate_bag.accuracy import joined_classes
from compact_yolo_ros.apps.evaluate_bag.frame_labels import FrameLabels
from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.apps.evaluate_bag.label_matching import Matching
from compact_yolo_ros.apps.evaluate_bag.results import TrackCounts, TrackingResults
from compact_yolo_ros.apps.evaluate_bag.topic_statistics import Flicker
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.tracking.bytetrack import ByteTracker
from compact_yolo_ros.detection.tracking.options import TrackingOptions
from compact_yolo_ros.evaluation import ClassMapping
from compact_yolo_ros.evaluation.tracking import TrackingEvaluator

BRIEF = 0.5
"""Seconds: a track that lasts no longer is brief."""


def follow(
    results: Iterable[FrameResult], options: TrackingOptions
) -> Iterator[tuple[FrameResult, Detections]]:
    """Each result, its detections with ids, and the tracks in it; none of an unanswered frame."""
    trackers: dict[str, ByteTracker] = {}
    for result in results:
        if result.outcome != ANSWERED:
            yield result, Detections.empty()
            continue
        tracker = trackers.setdefault(result.topic, ByteTracker(options))
        source = result.frame_id, result.size
        tracked = tracker.step(result.stamp, result.detections, source)
        yield replace(result, detections=tracked.found), tracked.tracks.in_image(*result.size)


class _TopicTracks:
    """Counts the tracks of a topic."""

    def __init__(self) -> None:
        self.flicker = Flicker()
        self._stamps: dict[int, tuple[int, int]] = {}  # first and last of each track
        self._frame_of: dict[int, int] = {}
        self._frames = 0
        self.interruptions = 0

    def add(self, stamp: int, tracks: Detections) -> None:
        """Take the tracks in the next answered frame."""
        self.flicker.add(tracks)
        self._frames += 1
        for track in [] if tracks.ids is None else tracks.ids.tolist():
            first, _ = self._stamps.get(track, (stamp, stamp))
            self._stamps[track] = (first, stamp)
            self.interruptions += self._frame_of.get(track, self._frames - 1) < self._frames - 1
            self._frame_of[track] = self._frames

    def counts(self) -> TrackCounts:
        """The counts for the results."""
        seconds = np.array([1e-9 * (last - first) for first, last in self._stamps.values()])
        count = len(seconds)
        return TrackCounts(
            tracks=count,
            brief=int(np.count_nonzero(seconds <= BRIEF)),
            median_seconds=float(np.median(seconds)) if count else None,
            interruptions=self.interruptions,
            fragmentation=self.interruptions / count if count else None,
            flicker=self.flicker.counts(),
        )


def measure_tracking(
    results: Iterable[FrameResult],
    options: TrackingOptions,
    labels: Mapping[str, FrameLabels],
    matchings: Mapping[str, Matching],
    mapping: ClassMapping | None,
) -> TrackingResults:
    """Follow the objects of all frames, and compare them with labels that have tracks.

    Args:
        results: of all frames, in the order in which ``matchings`` were made.
        options: how objects are followed.
        labels: by topic.
        matchings: by topic.
        mapping: from ``shared_classes`` of the same labels; None without any.
    """
    topics: dict[str, _TopicTracks] = {}
    seen: Counter[str] = Counter()
    given = {
        topic: part
        for topic, part in labels.items()
        if any(truth.tracks is not None and len(truth) for truth in part.truths)
    }
    reasons = (_missing(*each) or _repeated(*each) for each in given.items())
    left_out = "; ".join(filter(None, reasons))
    tracked = [] if left_out else list(given)
    evaluator, numbers = TrackingEvaluator(), joined_classes(labels)
    for result, tracks in follow(results, options):
        topic, place = result.topic, seen[result.topic]
        seen[topic] += 1
        if result.outcome != ANSWERED:
            continue
        topics.setdefault(topic, _TopicTracks()).add(result.stamp, tracks)
        label = int(matchings[topic].label_of[place]) if topic in tracked else -1
        if label >= 0 and mapping is not None:
            truth = labels[topic].truths[label].in_pixels_of(result.size)
            truth = truth.renumbered(*numbers[topic])
            evaluator.add(topic, mapping.truth(truth), mapping.detections(tracks))
    return TrackingResults(
        options=options,
        topics={topic: found.counts() for topic, found in topics.items()},
        accuracy=evaluator.result() if tracked and mapping is not None else None,
        left_out=left_out,
    )


def _missing(topic: str, labels: FrameLabels) -> str:
    """Why a topic's labels are no tracks, although some are; empty if all objects have one."""
    without = sum(truth.tracks is None for truth in labels.truths)
    if not without:
        return ""
    return (
        f"the labels of {topic} have no tracks in {without} of {len(labels)} images, where an"
        " object has no id: give every object one"
    )


def _repeated(topic: str, labels: FrameLabels) -> str:
    """Why a topic's labels are no tracks; empty if they are. Some tools give all objects one id."""
    for truth in labels.truths:
        if truth.tracks is None:
            continue
        places = np.stack((truth.labels, truth.tracks))
        objects, counts = np.unique(places, axis=1, return_counts=True)
        if (counts > 1).any():
            label, track = objects[:, counts.argmax()].tolist()
            return (
                f"the labels of {topic} have no tracks of their own: an image has"
                f" {counts.max()} objects of class {labels.classes[label]} with the id {track}"
            )
    return ""
