# SPDX-License-Identifier: Apache-2.0
"""ByteTrack: tracks from detections, also from those of a low score.

Zhang et al., "ByteTrack: Multi-object tracking by associating every detection box" (ECCV 2022,
arXiv 2110.06864), section 3 and algorithm 1. Detections of a high score are assigned to all tracks
first; those of a low score then continue tracks that got none, since an object that is being
covered is still found, but hardly. Time is that of the images' stamps: a track is lost for so many
seconds, however many images there were, and images that were dropped change nothing but the time
to predict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.boxes import ious
from compact_yolo_ros.detection.detections import NO_TRACK, Detections
from compact_yolo_ros.detection.tracking.assignment import heaviest_pairs
from compact_yolo_ros.detection.tracking.motion import BoxMotion
from compact_yolo_ros.detection.tracking.options import TrackingOptions

FIRST_IOU = 0.2
"""Least IoU of a detection of a high score and a track (the paper, section 4.1)."""
SECOND_IOU = 0.5
"""That of a low score (the authors' program)."""
NEW_IOU = 0.3
"""That of a track that one image began (the authors' program)."""
LATE = 100_000_000
"""Ns that a stamp may be before the last one: images overtake each other on their way. More is a
recording that begins again, or simulated time that was set back."""
GAP = 2
"""Of the time between the two images before, in which the next one still goes on from the last: a
camera may be slower than ``buffer``."""
MOST_LOST = 300
"""Lost tracks that are kept, so that time and memory are bounded whatever a network finds."""


@dataclass
class TrackCounts:
    """What happened to the tracks so far.

    Attributes:
        new: tracks that got an id.
        lost: times that the object of a track was not found.
        refound: times that a lost one was found again.
        ended: tracks that will not come back.
        resets: times that the stamps went back, or the images were others, so that all tracks
            ended.
    """

    new: int = 0
    lost: int = 0
    refound: int = 0
    ended: int = 0
    resets: int = 0


class Tracked(NamedTuple):
    """The detections of one image with their tracks.

    Attributes:
        found: the detections with their ids; ``NO_TRACK`` for those of no track.
        tracks: those with a track, with the boxes that the filter makes of them.
    """

    found: Detections
    tracks: Detections


class ByteTracker:
    """Follows the objects of one camera.

    An object has a track when it was found in two images in a row: the id then comes with the
    second one. An id is never used again.

    Attributes:
        options: may be replaced between two images.
        counts: what happened so far.
        source: of the last image, see ``step``; None before the first.
    """

    def __init__(self, options: TrackingOptions, ids: Iterator[int] | None = None) -> None:
        """Start without tracks; ``ids`` gives the ids of new ones, by default 1, 2, 3 and so on."""
        self.options = options
        self.counts = TrackCounts()
        self.source: object = None
        self._new_ids = count(1) if ids is None else ids
        self._last: int | None = None
        self._passed = 0
        self._forget()

    @property
    def active(self) -> int:
        """Number of tracks whose object the last image shows."""
        return int(np.count_nonzero((self._ids != NO_TRACK) & ~self._lost))

    def step(self, stamp: int, found: Detections, source: object = None) -> Tracked:
        """Take the next image.

        Args:
            stamp: of the image, in ns. One that is not after the last one lets no time pass; one
                that is long before it ends all tracks.
            found: its detections from ``options.low_score`` on, best first; others are ignored.
            source: what the pixels of the boxes are of, such as frame and size of the image: in
                another one the same place is another, so that all tracks end.
        """
        self._let_pass(stamp, source)
        boxes = found.boxes.astype(np.float64)
        track_of = self._associate(found, boxes)
        self._continue(stamp, found, boxes, track_of)
        tracked = self._describe(found, track_of)
        self._lose(track_of)
        self._begin(stamp, found, boxes, track_of)
        return tracked

    def _forget(self) -> None:
        self._motion = BoxMotion()
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._labels: NDArray[np.int32] = np.empty(0, np.int32)
        self._seen: NDArray[np.int64] = np.empty(0, np.int64)
        self._lost: NDArray[np.bool_] = np.empty(0, bool)

    # Time

    def _let_pass(self, stamp: int, source: object) -> None:
        """End tracks that are lost too long, and predict where the others are."""
        last, is_other = stamp, False
        if self._last is not None:
            last, is_other = self._last, source != self.source
        self._last, self.source = stamp, source
        if is_other or stamp < last - LATE:
            self.counts.resets += 1
            self._keep(np.zeros(len(self._ids), bool))
            return
        before, self._passed = self._passed, max(0, stamp - last)
        just_seen = ~self._lost & (self._passed <= GAP * before)
        self._keep(just_seen | (stamp - self._seen <= round(self.options.buffer * 1e9)))
        self._motion.predict(self._passed * 1e-9, self._lost)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Forget all other tracks; ``kept`` is (n,)."""
        if kept.all():
            return
        self.counts.ended += int(np.count_nonzero(~kept & (self._ids != NO_TRACK)))
        self._motion.keep(kept)
        self._ids, self._labels = self._ids[kept], self._labels[kept]
        self._seen, self._lost = self._seen[kept], self._lost[kept]

    # One image

    def _associate(self, found: Detections, boxes: NDArray[np.float64]) -> NDArray[np.intp]:
        """(m,) the track of each detection; -1 if it has none."""
        overlap = ious(self._motion.boxes(), boxes)
        if self.options.by_class:
            overlap[self._labels[:, None] != found.labels] = 0.0
        high = self._is_high(found)
        low = ~high & (found.scores >= self.options.low_score)
        known = self._ids != NO_TRACK
        track_of = np.full(len(boxes), -1)
        free = np.ones(len(known), bool)
        for tracks, detections, least in (
            (known, high, FIRST_IOU),
            (known & ~self._lost, low, SECOND_IOU),
            (~known, high, NEW_IOU),
        ):
            rows = np.flatnonzero(tracks & free)
            columns = np.flatnonzero(detections & (track_of < 0))
            if not len(rows) or not len(columns):
                continue
            pairs = heaviest_pairs(overlap[rows][:, columns] - least)
            track_of[columns[pairs[:, 1]]] = rows[pairs[:, 0]]
            free[rows[pairs[:, 0]]] = False
        return track_of

    def _is_high(self, found: Detections) -> NDArray[np.bool_]:
        """(m,) which detections have a high score."""
        by_label = self.options.high_scores
        if by_label is None:
            return found.scores >= self.options.high_score
        return found.scores >= np.array(by_label, np.float32)[found.labels]

    def _continue(
        self,
        stamp: int,
        found: Detections,
        boxes: NDArray[np.float64],
        track_of: NDArray[np.intp],
    ) -> None:
        """Give the tracks that were found what was found of them, and new ones their id."""
        seen = np.flatnonzero(track_of >= 0)
        rows = track_of[seen]
        self._motion.correct(rows, boxes[seen])
        self.counts.refound += int(np.count_nonzero(self._lost[rows]))
        self._labels[rows], self._seen[rows], self._lost[rows] = found.labels[seen], stamp, False
        new = rows[self._ids[rows] == NO_TRACK]
        self._ids[new] = list(islice(self._new_ids, len(new)))
        self.counts.new += len(new)

    def _describe(self, found: Detections, track_of: NDArray[np.intp]) -> Tracked:
        seen = track_of >= 0
        rows = track_of[seen]
        ids = np.full(len(found), NO_TRACK, np.int64)
        ids[seen] = self._ids[rows]
        estimates = self._motion.boxes()[rows].astype(np.float32)
        return Tracked(
            Detections(found.boxes, found.scores, found.labels, ids),
            Detections(estimates, found.scores[seen], found.labels[seen], ids[seen]),
        )

    def _lose(self, track_of: NDArray[np.intp]) -> None:
        """Note which tracks were not found; one that a single image began ends with that."""
        missed = np.ones(len(self._ids), bool)
        missed[track_of[track_of >= 0]] = False
        self.counts.lost += int(np.count_nonzero(missed & ~self._lost & (self._ids != NO_TRACK)))
        self._lost |= missed
        self._keep(~missed | (self._ids != NO_TRACK))
        lost = np.flatnonzero(self._lost)
        if len(lost) > MOST_LOST:
            kept = np.ones(len(self._ids), bool)
            kept[lost[np.argsort(self._seen[lost])[:-MOST_LOST]]] = False
            self._keep(kept)

    def _begin(
        self,
        stamp: int,
        found: Detections,
        boxes: NDArray[np.float64],
        track_of: NDArray[np.intp],
    ) -> None:
        """Begin a track at every detection of a high score that has none, of the best ones."""
        high = self._is_high(found)
        if self.options.most is not None:
            high &= np.cumsum(high) <= self.options.most
        new = (track_of < 0) & high
        count = int(np.count_nonzero(new))
        if not count:
            return
        self._motion.add(boxes[new])
        self._ids = np.concatenate([self._ids, np.full(count, NO_TRACK, np.int64)])
        self._labels = np.concatenate([self._labels, found.labels[new]])
        self._seen = np.concatenate([self._seen, np.full(count, stamp, np.int64)])
        self._lost = np.concatenate([self._lost, np.zeros(count, bool)])
