# SPDX-License-Identifier: Apache-2.0
"""Areas and overlaps of boxes x1 y1 x2 y2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
