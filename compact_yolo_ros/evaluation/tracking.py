# SPDX-License-Identifier: Apache-2.0
"""How good tracks are, against labelled objects that have tracks themselves.

- HOTA: Luiten et al., "HOTA: A higher order metric for evaluating multi-object tracking", IJCV
  2021.
- MOTA, identity switches: Bernardin and Stiefelhagen, "Evaluating multiple object tracking
  performance: the CLEAR MOT metrics", EURASIP 2008; fragmentations: Li, Huang and Nevatia,
  "Learning to associate: HybridBoosted multi-target tracker for crowded scene", CVPR 2009.
- IDF1: Ristani et al., "Performance measures and a data set for multi-target, multi-camera
  tracking", ECCV workshops 2016.

Where the papers leave it open, as in passing over frames without objects or without tracks, it is
done as TrackEval does, whose numbers people compare with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.boxes import ious
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.tracking.assignment import heaviest_pairs
from compact_yolo_ros.evaluation.matching import MATCH_IOU, overlaps
from compact_yolo_ros.evaluation.sparse_assignment import heaviest_of
from compact_yolo_ros.labels.ground_truth import GroundTruth
from compact_yolo_ros.support.plain_values import JsonKey

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""The IoUs over which HOTA is a mean."""
EPSILON = float(np.finfo(float).eps)
CONTINUED = 1000.0
"""Weighs more than any overlap: MOTA's matching goes on with the pairs of the frame before."""


@dataclass(frozen=True)
class TrackingFigures:
    """The figures that are usually quoted, of all classes and sequences together.

    Ratios are nan without objects. ``missed``, ``false``, ``switches`` and ``fragmentations`` are
    those of MOTA, at an IoU of 0.5.

    Attributes:
        hota: mean over ``ALPHAS``, as the next two.
        det_a: accuracy of detection.
        ass_a: accuracy of association.
        mota: 1 - (missed + false + switches) / objects.
        idf1: part of the boxes with the right identity.
        switches: times that an object's track became another one.
        fragmentations: times that an object was tracked again after it had not been.
        missed: boxes of objects without a track.
        false: boxes of tracks without an object.
        objects: boxes of objects.
        object_tracks: tracks in the labels.
        tracks: tracks that were found.
        frames: number of frames.
    """

    hota: Annotated[float, JsonKey("HOTA")]
    det_a: Annotated[float, JsonKey("DetA")]
    ass_a: Annotated[float, JsonKey("AssA")]
    mota: Annotated[float, JsonKey("MOTA")]
    idf1: Annotated[float, JsonKey("IDF1")]
    switches: Annotated[int, JsonKey("identity switches")]
    fragmentations: int
    missed: int
    false: int
    objects: int
    object_tracks: Annotated[int, JsonKey("tracks in the labels")]
    tracks: int
    frames: int


class _Frame(NamedTuple):
    """A frame: numbers of its objects (n,) and of its tracks (m,), and their overlap (n, m)."""

    sequence: str
    objects: NDArray[np.intp]
    tracks: NDArray[np.intp]
    overlap: NDArray[np.float64]


