# SPDX-License-Identifier: Apache-2.0
"""From the outcomes of detections to precision, recall and average precision of one class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.evaluation.matching import FALSE_POSITIVE, TRUE_POSITIVE

RECALLS = np.linspace(0, 1, 101)
"""Where COCO reads the precision."""
SCORES = np.linspace(0, 1, 1001)
"""Score thresholds of the curves."""


def precision_at_recalls(
    outcomes: NDArray[np.uint8], objects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Precision at the 101 recalls, as pycocotools interpolates it.

    Args:
        outcomes: (d, L) under L criteria, best detection of all images first.
        objects: (L,) number to be found.

    Returns:
        (L, 101); nan where there are no objects.
    """
    true = np.cumsum(outcomes == TRUE_POSITIVE, 0, dtype=np.float64)
    false = np.cumsum(outcomes == FALSE_POSITIVE, 0, dtype=np.float64)
    precision = true / (true + false + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1], 0)[::-1]
    result = np.full((len(objects), len(RECALLS)), np.nan)
    for place in np.flatnonzero(objects):
        ranks = np.searchsorted(true[:, place] / objects[place], RECALLS)
        reached = ranks < len(outcomes)
        result[place] = 0
        result[place, reached] = best[ranks[reached], place]
    return result


def highest_recall(outcomes: NDArray[np.uint8], objects: NDArray[np.int64]) -> NDArray[np.float64]:
    """Recall (L,) of all detections, outcomes (d, L); nan where there are no objects."""
    found = np.count_nonzero(outcomes == TRUE_POSITIVE, 0)
    recall: NDArray[np.float64] = np.full(len(objects), np.nan)
    np.divide(found, objects, out=recall, where=objects > 0)
    return recall


def voc_average_precision(outcomes: NDArray[np.uint8], objects: int) -> tuple[float, float]:
    """VOC's AP from outcomes (d,), best first: of 2007 (11 points), and of 2010 on (every point).

    Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010, section 4.2,
    and the development kit of 2012, section 3.4.1. nan without objects.
    """
    if not objects:
        return float("nan"), float("nan")
    counted = outcomes[outcomes <= TRUE_POSITIVE]
    true = np.cumsum(counted)
    precision = true / np.arange(1, len(true) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # Whole numbers, so that a recall of 3/10 reaches the point 0.3.
    ranks = np.searchsorted(true * 10, np.arange(11) * objects)
    eleven = best[ranks[ranks < len(true)]].sum() / 11
    return float(eleven), float(best[counted == TRUE_POSITIVE].sum() / objects)


@dataclass(frozen=True)
class ScoreCurve:
    """What happens to one class as the score threshold rises, at each of ``SCORES``.

    Attributes:
        precision_at: (1001,), nan where nothing is left.
        recall_at: (1001,), nan without objects.
        f1_at: (1001,), their harmonic mean; nan without objects.
    """

    precision_at: NDArray[np.float64]
    recall_at: NDArray[np.float64]
    f1_at: NDArray[np.float64]

    @classmethod
    def of(
        cls, scores: NDArray[np.float64], outcomes: NDArray[np.uint8], objects: int
    ) -> ScoreCurve:
        """From scores (d,), descending, their outcomes (d,), and the number of objects."""
        # in float32 as the node compares them, where 0.7 is a little less than 0.7
        kept = np.searchsorted(-scores, -SCORES.astype(np.float32), side="right")
        true = np.append(0, np.cumsum(outcomes == TRUE_POSITIVE))[kept]
        false = np.append(0, np.cumsum(outcomes == FALSE_POSITIVE))[kept]
        nothing = np.full(len(SCORES), np.nan)
        precision = np.divide(true, true + false, out=nothing.copy(), where=true + false > 0)
        if not objects:
            return cls(precision, nothing, nothing)
        return cls(precision, true / objects, 2 * true / (true + false + objects))


def best_threshold(f1_at: NDArray[np.float64]) -> float:
    """The score threshold with the best F1 (1001,), the middle one of equals.

    nan if there are no objects, or none is found at any threshold.
    """
    if not np.nanmax(f1_at, initial=0) > 0:
        return float("nan")
    best = np.flatnonzero(f1_at >= np.nanmax(f1_at) - 1e-12)
    # Equals that lie together; far apart ones would have a worse middle.
    together = best[: 1 + np.argmax(np.append(np.diff(best), 2) > 1)]
    return float(SCORES[together[len(together) // 2]])
