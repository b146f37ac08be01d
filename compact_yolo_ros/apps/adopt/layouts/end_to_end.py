# SPDX-License-Identifier: Apache-2.0
"""One output with finished objects: YOLOv10, and exports with NMS inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.adopt.graph_builder import GraphBuilder
from compact_yolo_ros.apps.adopt.layouts.boxes import (
    are_fractions,
    at_places,
    best_of,
    corners_of,
    in_pixels,
)
from compact_yolo_ros.apps.adopt.layouts.layout import (
    CANDIDATES,
    Answers,
    Facts,
    Head,
    Layout,
    Pixels,
)

MOST_OBJECTS = 5000
# A network with NMS inside puts out zeros where it finds too little; queries of DETR never are.
UNSEEN = (
    "no object was found in noise, so boxes are taken for corners in pixels, as NMS in an export "
    "leaves them (if they are fractions: --layout detr)"
)


def read_yolov10(facts: Facts) -> Head | None:
    """Columns x1, y1, x2, y2, score and the number of the class, (K, 6), in pixels."""
    name, rows = objects(facts)
    if not name or (are_fractions(rows[:, :4]) and facts.forced != "yolov10"):
        return None
    head = finished(facts, name, rows, Pixels(), fractions=False)
    return head if rows.any() else replace(head, assumed=(UNSEEN,))


def objects(facts: Facts) -> tuple[str, NDArray[Any]]:
    """The output with finished objects (K, 6) of an image, and its name; empty without one."""
    found = [
        (name, values[0])
        for name, values in facts.of_rank(3).items()
        if values.shape[0] == 1 and values.shape[2] == 6 and _are_objects(values[0])
    ]
    return found[0] if len(found) == 1 else ("", np.empty((0, 6)))


def finished(facts: Facts, name: str, rows: NDArray[Any], pixels: Pixels, fractions: bool) -> Head:
    """Read the output ``name`` of finished objects.

    Args:
        facts: of the network.
        name: of the output.
        rows: (K, 6), of an image.
        pixels: what the network wants to see.
        fractions: boxes are cx, cy, w, h as fractions of the image, not corners in pixels.
    """
    count = min(CANDIDATES, len(rows))

    def decode(builder: GraphBuilder, outputs: Mapping[str, str]) -> Answers:
        output = outputs[name]
        labels = builder.cast(builder.column(output, 5), np.int64)
        scores, labels, places = best_of(builder, builder.column(output, 4), labels, count)
        boxes = at_places(builder, builder.slice(output, 0, 4, 2), places)
        if fractions:
            boxes = in_pixels(builder, corners_of(builder, boxes))
        return Answers(boxes, scores, labels)

    text = f"{len(rows)} finished objects"
    return Head(facts.classes, count, decode, pixels, text, needs_nms=False)


def _are_objects(rows: NDArray[Any]) -> bool:
    """Whether the last column holds numbers of classes, and the one before it scores."""
    labels, scores = rows[:, 5], rows[:, 4]
    whole = (labels == np.rint(labels)).all() and (labels >= 0).all()
    return bool(
        0 < len(rows) <= MOST_OBJECTS and whole and (scores >= 0).all() and (scores <= 1.001).all()
    )


LAYOUTS = (
    Layout("yolov10", "one output (N, K, 6): YOLOv10, YOLO26, exports with NMS", read_yolov10),
)
