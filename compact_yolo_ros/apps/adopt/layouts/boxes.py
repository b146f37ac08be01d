# SPDX-License-Identifier: Apache-2.0
"""Operators that all layouts share: the best rows, and their boxes as corners in pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.adopt.graph_builder import GraphBuilder

MOST_QUERIES = 2000
LARGEST_FRACTION = 2.0
"""Of an image that a box may reach; a box in pixels is far beyond."""


def best_of(builder: GraphBuilder, scores: str, labels: str, count: int) -> tuple[str, str, str]:
    """Take the best rows.

    Args:
        builder: of the graph.
        scores: (N, A).
        labels: (N, A), int64.
        count: K.

    Returns:
        Scores (N, K), labels (N, K), and their places (N, K) among the rows.
    """
    best, places = builder.best(scores, count)
    return best, builder.op("GatherElements", labels, places, axis=1), places


def at_places(builder: GraphBuilder, rows: str, places: str) -> str:
    """Take the rows (N, K, F) at places (N, K) of (N, A, F).

    GatherElements would do too, but OpenVINO 2026 loses a slice of columns that is before it.
    """
    return builder.op("GatherND", rows, builder.with_axis(places, 2), batch_dims=1)


def corners(builder: GraphBuilder, centres: str, sizes: str) -> str:
    """Boxes xyxy (N, K, 4) of centres (N, K, 2) and sizes (N, K, 2)."""
    half = builder.op("Mul", sizes, builder.constant(0.5))
    ends = [builder.op(kind, centres, half) for kind in ("Sub", "Add")]
    return builder.join(ends, 2)


def corners_of(builder: GraphBuilder, boxes: str) -> str:
    """Boxes xyxy of boxes cxcywh, (N, K, 4)."""
    return corners(builder, builder.slice(boxes, 0, 2, 2), builder.slice(boxes, 2, 4, 2))


def in_pixels(builder: GraphBuilder, boxes: str) -> str:
    """Boxes (N, K, 4) in input pixels of boxes as fractions of the input."""
    sides = builder.op(
        "Concat", *(builder.with_axis(side, 0) for side in (builder.width, builder.height)), axis=0
    )
    sides = builder.cast(builder.op("Concat", sides, sides, axis=0), np.float32)
    return builder.op("Mul", boxes, sides)


def are_fractions(boxes: NDArray[Any]) -> bool:
    """Whether boxes (Q, 4) are fractions of the image.

    Those that are all zeros tell nothing: NMS in an export fills up with them.
    """
    few = len(boxes) <= MOST_QUERIES and boxes.any()
    boxes = boxes[boxes.any(axis=1)]
    return bool(few and (boxes >= 0).all() and (boxes <= LARGEST_FRACTION).all())
