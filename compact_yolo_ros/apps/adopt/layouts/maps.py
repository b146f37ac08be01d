# SPDX-License-Identifier: Apache-2.0
"""Raw maps of each scale, with anchors: darknet's networks and YOLOv5; without: YOLOX.

Formulas: Redmon and Farhadi, YOLOv3: An Incremental Improvement, arXiv:1804.02767, section 2.1, for
darknet; those of YOLOv5 are in its documentation, "Architecture", section 4.4. YOLOv2 has one map,
and a softmax over the classes (darknet, src/region_layer.c, with softmax=1 as all its cfgs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.adopt.error import AdoptError
from compact_yolo_ros.apps.adopt.graph_builder import GraphBuilder
from compact_yolo_ros.apps.adopt.layouts.boxes import at_places, best_of, corners, in_pixels
from compact_yolo_ros.apps.adopt.layouts.grid import Grid, cells_of
from compact_yolo_ros.apps.adopt.layouts.layout import (
    Anchors,
    Answers,
    Facts,
    Head,
    Layout,
    Pixels,
)
from compact_yolo_ros.apps.adopt.layouts.objectness import (
    decode_offsets,
    is_logit,
    objectness_scores,
)
from compact_yolo_ros.support.wording import counted

Values = NDArray[Any]
LEAST_STRIDE, LARGEST_STRIDE = 4, 128
YOLOV2 = (
    "its one map is read as YOLOv2's, with a softmax over the classes (YOLOv3 and v4 have several "
    "maps, and sigmoids)"
)


def read_darknet(facts: Facts) -> Head | None:
    """Maps (B * (5 + C), h, w) with anchors; or boxes as fractions (A, 1, 4) and scores (A, C)."""
    return _decoded(facts) or read_maps(facts, Pixels("stretch"), squared=False)


def read_maps(facts: Facts, pixels: Pixels, squared: bool) -> Head | None:
    """Maps with anchors, (B * (5 + C), h, w) or (B, h, w, 5 + C).

    Args:
        facts: of the network.
        pixels: what it wants to see.
        squared: decode as YOLOv5 does, not as darknet.
    """
    maps = _maps(facts)
    if not maps:
        return None
    if not facts.anchors:
        if len(maps) == 1 and not facts.forced:
            return None
        raise AdoptError(_needs_anchors(len(maps)))
    per_cell = len(facts.anchors[0])
    first = next(iter(maps.values()))
    wide = first.shape[4] if first.ndim == 5 else first.shape[1] / per_cell
    if len(facts.anchors) != len(maps) or wide != int(wide) or wide < 6:
        raise AdoptError(
            f"--anchors has {len(facts.anchors)} scales with {per_cell} each, which do not fit "
            f"{len(maps)} maps of {first.shape[1:]}"
        )
    grid = Grid(_strides(facts, maps), per_cell)
    if max(side for scale in facts.anchors for size in scale for side in size) < grid.strides[0]:
        raise AdoptError(
            f"all --anchors are smaller than a cell of {grid.strides[0]} pixels: give them in "
            "pixels (those in a cfg of YOLOv2 are in cells)"
        )
    return _head(facts, maps, grid, int(wide), pixels, squared)


def _needs_anchors(maps: int) -> str:
    if maps == 1:
        return (
            "it puts out 1 map that is not decoded: give its --anchors, and --layout darknet "
            "(YOLOv2) or yolov5"
        )
    return (
        f"it puts out {maps} maps that are not decoded: give their --anchors, and "
        "--layout darknet (YOLOv3, v4) or yolov5"
    )


def read_yolox_maps(facts: Facts, pixels: Pixels) -> Head | None:
    """Maps (5 + C, h, w) of YOLOX."""
    maps = _maps(facts)
    fits = len(maps) > 1 and all(
        values.ndim == 4 and values.shape[1] == 5 + facts.classes for values in maps.values()
    )
    if not (facts.classes and fits):
        return None
    return _head(facts, maps, Grid(_strides(facts, maps), 1), 5 + facts.classes, pixels, False)


def _head(
    facts: Facts,
    maps: Mapping[str, Values],
    grid: Grid,
    features: int,
    pixels: Pixels,
    squared: bool,
) -> Head:
    classes, anchors = features - 5, facts.anchors if grid.per_cell > 1 or facts.anchors else ()
    scores = [_scores(values, grid.per_cell) for values in maps.values()]
    logits = any(map(is_logit, scores))
    if not logits and anchors:
        raise AdoptError("its maps are activated already: export them raw, or decoded")
    softmax = len(maps) == 1 and bool(anchors) and not squared
    rows = facts.cells(grid.strides) * grid.per_cell
    count = facts.candidates(rows)

    def decode(builder: GraphBuilder, outputs: Mapping[str, str]) -> Answers:
        levels = [
            _as_rows(builder, outputs[name], values.ndim, grid.per_cell, features)
            for name, values in maps.items()
        ]
        joined = builder.join(levels, 1)
        best, labels = objectness_scores(builder, joined, classes, logits, softmax)
        best, labels, places = best_of(builder, best, labels, count)
        boxes = at_places(builder, builder.slice(joined, 0, 4, 2), places)
        if anchors:
            boxes = _with_anchors(builder, grid, anchors, boxes, places, squared)
        else:
            boxes = decode_offsets(builder, grid, boxes, places)
        return Answers(boxes, best, labels)

    strides = ", ".join(map(str, grid.strides))
    text = f"{counted(len(maps), 'map')}, not decoded, strides {strides}"
    assumed = (YOLOV2,) if softmax else ()
    return Head(classes, count, decode, pixels, text, assumed, follows_size=True)


def _with_anchors(
    builder: GraphBuilder, grid: Grid, anchors: Anchors, boxes: str, places: str, squared: bool
) -> str:
    """Boxes xyxy of values (N, K, 4).

    darknet: (sigmoid(xy) + cell) * stride, exp(wh) * anchor. YOLOv5: (2 * sigmoid(xy) - 0.5 + cell)
    * stride, (2 * sigmoid(wh))^2 * anchor.
    """
    op, constant = builder.op, builder.constant
    cells = cells_of(builder, grid, places)
    cell = builder.join([builder.with_axis(axis, 2) for axis in (cells.x, cells.y)], 2)
    sizes = [size for scale in anchors for size in scale]
    anchor = op("Gather", constant(sizes), cells.anchor, axis=0)
    centres = op("Sigmoid", builder.slice(boxes, 0, 2, 2))
    extents = builder.slice(boxes, 2, 4, 2)
    if squared:
        centres = op("Sub", op("Mul", centres, constant(2)), constant(0.5))
        doubled = op("Mul", op("Sigmoid", extents), constant(2))
        extents = op("Mul", doubled, doubled)
    else:
        extents = op("Exp", extents)
    centres = op("Mul", op("Add", centres, cell), builder.with_axis(cells.stride, 2))
    return corners(builder, centres, op("Mul", extents, anchor))


def _as_rows(builder: GraphBuilder, level: str, rank: int, per_cell: int, features: int) -> str:
    """A map as rows (N, h * w * B, 5 + C), ordered by cell, then anchor."""
    if rank == 5:
        rows = builder.reshape(level, 0, per_cell, -1, features)
        rows = builder.op("Transpose", rows, perm=[0, 2, 1, 3])
    else:
        rows = builder.reshape(level, 0, per_cell, features, -1)
        rows = builder.op("Transpose", rows, perm=[0, 3, 1, 2])
    return builder.reshape(rows, 0, -1, features)


def _maps(facts: Facts) -> dict[str, Values]:
    """Outputs that are maps of different strides, the smallest stride first."""
    found = {}
    for name, values in {**facts.of_rank(4), **facts.of_rank(5)}.items():
        height, width = values.shape[2:4]
        stride = facts.size.width / width
        regular = stride == facts.size.height / height and stride == int(stride)
        if not regular or not LEAST_STRIDE < stride <= LARGEST_STRIDE:
            return {}
        found[name] = values
    maps = dict(sorted(found.items(), key=lambda item: -item[1].shape[3]))
    widths = {values.shape[3] for values in maps.values()}
    channels = {(values.ndim, values.shape[1], *values.shape[4:]) for values in maps.values()}
    return maps if len(widths) == len(maps) and len(channels) == 1 else {}


def _strides(facts: Facts, maps: Mapping[str, Values]) -> tuple[int, ...]:
    return tuple(facts.size.width // values.shape[3] for values in maps.values())


def _scores(values: Values, per_cell: int) -> Values:
    """Objectness of a map, in any shape."""
    if values.ndim == 5:
        return np.asarray(values[..., 4])
    return np.asarray(values[:, 4 :: values.shape[1] // per_cell])


def _decoded(facts: Facts) -> Head | None:
    """Boxes xyxy as fractions (A, 1, 4) and scores (A, C), as YOLOv4 for PyTorch exports them."""
    boxes = [name for name, values in facts.of_rank(4).items() if values.shape[2:] == (1, 4)]
    scores = list(facts.of_rank(3))
    if len(boxes) != 1 or len(scores) != 1:
        return None
    box, score = boxes[0], scores[0]
    rows, classes = facts.outputs[score].shape[1:]
    if facts.outputs[box].shape[1] != rows:
        return None
    count = facts.candidates(rows)

    def decode(builder: GraphBuilder, outputs: Mapping[str, str]) -> Answers:
        each = outputs[score]
        labels = builder.op("ArgMax", each, axis=2, keepdims=0)
        best, labels, places = best_of(builder, builder.greatest(each, 2), labels, count)
        boxes = at_places(builder, builder.reshape(outputs[box], 0, -1, 4), places)
        return Answers(in_pixels(builder, boxes), best, labels)

    return Head(classes, count, decode, Pixels("stretch"), f"{rows} boxes, decoded")


LAYOUTS: Sequence[Layout] = (
    Layout("darknet", "maps of each scale with --anchors: YOLOv2 to v4", read_darknet),
)
