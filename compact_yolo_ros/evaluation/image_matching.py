# SPDX-License-Identifier: Apache-2.0
"""One image: the outcome of each of its detections, and what a user would have got wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.boxes import areas_of
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation.matching import (
    FALSE_POSITIVE,
    TRUE_POSITIVE,
    UNMATCHED,
    Criteria,
    coco_outcomes,
    match_coco,
    overlaps,
    pair_greedily,
    voc_outcomes,
)
from compact_yolo_ros.labels.ground_truth import ANY_CLASS, GroundTruth


@dataclass(frozen=True)
class Outcomes:
    """Detections and their outcomes: images in order, best first within an image.

    Attributes:
        labels: (d,).
        scores: (d,).
        ranks: (d,) place among the detections of its class in its image, from 0.
        coco: (d, L) outcome under each criterion.
        voc: (d,) outcome by VOC's rule at IoU 0.5.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    ranks: NDArray[np.int64]
    coco: NDArray[np.uint8]
    voc: NDArray[np.uint8]

    @classmethod
    def empty(cls, criteria: int) -> Outcomes:
        """No detections, under so many criteria."""
        none = np.empty(0, np.int64)
        coco = np.empty((0, criteria), np.uint8)
        return cls(none, np.empty(0), none, coco, np.empty(0, np.uint8))

    @classmethod
    def concatenate(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """The rows of several, in their order."""
        names = ("labels", "scores", "ranks", "coco", "voc")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class ImageMatch:
    """The detections of one image, matched with its objects.

    Attributes:
        outcomes: of the detections.
        labels: (n,) classes of the objects.
        counts: (L, n) whether each object is to be found under a criterion.
        pairs: (m, 2) what a user sees (last criterion, from the score threshold on): position of
            an object in the ground truth and of the detection that hit it, of the same class or
            not; ``UNMATCHED`` where one has no partner. Ignored detections are left out.
    """

    outcomes: Outcomes
    labels: NDArray[np.int64]
    counts: NDArray[np.bool_]
    pairs: NDArray[np.int64]


def match_image(
    truth: GroundTruth, found: Detections, criteria: Criteria, score_threshold: float
) -> ImageMatch:
    """Match the detections of one image; the last criterion has the user's IoU threshold."""
    excluded = list(truth.unlabelled)
    counted = np.flatnonzero(~np.isin(truth.labels, excluded))
    kept = np.flatnonzero(~np.isin(found.labels, excluded))
    order = kept[np.argsort(-found.scores[kept], kind="stable")]
    found_labels, scores = found.labels[order].astype(np.int64), found.scores[order]
    found_boxes = found.boxes[order].astype(np.float64)

    labels = truth.labels[counted].astype(np.int64)
    places = np.concatenate((truth.boxes[counted], truth.ignored)).astype(np.float64)
    crowd = np.arange(len(places)) >= len(labels)
    place_labels = np.concatenate((labels, truth.ignored_classes))
    alike = (found_labels[:, None] == place_labels) | (place_labels == ANY_CLASS)

    iou = overlaps(found_boxes, places, np.zeros_like(crowd))
    inside = overlaps(found_boxes, places, crowd)
    counts = criteria.contain(areas_of(places)) & ~crowd
    partners = match_coco(np.where(alike, inside, 0), counts, crowd, criteria)
    coco = coco_outcomes(partners, counts, criteria.contain(areas_of(found_boxes)))

    seen = scores >= score_threshold
    right = np.flatnonzero(seen & (coco[:, -1] == TRUE_POSITIVE))
    wrong = np.flatnonzero(seen & (coco[:, -1] == FALSE_POSITIVE))
    hit = partners[right, -1]
    missed = np.setdiff1d(np.arange(len(labels)), hit)
    # Within a class nothing is left to pair: these are mix-ups between classes.
    mixed = pair_greedily(iou[np.ix_(wrong, missed)], float(criteria.iou[-1]))
    return ImageMatch(
        Outcomes(
            found_labels,
            scores.astype(np.float64),
            _ranks(found_labels),
            coco,
            voc_outcomes(np.where(alike, iou, 0), crowd),
        ),
        labels,
        counts[:, : len(labels)],
        np.concatenate(
            (
                np.column_stack((counted[hit], order[right])),
                _with_unmatched(counted[missed], order[wrong], mixed),
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


def _with_unmatched(
    missed: NDArray[np.intp], wrong: NDArray[np.intp], mixed: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Pairs (m, 2) of objects and detections: the mix-ups, then the rest with ``UNMATCHED``.

    Args:
        missed: objects without a detection of their class.
        wrong: detections without an object of their class.
        mixed: (p, 2) positions in ``wrong`` and ``missed`` of those that belong together.
    """
    columns, rows = mixed.T
    unseen, invented = np.delete(missed, rows), np.delete(wrong, columns)
    return np.concatenate(
        (
            np.column_stack((missed[rows], wrong[columns])),
            np.column_stack((unseen, np.full(len(unseen), UNMATCHED))),
            np.column_stack((np.full(len(invented), UNMATCHED), invented)),
        )
    )
