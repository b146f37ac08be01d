# SPDX-License-Identifier: Apache-2.0
"""Areas and overlaps of boxes x1 y1 x2 y2, and boxes that a network draws without bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.model.sizes import MAX_SIDE

FARTHEST = 100.0 * MAX_SIDE
"""Pixels from the origin at which ``bounded`` cuts off boxes.

Of 65,536 classes that are moved apart by twice as much, float64 still tells 0.000002 pixels."""


def bounded(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Boxes (n, 4), those of a network, cut off at ``FARTHEST``; a copy."""
    corners = np.maximum(boxes, -FARTHEST, dtype=np.float64)
    return np.minimum(corners, FARTHEST, out=corners)


def has_area(boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(n,) which boxes (n, 4) have an area: not turned inside out, and of numbers."""
    return np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))


def areas_of(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas (n,) of boxes (n, 4)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def intersections(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Common area (n, m) of boxes (n, 4) and (m, 4)."""
    width, height = _common_sides(a, b, 0), _common_sides(a, b, 1)
    width *= height
    return width


def ious(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union (n, m) of boxes (n, 4) and (m, 4); 0 where they do not overlap."""
    common = intersections(a, b)
    union = areas_of(a)[:, None] + areas_of(b) - common
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def _common_sides(a: NDArray[np.float64], b: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Common length (n, m) along the x or the y axis."""
    common = np.minimum(a[:, None, axis + 2], b[:, axis + 2])
    common -= np.maximum(a[:, None, axis], b[:, axis])
    return np.maximum(common, 0, out=common)
