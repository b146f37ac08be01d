# SPDX-License-Identifier: Apache-2.0
"""Which detection found which object: COCO's rule, VOC's rule, and mix-ups between classes.

Every function looks at one image; where it says "one class", the caller has picked the rows.
Detections are best first everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FALSE, TRUE, IGNORED = 0, 1, 2
"""What a detection turned out to be."""
NOBODY = -1


@dataclass(frozen=True)
class Lanes:
    """Settings under which the same detections are matched, side by side.

    Attributes:
        iou: (L,) least overlap of a match.
        area: (L, 2) smallest and largest area in pixels of the image; objects outside do not count.
    """

    iou: NDArray[np.float64]
    area: NDArray[np.float64]

    def contain(self, areas: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of (n,) areas count in which lane: (L, n)."""
        return (areas >= self.area[:, :1]) & (areas <= self.area[:, 1:])


def areas_of(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas (n,) of boxes (n, 4)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def intersections(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Common area (n, m) of boxes (n, 4) and (m, 4)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    return np.maximum(sides[..., 0], 0) * np.maximum(sides[..., 1], 0)


def overlaps(
    found: NDArray[np.float64], objects: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Overlap (d, g): IoU; with a crowd, the part of the detection that lies inside it."""
    common = intersections(found, objects)
    own = areas_of(found)[:, None]
    whole = np.where(crowd, own, own + areas_of(objects) - common)
    return np.divide(common, whole, out=np.zeros_like(common), where=common > 0)


def match_coco(
    overlap: NDArray[np.float64],
    counts: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    lanes: Lanes,
) -> NDArray[np.intp]:
    """COCO's greedy matching of one class.

    Each detection takes, of the objects still free, the one it overlaps most; an object that does
    not count in the lane only if no other is left; a crowd any number of times.

    Args:
        overlap: (d, g).
        counts: (L, g), objects to be found in each lane.
        crowd: (g,).
        lanes: L settings.

    Returns:
        (d, L): the object each detection took in each lane, or ``NOBODY``.
    """
    taken = np.full((len(overlap), len(lanes.iou)), NOBODY)
    if not overlap.size:
        return taken
    # Of equally good objects COCO takes the last, argmax the first: look at them backwards.
    backwards, counts, crowd = overlap[:, ::-1], counts[:, ::-1], crowd[::-1]
    least = np.minimum(lanes.iou, 1 - 1e-10)[:, None]
    free = np.ones(counts.shape, bool)
    every_lane = np.arange(len(lanes.iou))
    for number in np.flatnonzero(overlap.max(1) >= least.min()):
        possible = free & (backwards[number] >= least)
        wanted = possible & counts
        possible = np.where(wanted.any(1, keepdims=True), wanted, possible)
        best = np.where(possible, backwards[number], -1.0).argmax(1)
        matched = possible[every_lane, best]
        taken[number, matched] = overlap.shape[1] - 1 - best[matched]
        free[every_lane[matched], best[matched]] = crowd[best[matched]]
    return taken


def judge_coco(
    taken: NDArray[np.intp], counts: NDArray[np.bool_], in_range: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Verdicts (d, L) on a matching (d, L).

    Args:
        taken: from ``match_coco``.
        counts: (L, g), objects to be found.
        in_range: (L, d), detections whose own area counts; one without partner is else ignored.
    """
    verdict = np.where(in_range.T, FALSE, IGNORED).astype(np.uint8)
    number, lane = np.nonzero(taken != NOBODY)
    verdict[number, lane] = np.where(counts[lane, taken[number, lane]], TRUE, IGNORED)
    return verdict


def judge_voc(
    iou: NDArray[np.float64], difficult: NDArray[np.bool_], threshold: float = 0.5
) -> NDArray[np.uint8]:
    """Verdicts (d,) of VOC's rule for one class (VOCdevkit, VOCevaldet.m).

    A detection is held against the one object it overlaps most, taken or not: a second one there
    is false. One that overlaps a difficult object most is ignored, however many there are.

    Args:
        iou: (d, g), plain IoU for difficult objects too.
        difficult: (g,).
        threshold: least overlap.
    """
    verdict = np.full(len(iou), FALSE, np.uint8)
    if not iou.size:
        return verdict
    best = iou.argmax(1)
    close = iou.max(1) >= threshold
    verdict[close & difficult[best]] = IGNORED
    candidates = np.flatnonzero(close & ~difficult[best])
    _, first = np.unique(best[candidates], return_index=True)
    verdict[candidates[first]] = TRUE
    return verdict


def pair_up(iou: NDArray[np.float64], threshold: float) -> NDArray[np.intp]:
    """Pairs (m, 2) of row and column of a table, closest first; nobody twice, none below
    the threshold.
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
