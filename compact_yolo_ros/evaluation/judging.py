# SPDX-License-Identifier: Apache-2.0
"""One image: a verdict on each of its detections, and what a user would have got wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detections import Detections
from compact_yolo_ros.evaluation.matching import (
    FALSE,
    TRUE,
    Lanes,
    areas_of,
    judge_coco,
    judge_voc,
    match_coco,
    overlaps,
    pair_up,
)
from compact_yolo_ros.evaluation.truth import ANY_CLASS, Truth


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
        matches: (m, 2) class of an object and class of the detection that hit it, at the user's
            thresholds (last lane); the number of classes stands for the background.
    """

    verdicts: Verdicts
    labels: NDArray[np.int64]
    counts: NDArray[np.bool_]
    matches: NDArray[np.int64]


def judge(
    truth: Truth, found: Detections, lanes: Lanes, score_threshold: float, classes: int
) -> Judged:
    """Judge the detections of one image; the last lane has the user's IoU threshold."""
    found = _best_first(found, truth.unlabelled)
    labelled = ~np.isin(truth.labels, list(truth.unlabelled))
    labels = truth.labels[labelled].astype(np.int64)
    boxes = np.concatenate((truth.boxes[labelled], truth.ignored)).astype(np.float64)
    crowd = np.arange(len(boxes)) >= len(labels)
    crowd_labels = truth.ignored_labels
    if crowd_labels is None:
        crowd_labels = np.full(len(truth.ignored), ANY_CLASS)
    place_labels = np.concatenate((labels, crowd_labels))
    alike = (found.labels[:, None] == place_labels) | (place_labels == ANY_CLASS)

    found_boxes = found.boxes.astype(np.float64)
    iou = overlaps(found_boxes, boxes, np.zeros_like(crowd))
    inside = overlaps(found_boxes, boxes, crowd)
    counts = lanes.contain(areas_of(boxes)) & ~crowd
    partners = match_coco(np.where(alike, inside, 0), counts, crowd, lanes)
    coco = judge_coco(partners, counts, lanes.contain(areas_of(found_boxes)))
    verdicts = Verdicts(
        found.labels.astype(np.int64),
        found.scores.astype(np.float64),
        _ranks(found.labels),
        coco,
        judge_voc(np.where(alike, iou, 0), crowd),
    )
    seen = found.scores >= score_threshold
    right = np.flatnonzero(seen & (coco[:, -1] == TRUE))
    wrong = np.flatnonzero(seen & (coco[:, -1] == FALSE))
    missed = np.setdiff1d(np.arange(len(labels)), partners[right, -1])
    mixed = pair_up(iou[np.ix_(wrong, missed)].T, float(lanes.iou[-1]))
    matches = _matches(labels[missed], found.labels[wrong], mixed, classes)
    hits = found.labels[right]
    return Judged(
        verdicts,
        labels,
        counts[:, : len(labels)],
        np.concatenate((np.column_stack((hits, hits)), matches)).astype(np.int64),
    )


def _best_first(found: Detections, unlabelled: frozenset[int]) -> Detections:
    kept = np.flatnonzero(~np.isin(found.labels, list(unlabelled)))
    order = kept[np.argsort(-found.scores[kept], kind="stable")]
    return Detections(found.boxes[order], found.scores[order], found.labels[order])


def _ranks(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count for each label (d,) how often it occurred before."""
    order = np.argsort(labels, kind="stable")
    together = labels[order]
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.searchsorted(together, together)
    return ranks


def _matches(
    missed: NDArray[np.integer],
    wrong: NDArray[np.integer],
    mixed: list[tuple[int, int]],
    background: int,
) -> NDArray[np.int64]:
    """Class pairs (m, 2) of missed objects and wrong detections, of which some belong together."""
    rows, columns = np.array(mixed, np.int64).reshape(-1, 2).T
    pairs = np.column_stack((missed[rows], wrong[columns]))
    unseen, invented = np.delete(missed, rows), np.delete(wrong, columns)
    return np.concatenate(
        (
            pairs,
            np.column_stack((unseen, np.full(len(unseen), background))),
            np.column_stack((np.full(len(invented), background), invented)),
        )
    )
