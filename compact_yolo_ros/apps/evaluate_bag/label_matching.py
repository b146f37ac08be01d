# SPDX-License-Identifier: Apache-2.0
"""Which frame of a recording a label belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.evaluate_bag.frame_labels import FrameLabels
from compact_yolo_ros.apps.evaluate_bag.results import LabelCounts
from compact_yolo_ros.labels.ground_truth import GroundTruth
from compact_yolo_ros.recordings.storage import BagError

LARGEST_TOLERANCE = 50_000_000
"""In ns: a label that is further away is not that of a frame, however slow the camera."""
SECOND = 10**9
"""In ns."""


def labels_sha256(labels: Mapping[str, FrameLabels], matchings: Mapping[str, Matching]) -> str:
    """A digest of what is labelled in which frames, in hexadecimal; the order of objects is not."""
    digest = hashlib.sha256()
    for topic, part in sorted(labels.items()):
        digest.update(repr((topic, sorted(part.classes))).encode())
        label_of = matchings[topic].label_of
        for frame in np.flatnonzero(label_of >= 0).tolist():
            shown = _shown(part.truths[int(label_of[frame])], part.classes)
            digest.update(repr((frame, shown)).encode())
    return digest.hexdigest()


def _shown(truth: GroundTruth, classes: Sequence[str]) -> tuple[object, ...]:
    """What accuracy depends on in a labelled image, in an order of its own."""
    return (
        None if truth.size is None else tuple(truth.size),
        _named(truth.boxes, truth.labels, classes),
        _named(truth.ignored, truth.ignored_classes, classes),
        sorted(classes[number] for number in truth.unlabelled),
    )


def _named(
    boxes: NDArray[np.floating], labels: NDArray[np.integer], classes: Sequence[str]
) -> list[tuple[str, list[float]]]:
    """Each box with the name of its class, in order; without one for any class."""
    names = ["" if number < 0 else classes[number] for number in labels.tolist()]
    return sorted(zip(names, boxes.tolist(), strict=True))


@dataclass(frozen=True)
class Matching:
    """Which label belongs to which frame.

    Attributes:
        label_of: (frames,) position of the label; -1 without one.
        labels: number of labels.
        offset: (frames,) stamp of the label - stamp of the frame in ns; 0 without one.
        tolerance: largest offset in ns; 0 if frames are known by number.
    """

    label_of: NDArray[np.int64]
    labels: int
    offset: NDArray[np.int64]
    tolerance: int

    def counts(self, labels_from: str) -> LabelCounts:
        """The counts for the results; ``labels_from`` names the labels to a person."""
        matched = self.label_of >= 0
        count = int(np.count_nonzero(matched))
        offset = self.offset[matched] * 1e-6
        return LabelCounts(
            labels_from=labels_from,
            labels=self.labels,
            frames=len(self.label_of),
            matched=count,
            labels_without_frame=self.labels - count,
            frames_without_label=len(self.label_of) - count,
            tolerance_ms=self.tolerance * 1e-6,
            mean_offset_ms=float(offset.mean()) if count else None,
            largest_offset_ms=float(np.abs(offset).max()) if count else None,
        )


def match(
    labels: FrameLabels, stamps: NDArray[np.int64], tolerance: int | None = None, first: int = 0
) -> Matching:
    """Find the label of each frame.

    By time, a frame and a label belong together if each is the other's nearest and they are no
    further apart than ``tolerance``. A label that is named by a whole second belongs to the only
    frame of it.

    Args:
        labels: of the frames' topic.
        stamps: (frames,) of all frames of the topic in the order of the recording.
        tolerance: in ns; None is half the frames' median period, at most 50 ms.
        first: number of the first frame.

    Raises:
        BagError: not a single frame has a label; the sentence holds both ranges. Or labels are
            named by whole seconds, and there are several frames in one.
    """
    if not len(stamps) or not len(labels):
        raise BagError(
            f"no frame is labelled: {len(stamps)} frames, {len(labels)} labels of {labels.source}"
        )
    offset = np.zeros(len(stamps), np.int64)
    if labels.numbers is not None:
        label_of = np.full(len(stamps), -1)
        numbers = labels.numbers - first
        inside = np.flatnonzero((numbers >= 0) & (numbers < len(stamps)))
        label_of[numbers[inside]] = inside
        if not len(inside):
            raise BagError(
                f"no frame is labelled: {labels.source} has frames "
                f"{labels.numbers.min()} to {labels.numbers.max()}, the recording {first} to "
                f"{first + len(stamps) - 1}"
            )
        return Matching(label_of, len(labels), offset, 0)
    assert labels.times is not None
    if labels.whole_seconds:
        return _match_by_second(labels, labels.times, stamps)
    order = np.argsort(stamps, kind="stable")
    ordered = stamps[order]
    if tolerance is None:
        period = int(np.median(np.diff(ordered))) if len(ordered) > 1 else 0
        tolerance = min(period // 2 or LARGEST_TOLERANCE, LARGEST_TOLERANCE)
    frame_of = _nearest(ordered, labels.times)
    label_of_ordered = _nearest(labels.times, ordered)
    mutual = frame_of[label_of_ordered] == np.arange(len(ordered))
    apart = labels.times[label_of_ordered] - ordered
    matched = mutual & (np.abs(apart) <= tolerance)
    if not matched.any():
        raise BagError(no_overlap(labels, int(ordered[0]), int(ordered[-1]), tolerance))
    label_of = np.full(len(stamps), -1)
    label_of[order[matched]] = label_of_ordered[matched]
    offset[order[matched]] = apart[matched]
    return Matching(label_of, len(labels), offset, tolerance)


def _match_by_second(
    labels: FrameLabels, times: NDArray[np.int64], stamps: NDArray[np.int64]
) -> Matching:
    seconds = stamps // SECOND * SECOND
    labelled = np.isin(seconds, times)
    if len(set(seconds[labelled].tolist())) < np.count_nonzero(labelled):
        raise BagError(
            f"{labels.source} names images by whole seconds, but there are several a second: name "
            "them <sec>.<nanosec>.jpg"
        )
    if not labelled.any():
        raise BagError(no_overlap(labels, int(stamps.min()), int(stamps.max()), SECOND))
    label_of, offset = np.full(len(stamps), -1), np.zeros(len(stamps), np.int64)
    label_of[labelled] = np.searchsorted(times, seconds[labelled])
    offset[labelled] = seconds[labelled] - stamps[labelled]
    return Matching(label_of, len(labels), offset, SECOND)


def no_overlap(labels: FrameLabels, first: int, last: int, tolerance: int) -> str:
    """A sentence with both time ranges; all times in ns."""
    assert labels.times is not None
    theirs = f"{labels.times[0] * 1e-9:.3f} to {labels.times[-1] * 1e-9:.3f} s"
    ours = f"{first * 1e-9:.3f} to {last * 1e-9:.3f} s"
    return (
        f"no frame has a label within {tolerance * 1e-6:.0f} ms: those of {labels.source} are "
        f"from {theirs}, the stamps of the frames from {ours}"
    )


def _nearest(sorted_times: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position in ``sorted_times`` of what is nearest to each of ``times``; the first of equals."""
    after = np.clip(np.searchsorted(sorted_times, times), 0, len(sorted_times) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(sorted_times[before] - times) <= np.abs(sorted_times[after] - times)
    return np.searchsorted(sorted_times, sorted_times[np.where(nearer, before, after)])
