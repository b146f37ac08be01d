# SPDX-License-Identifier: Apache-2.0
"""Rows of boxes, objectness and classes, which YOLOv5, YOLOX and darknet have in common."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from compact_yolo_ros.apps.adopt.graph_builder import GraphBuilder
from compact_yolo_ros.apps.adopt.layouts.boxes import corners
from compact_yolo_ros.apps.adopt.layouts.grid import Grid, cells_of

Values = NDArray[Any]


def objectness_scores(
    builder: GraphBuilder, rows: str, classes: int, logits: bool, softmax: bool = False
) -> tuple[str, str]:
    """Scores (N, A) and labels (N, A) of rows (N, A, 5 + C): objectness times the best class.

    Of logits the probabilities are sigmoids; with ``softmax`` those of the classes are a softmax.
    """
    objectness, each = builder.column(rows, 4), builder.slice(rows, 5, 5 + classes, 2)
    labels = builder.op("ArgMax", each, axis=2, keepdims=0)
    if softmax:
        best = builder.greatest(builder.op("Softmax", each, axis=2), 2)
        return builder.op("Mul", builder.op("Sigmoid", objectness), best), labels
    factors = [objectness, builder.greatest(each, 2)]
    if logits:
        factors = [builder.op("Sigmoid", factor) for factor in factors]
    return builder.op("Mul", *factors), labels


def decode_offsets(builder: GraphBuilder, grid: Grid, boxes: str, places: str) -> str:
    """Boxes xyxy of YOLOX's offsets (N, K, 4): ((x, y) + cell) * stride, exp(w, h) * stride."""
    cells = cells_of(builder, grid, places)
    cell = builder.join([builder.with_axis(axis, 2) for axis in (cells.x, cells.y)], 2)
    stride = builder.with_axis(cells.stride, 2)
    centres = builder.op("Add", builder.slice(boxes, 0, 2, 2), cell)
    sizes = builder.op("Exp", builder.slice(boxes, 2, 4, 2))
    return corners(builder, builder.op("Mul", centres, stride), builder.op("Mul", sizes, stride))


def is_logit(scores: Values) -> bool:
    """Whether scores are not probabilities yet."""
    return bool((scores < 0).any() or (scores > 1.001).any())
