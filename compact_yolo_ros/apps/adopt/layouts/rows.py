# SPDX-License-Identifier: Apache-2.0
"""One output with a row for each anchor: YOLOv8 and its successors, YOLOv5 to 7, YOLOX.

Formulas: Ge et al., YOLOX: Exceeding YOLO Series in 2021, arXiv:2107.08430, for boxes that are
offsets; the others are decoded by their exporters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.adopt.error import AdoptError
from compact_yolo_ros.apps.adopt.graph_builder import GraphBuilder
from compact_yolo_ros.apps.adopt.layouts.boxes import (
    at_places,
    best_of,
    corners_of,
    in_pixels,
)
from compact_yolo_ros.apps.adopt.layouts.grid import (
    Grid,
    find_grid,
    scale_of_centres,
)
from compact_yolo_ros.apps.adopt.layouts.layout import Answers, Facts, Head, Layout, Pixels
from compact_yolo_ros.apps.adopt.layouts.maps import read_maps, read_yolox_maps
from compact_yolo_ros.apps.adopt.layouts.objectness import (
    decode_offsets,
    is_logit,
    objectness_scores,
)

Values = NDArray[Any]
YOLOX = Pixels("corner", "bgr", "0-255")


def read_yolov8(facts: Facts) -> Head | None:
    """Columns cx, cy, w, h and a score for each class, (4 + C, A) or (A, 4 + C)."""
    name, values = _single(facts)
    if not name:
        return None
    turned = find_grid(facts, values.shape[2], (1,)) is not None
    rows = values[0].T if turned else values[0]
    grid = find_grid(facts, len(rows), (1,))
    classes = rows.shape[1] - 4
    if grid is None or classes < 1 or (not turned and facts.classes != classes):
        return None
    _refuse_masks(facts, classes)
    scale = scale_of_centres(facts, grid, rows[:, 0]) or 1.0
    count = facts.candidates(len(rows))

    def decode(builder: GraphBuilder, outputs: Mapping[str, str]) -> Answers:
        output = outputs[name]
        axis = 1 if turned else 2
        scores = builder.slice(output, 4, 4 + classes, axis)
        labels = builder.op("ArgMax", scores, axis=axis, keepdims=0)
        scores, labels, places = best_of(builder, builder.greatest(scores, axis), labels, count)
        boxes = builder.slice(output, 0, 4, axis)
        if turned:
            boxes = builder.op("Transpose", boxes, perm=[0, 2, 1])
        boxes = at_places(builder, boxes, places)
        return Answers(_scaled(builder, corners_of(builder, boxes), scale), scores, labels)

    return Head(
        classes, count, decode, Pixels(), f"{len(rows)} boxes, decoded, strides {_text(grid)}"
    )


def read_yolov5(facts: Facts) -> Head | None:
    """Columns cx, cy, w, h, objectness and the classes, (A, 5 + C), in pixels."""
    name, values = _single(facts)
    if not name and facts.forced == "yolov5":
        return read_maps(facts, Pixels(), squared=True)
    grid = find_grid(facts, values.shape[1], (3, 1, 4)) if name else None
    if grid is None or values.shape[2] < 6:
        return None
    rows = values[0]
    # YOLOv6 has one row a cell and no objectness: it is 1 everywhere.
    if grid.per_cell == 1 and facts.forced != "yolov5" and not (rows[:, 4] == 1).all():
        return None
    scale = scale_of_centres(facts, grid, rows[:, 0])
    if not scale:
        raise AdoptError(
            "its rows look like YOLOv5's, but the boxes are not decoded: export it with its "
            "detection head in evaluation mode"
        )
    return _with_objectness(facts, name, rows, grid, scale, Pixels())


def read_yolox(facts: Facts) -> Head | None:
    """The columns of YOLOv5, one row for each cell, decoded or not."""
    name, values = _single(facts)
    if not name:
        head = read_yolox_maps(facts, YOLOX)
    else:
        grid = find_grid(facts, values.shape[1], (1,))
        if grid is None or values.shape[2] < 6:
            return None
        scale = scale_of_centres(facts, grid, values[0, :, 0])
        head = _with_objectness(facts, name, values[0], grid, scale, YOLOX)
    newer = "it is of YOLOX 0.2 or later, which takes pixels as they are (0 to 255)"
    return replace(head, assumed=(newer,)) if head else None


def _with_objectness(
    facts: Facts, name: str, rows: Values, grid: Grid, scale: float, pixels: Pixels
) -> Head:
    """Read rows cx, cy, w, h, objectness, classes; ``scale`` 0 says that they are offsets."""
    classes = rows.shape[1] - 5
    _refuse_masks(facts, classes)
    count = facts.candidates(len(rows))
    logits = is_logit(rows[:, 4:])

    def decode(builder: GraphBuilder, outputs: Mapping[str, str]) -> Answers:
        output = outputs[name]
        scores, labels = objectness_scores(builder, output, classes, logits)
        scores, labels, places = best_of(builder, scores, labels, count)
        boxes = at_places(builder, builder.slice(output, 0, 4, 2), places)
        if scale:
            boxes = _scaled(builder, corners_of(builder, boxes), scale)
        else:
            boxes = decode_offsets(builder, grid, boxes, places)
        return Answers(boxes, scores, labels)

    how = "decoded" if scale else "not decoded"
    text = f"{len(rows)} boxes, {how}, strides {_text(grid)}"
    return Head(classes, count, decode, pixels, text, follows_size=not scale)


def _scaled(builder: GraphBuilder, boxes: str, scale: float) -> str:
    return boxes if scale == 1 else in_pixels(builder, boxes)


def _single(facts: Facts) -> tuple[str, Values]:
    """The output with rows of an image; what else there is, is for training or for masks."""
    found = [
        (name, values)
        for name, values in facts.of_rank(3).items()
        if values.shape[0] == 1 and min(values.shape[1:]) >= 5
    ]
    return found[0] if len(found) == 1 else ("", np.empty((0, 0, 0)))


def _refuse_masks(facts: Facts, classes: int) -> None:
    """Raise AdoptError if the rows have more than boxes and classes."""
    if any(values.shape[1] == 32 for values in facts.of_rank(4).values()):
        raise AdoptError("it is a network for segmentation: give one for detection")
    if facts.classes and classes > facts.classes:
        more = classes - facts.classes
        raise AdoptError(
            f"it has {more} more values for each box than {facts.classes} classes, like networks "
            "for segmentation, poses or rotated boxes: give one for detection, or all of its "
            "classes with --classes"
        )


def _text(grid: Grid) -> str:
    return ", ".join(map(str, grid.strides))


LAYOUTS = (
    Layout("yolov8", "one output (N, 4 + C, A): YOLOv8, v9, v11, v12, YOLOv5u", read_yolov8),
    Layout("yolov5", "one output (N, A, 5 + C), decoded: YOLOv5, v6, v7", read_yolov5),
    Layout("yolox", "one output (N, A, 5 + C), a row for each cell", read_yolox),
)
