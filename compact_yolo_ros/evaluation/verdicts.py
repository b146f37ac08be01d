# SPDX-License-Identifier: Apache-2.0
"""One image: a verdict on each of its detections, and what a user would have got wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation.matching import (
    FALSE,
    NOBODY,
    TRUE,
    Lanes,
    areas_of,
    judge_coco,
    judge_voc,
    match_coco,
    overlaps,
    pair_up,
)
from compact_yolo_ros.labels.ground_truth import ANY_CLASS, GroundTruth


@dataclass(frozen=True)
class Verdicts:
    """Judged detections as columns of d rows: images in order, best first within an image.

    Attributes:
        labels: (d,).
        scores: (d,).
        ranks: (d,) place among the detections of its class in its image, from 0.
        coco: (d, L) verdict in each lane.
        voc: (d,) verdict of VOC's rule at IoU 0.5.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    ranks: NDArray[np.int64]
    coco: NDArray[np.uint8]
    voc: NDArray[np.uint8]

    @classmethod
    def join(cls, parts: Sequence[Verdicts]) -> Verdicts:
        """Put the rows of several below each other."""
        names = ("labels", "scores", "ranks", "coco", "voc")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Judged:
    """One image.

    Attributes:
        verdicts: on its detections.
        labels: (n,) classes of the objects.
        counts: (L, n) whether each object is to be found in a lane.
        pairs: (m, 2) what a user sees (last lane, from the score threshold on): position of an
            object in the truth and of the detection that hit it, of the same class or not;
            ``NOBODY`` where one has no partner. Ignored detections are left out.
    """

    verdicts: Verdicts
    labels: NDArray[np.int64]
    counts: NDArray[np.bool_]
    pairs: NDArray[np.int64]


def judge(truth: GroundTruth, found: Detections, lanes: Lanes, score_threshold: float) -> Judged:
    """Judge the detections of one image; the last lane has the user's IoU threshold."""
    excluded = list(truth.unlabelled)
    wanted = np.flatnonzero(~np.isin(truth.labels, excluded))
    kept = np.flatnonzero(~np.isin(found.labels, excluded))
    order = kept[np.argsort(-found.scores[kept], kind="stable")]
    found_labels, scores = found.labels[order].astype(np.int64), found.scores[order]
    found_boxes = found.boxes[order].astype(np.float64)

    labels = truth.labels[wanted].astype(np.int64)
    places = np.concatenate((truth.boxes[wanted], truth.ignored)).astype(np.float64)
    crowd = np.arange(len(places)) >= len(labels)
    crowd_labels = truth.ignored_labels
    if crowd_labels is None:
        crowd_labels = np.full(len(truth.ignored), ANY_CLASS)
    place_labels = np.concatenate((labels, crowd_labels))
    alike = (found_labels[:, None] == place_labels) | (place_labels == ANY_CLASS)

    iou = overlaps(found_boxes, places, np.zeros_like(crowd))
    inside = overlaps(found_boxes, places, crowd)
    counts = lanes.contain(areas_of(places)) & ~crowd
    partners = match_coco(np.where(alike, inside, 0), counts, crowd, lanes)
    coco = judge_coco(partners, counts, lanes.contain(areas_of(found_boxes)))

    seen = scores >= score_threshold
    right = np.flatnonzero(seen & (coco[:, -1] == TRUE))
    wrong = np.flatnonzero(seen & (coco[:, -1] == FALSE))
    hit = partners[right, -1]
    missed = np.setdiff1d(np.arange(len(labels)), hit)
    # Within a class nothing is left to pair: these are mix-ups between classes.
    mixed = pair_up(iou[np.ix_(wrong, missed)], float(lanes.iou[-1]))
    return Judged(
        Verdicts(
            found_labels,
            scores.astype(np.float64),
            _ranks(found_labels),
            coco,
            judge_voc(np.where(alike, iou, 0), crowd),
        ),
        labels,
        counts[:, : len(labels)],
        np.concatenate(
            (
                np.column_stack((wanted[hit], order[right])),
                _with_lonely(wanted[missed], order[wrong], mixed),
            )
        ),
    )


def _ranks(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count for each label (d,) how often it occurred before."""
    order = np.argsort(labels, kind="stable")
    together = labels[order]
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.searchsorted(together, together)
    return ranks


def _with_lonely(
    missed: NDArray[np.intp], wrong: NDArray[np.intp], mixed: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Pairs (m, 2) of objects and detections: ``mixed`` (positions wrong, missed), then the rest
    with ``NOBODY``.
    """
    columns, rows = mixed.T
    unseen, invented = np.delete(missed, rows), np.delete(wrong, columns)
    return np.concatenate(
        (
            np.column_stack((missed[rows], wrong[columns])),
            np.column_stack((unseen, np.full(len(unseen), NOBODY))),
            np.column_stack((np.full(len(invented), NOBODY), invented)),
        )
    )
