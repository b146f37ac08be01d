# SPDX-License-Identifier: Apache-2.0
"""Which detection found which object: COCO's rule, VOC's rule, and mix-ups between classes.

Every function looks at one image; where it says "one class", the caller has picked the rows.
Detections are best first everywhere. Boxes are x1 y1 x2 y2 in pixels of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.boxes import areas_of, intersections

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2
"""Outcome of a detection; an ignored one counts neither way."""
UNMATCHED = -1
"""Stands for the partner of an object, or of a detection, that has none."""
MATCH_IOU = 0.5
"""The usual least overlap of a match: VOC's, that of AP50, and of the confusion matrix."""


@dataclass(frozen=True)
class Criteria:
    """L criteria under which the same detections are matched, side by side.

    Attributes:
        iou: (L,) least overlap of a match.
        area: (L, 2) smallest and largest area in square pixels; objects outside do not count.
    """

    iou: NDArray[np.float64]
    area: NDArray[np.float64]

    def contain(self, areas: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of (n,) areas count under which criterion: (L, n)."""
        return (areas >= self.area[:, :1]) & (areas <= self.area[:, 1:])


def overlaps(
    found: NDArray[np.float64], objects: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Overlap (d, g): IoU; with a crowd (g,), the part of the detection that lies inside it."""
    common = intersections(found, objects)
    own = areas_of(found)[:, None]
    whole = np.where(crowd, own, own + areas_of(objects) - common)
    return np.divide(common, whole, out=np.zeros_like(common), where=common > 0)


def match_coco(
    overlap: NDArray[np.float64],
    counts: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    criteria: Criteria,
) -> NDArray[np.intp]:
    """COCO's greedy matching of one class (pycocotools, COCOeval.evaluateImg).

    Each detection takes, of the objects still free, the one it overlaps most; an object that does
    not count only if no other is left; a crowd any number of times.

    Args:
        overlap: (d, g).
        counts: (L, g), objects to be found under each criterion.
        crowd: (g,).
        criteria: L of them.

    Returns:
        (d, L): the object that each detection took under each criterion, or ``UNMATCHED``.
    """
    taken = np.full((len(overlap), len(criteria.iou)), UNMATCHED)
    if not overlap.size:
        return taken
    # Of equally good objects COCO takes the last, argmax the first: look at them backwards.
    backwards, counts, crowd = overlap[:, ::-1], counts[:, ::-1], crowd[::-1]
    least = np.minimum(criteria.iou, 1 - 1e-10)[:, None]
    free = np.ones(counts.shape, bool)
    each = np.arange(len(criteria.iou))
    for number in np.flatnonzero(overlap.max(1) >= least.min()):
        possible = free & (backwards[number] >= least)
        preferred = possible & counts
        possible = np.where(preferred.any(1, keepdims=True), preferred, possible)
        best = np.where(possible, backwards[number], -1.0).argmax(1)
        matched = possible[each, best]
        taken[number, matched] = overlap.shape[1] - 1 - best[matched]
        free[each[matched], best[matched]] = crowd[best[matched]]
    return taken


def coco_outcomes(
    taken: NDArray[np.intp], counts: NDArray[np.bool_], in_range: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Outcomes (d, L) of a matching.

    Args:
        taken: (d, L) from ``match_coco``.
        counts: (L, g), objects to be found.
        in_range: (L, d), detections whose own area counts; of the others, an unmatched one is
            ignored.
    """
    outcome = np.where(in_range.T, FALSE_POSITIVE, IGNORED).astype(np.uint8)
    number, place = np.nonzero(taken != UNMATCHED)
    found = counts[place, taken[number, place]]
    outcome[number, place] = np.where(found, TRUE_POSITIVE, IGNORED)
    return outcome


def voc_outcomes(
    iou: NDArray[np.float64], difficult: NDArray[np.bool_], threshold: float = MATCH_IOU
) -> NDArray[np.uint8]:
    """Outcomes (d,) by VOC's rule for one class (VOCdevkit, VOCevaldet.m).

    A detection belongs to the one object that it overlaps most, taken or not: a second one there
    is false. One that overlaps a difficult object most is ignored, however many there are.

    Args:
        iou: (d, g), plain IoU for difficult objects too.
        difficult: (g,).
        threshold: least overlap.
    """
    outcome = np.full(len(iou), FALSE_POSITIVE, np.uint8)
    if not iou.size:
        return outcome
    best = iou.argmax(1)
    close = iou.max(1) >= threshold
    outcome[close & difficult[best]] = IGNORED
    candidates = np.flatnonzero(close & ~difficult[best])
    _, first = np.unique(best[candidates], return_index=True)
    outcome[candidates[first]] = TRUE_POSITIVE
    return outcome


def pair_greedily(iou: NDArray[np.float64], threshold: float) -> NDArray[np.intp]:
    """Pair the rows and the columns of a table (n, m), closest first, each at most once.

    Returns:
        (p, 2) row and column of each pair; none has an overlap below ``threshold``.
    """
    rows, columns = np.nonzero(iou >= threshold)
    closest = np.argsort(-iou[rows, columns], kind="stable")
    free_rows, free_columns = np.ones(len(iou), bool), np.ones(iou.shape[1], bool)
    pairs = []
    for row, column in zip(rows[closest], columns[closest], strict=True):
        if free_rows[row] and free_columns[column]:
            pairs.append((row, column))
            free_rows[row] = free_columns[column] = False
    return np.array(pairs, np.intp).reshape(-1, 2)