class TrackingEvaluator:
    """Takes the frames of sequences, each in its order; it keeps their overlaps.

    Sequences may take turns, as the cameras of a recording do.
    """

    def __init__(self) -> None:
        """Start without frames."""
        self._frames: list[_Frame] = []
        self._object_numbers: dict[tuple[str, int, int], int] = {}
        self._track_numbers: dict[tuple[str, int, int], int] = {}

    def add(self, sequence: str, truth: GroundTruth, tracks: Detections) -> None:
        """Take the next frame of a sequence.

        Args:
            sequence: names it; tracks of two sequences are never the same.
            truth: with ``tracks``, none of them twice. A track in an ignored box, and at no object,
                does not count, nor do objects and tracks of its ``unlabelled`` classes.
            tracks: with ids, labels of the same classes.

        Raises:
            ValueError: one of them has no ids.
        """
        if truth.unlabelled:
            truth, tracks = _without(truth.unlabelled, truth, tracks)
        if truth.tracks is None or tracks.ids is None:
            raise ValueError(f"a frame of {sequence} has no tracks")
        overlap = ious(truth.boxes.astype(np.float64), tracks.boxes.astype(np.float64))
        overlap[truth.labels[:, None] != tracks.labels] = 0.0
        counted = (overlap >= MATCH_IOU).any(0) | ~_is_ignored(tracks, truth)
        self._frames.append(
            _Frame(
                sequence,
                _numbers(self._object_numbers, sequence, truth.labels, truth.tracks),
                _numbers(
                    self._track_numbers, sequence, tracks.labels[counted], tracks.ids[counted]
                ),
                overlap[:, counted],
            )
        )

    def result(self) -> TrackingFigures:
        """The figures of all frames so far."""
        objects = sum(len(frame.objects) for frame in self._frames)
        clear = _clear(self._frames, len(self._object_numbers))
        errors = clear.missed + clear.false + clear.switches
        met = self._meetings()
        hota, det_a, ass_a = self._hota(met) if objects else (np.full(1, np.nan),) * 3
        return TrackingFigures(
            hota=float(hota.mean()),
            det_a=float(det_a.mean()),
            ass_a=float(ass_a.mean()),
            mota=1 - errors / objects if objects else float("nan"),
            idf1=self._idf1(met) if objects else float("nan"),
            switches=clear.switches,
            fragmentations=clear.fragmentations,
            missed=clear.missed,
            false=clear.false,
            objects=objects,
            object_tracks=len(self._object_numbers),
            tracks=len(self._track_numbers),
            frames=len(self._frames),
        )

    def _hota(
        self, met: _Meetings
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """HOTA, DetA and AssA at each of ``ALPHAS``."""
        together = np.zeros(len(met.names) + 1)
        for frame in self._frames:
            overlap = frame.overlap
            rivals = overlap.sum(0) + overlap.sum(1)[:, None] - overlap
            share = np.divide(overlap, rivals, out=np.zeros_like(overlap), where=rivals > EPSILON)
            together[met.places(frame)] += share
        boxes = met.of_objects[met.objects] + met.of_tracks[met.tracks]
        alignment = np.zeros(len(met.names) + 1)
        alignment[:-1] = together[:-1] / np.maximum(boxes - together[:-1], EPSILON)
        pairs, closeness = [], []
        for frame in self._frames:
            places = met.places(frame)
            rows, columns = heaviest_pairs(alignment[places] * frame.overlap).T
            pairs.append(places[rows, columns])
            closeness.append(frame.overlap[rows, columns])
        pair, iou = np.concatenate(pairs), np.concatenate(closeness)
        found, ass_a = np.zeros(len(ALPHAS)), np.zeros(len(ALPHAS))
        for place, alpha in enumerate(ALPHAS):
            names, matches = np.unique(pair[iou >= alpha - EPSILON], return_counts=True)
            found[place] = matches.sum()
            association = (matches * matches / (boxes[names] - matches)).sum()
            ass_a[place] = association / max(found[place], 1)
        # |TP| / (|TP| + |FN| + |FP|), where objects are TP + FN and boxes of tracks TP + FP
        detection = found / np.maximum(met.of_objects.sum() + met.of_tracks.sum() - found, 1)
        return np.sqrt(detection * ass_a), detection, ass_a

    def _idf1(self, met: _Meetings) -> float:
        matches = np.zeros(len(met.names) + 1)
        for frame in self._frames:
            matches[met.places(frame)] += frame.overlap >= MATCH_IOU
        right = matches[heaviest_of(met.objects, met.tracks, matches[:-1])].sum()
        return float(2 * right / (met.of_objects.sum() + met.of_tracks.sum()))

    def _meetings(self) -> _Meetings:
        of_objects = np.zeros(len(self._object_numbers))
        of_tracks = np.zeros(len(self._track_numbers))
        names = [np.empty(0, np.intp)]
        for frame in self._frames:
            of_objects[frame.objects] += 1
            of_tracks[frame.tracks] += 1
            names.append(_names(frame, of_tracks.size)[frame.overlap > 0])
        return _Meetings(of_objects, of_tracks, np.unique(np.concatenate(names)))


class _Meetings(NamedTuple):
    """The objects and tracks that overlap in some frame: few of all pairs that there are.

    Boxes of each object (g,) and of each track (t,), and the names (p,) of the pairs, ascending.
    """

    of_objects: NDArray[np.float64]
    of_tracks: NDArray[np.float64]
    names: NDArray[np.intp]

    @property
    def objects(self) -> NDArray[np.intp]:
        """(p,) number of each pair's object."""
        return self.names // max(self.of_tracks.size, 1)

    @property
    def tracks(self) -> NDArray[np.intp]:
        """(p,) number of each pair's track."""
        return self.names % max(self.of_tracks.size, 1)

    def places(self, frame: _Frame) -> NDArray[np.intp]:
        """(n, m) where the pairs of a frame are in ``names``; p: they do not overlap there."""
        places = np.searchsorted(self.names, _names(frame, self.of_tracks.size))
        return np.where(frame.overlap > 0, places, len(self.names))


def _names(frame: _Frame, tracks: int) -> NDArray[np.intp]:
    """(n, m) a number for each pair of an object and a track of a frame."""
    return frame.objects[:, None] * tracks + frame.tracks


class _Clear(NamedTuple):
    """The errors of the CLEAR metrics."""

    missed: int
    false: int
    switches: int
    fragmentations: int


def _clear(frames: list[_Frame], objects: int) -> _Clear:
    none = -1
    last, before = np.full(objects, none), np.full(objects, none)  # the track of each object
    begins = np.zeros(objects, np.int64)
    missed = false = switches = 0
    # One sequence after the other: a frame of another camera says nothing of this one's objects.
    for frame in sorted(frames, key=lambda frame: frame.sequence):
        if not len(frame.objects) or not len(frame.tracks):
            missed, false = missed + len(frame.objects), false + len(frame.tracks)
            continue
        continued = before[frame.objects][:, None] == frame.tracks
        close = frame.overlap >= MATCH_IOU - EPSILON
        weights = np.where(close, CONTINUED * continued + frame.overlap, 0.0)
        rows, columns = heaviest_pairs(weights).T
        own, theirs = frame.objects[rows], frame.tracks[columns]
        switches += int(np.count_nonzero((last[own] != none) & (last[own] != theirs)))
        begins[own] += before[own] == none
        last[own] = theirs
        before[:] = none
        before[own] = theirs
        missed += len(frame.objects) - len(own)
        false += len(frame.tracks) - len(own)
    return _Clear(missed, false, switches, int(np.maximum(begins - 1, 0).sum()))


def _numbers(
    known: dict[tuple[str, int, int], int],
    sequence: str,
    labels: NDArray[np.integer],
    ids: NDArray[np.int64],
) -> NDArray[np.intp]:
    """A number for each track; one whose class changes is another track."""
    keys = zip(labels.tolist(), ids.tolist(), strict=True)
    return np.array([known.setdefault((sequence, *key), len(known)) for key in keys], np.intp)


def _without(
    unlabelled: frozenset[int], truth: GroundTruth, tracks: Detections
) -> tuple[GroundTruth, Detections]:
    """Leave out objects and tracks of some classes."""
    excluded = list(unlabelled)
    numbers = np.arange(max((*excluded, *truth.labels, *truth.ignored_classes)) + 1)
    numbers[excluded] = -1
    return truth.renumbered(numbers), tracks[~np.isin(tracks.labels, excluded)]


def _is_ignored(tracks: Detections, truth: GroundTruth) -> NDArray[np.bool_]:
    """(m,) whether at least half of a track's box is in an ignored one of its class, or of any."""
    inside = overlaps(
        tracks.boxes.astype(np.float64),
        truth.ignored.astype(np.float64),
        np.ones(len(truth.ignored), bool),
    )
    classes = truth.ignored_classes
    inside[(tracks.labels[:, None] != classes) & (classes >= 0)] = 0.0
    return np.asarray((inside >= MATCH_IOU).any(1))
