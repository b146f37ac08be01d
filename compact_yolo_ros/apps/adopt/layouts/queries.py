# SPDX-License-Identifier: Apache-2.0
"""A box and scores for each query: DETR (Carion et al., 2020), RT-DETR, D-FINE, RF-DETR.

The boxes are cx, cy, w, h as fractions of the image. The scores are sigmoids of the logits or, in
the first DETR, a softmax whose last class is "no object". RF-DETR has such a logit too, and does
not read it (its documentation, "Export", ONNX Runtime).
"""

from __future__ import annotations

from collections.abc import Mapping
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
from compact_yolo_ros.apps.adopt.layouts.end_to_end import finished, objects
from compact_yolo_ros.apps.adopt.layouts.layout import (
    CANDIDATES,
    Answers,
    Facts,
    Head,
    Layout,
    Pixels,
)
from compact_yolo_ros.apps.adopt.layouts.objectness import is_logit

Values = NDArray[Any]
RF_DETR = "dets"
"""What RF-DETR calls its boxes. Its pixels are normalised as those of ImageNet."""


def read_detr(facts: Facts) -> Head | None:
    """Queries in one output (Q, 4 + C), in two of boxes and scores, or finished objects."""
    return _objects(facts) or _finished(facts) or _pair(facts) or _joined(facts)


def _objects(facts: Facts) -> Head | None:
    """One output (Q, 6) with score and class, as newer versions of Ultralytics export RT-DETR."""
    name, rows = objects(facts)
    return finished(facts, name, rows, Pixels("stretch"), fractions=True) if name else None


def _joined(facts: Facts) -> Head | None:
    """One output (Q, 4 + C), as Ultralytics exports RT-DETR."""
    rows = [(name, values) for name, values in facts.of_rank(3).items() if values.shape[0] == 1]
    if len(rows) != 1 or rows[0][1].shape[2] < 5 or not are_fractions(rows[0][1][0, :, :4]):
        return None
    ((name, values),) = rows
    classes = values.shape[2] - 4

    def split(builder: GraphBuilder, outputs: Mapping[str, str]) -> tuple[str, str]:
        output = outputs[name]
        return builder.slice(output, 0, 4, 2), builder.slice(output, 4, 4 + classes, 2)

    return _queries(facts, values[0, :, 4:], split, Pixels("stretch"))


def _pair(facts: Facts) -> Head | None:
    """Two outputs, boxes (Q, 4) and scores (Q, C), in any order."""
    found = facts.of_rank(3)
    boxes = [
        name for name, values in found.items() if values.shape[2] == 4 and are_fractions(values[0])
    ]
    scores = [name for name in found if name not in boxes]
    if len(boxes) != 1 or len(scores) != 1:
        return None
    box, score = boxes[0], scores[0]
    if found[box].shape[:2] != found[score].shape[:2]:
        return None

    def split(builder: GraphBuilder, outputs: Mapping[str, str]) -> tuple[str, str]:
        return outputs[box], outputs[score]

    has_nothing = facts.classes == found[score].shape[2] - 1
    is_rf = box == RF_DETR
    values: Any = "imagenet" if is_rf or has_nothing else "0-1"
    pixels = Pixels("stretch", values=values)
    return _queries(facts, found[score][0], split, pixels, sigmoids=is_rf)


def _queries(
    facts: Facts, scores: Values, split: Any, pixels: Pixels, sigmoids: bool = False
) -> Head:
    """Read what ``split`` returns: boxes (N, Q, 4) and scores (N, Q, C).

    Args:
        facts: of the network.
        scores: of an image.
        split: see above.
        pixels: what the network wants to see.
        sigmoids: logits are never those of a softmax, also if the last one is "no object".
    """
    logits = is_logit(scores)
    has_nothing = logits and facts.classes == scores.shape[1] - 1
    softmax = has_nothing and not sigmoids
    classes = scores.shape[1] - has_nothing
    count = min(CANDIDATES, len(scores))

    def decode(builder: GraphBuilder, outputs: Mapping[str, str]) -> Answers:
        boxes, each = split(builder, outputs)
        if softmax:
            each = builder.op("Softmax", each, axis=2)
        if has_nothing:
            each = builder.slice(each, 0, classes, 2)
        best = builder.greatest(each, 2)
        if logits and not softmax:
            best = builder.op("Sigmoid", best)
        labels = builder.op("ArgMax", each, axis=2, keepdims=0)
        best, labels, places = best_of(builder, best, labels, count)
        boxes = at_places(builder, boxes, places)
        return Answers(in_pixels(builder, corners_of(builder, boxes)), best, labels)

    kind = "softmax" if softmax else "sigmoid" if logits else "scores"
    text = f"{len(scores)} queries, {kind}"
    return Head(classes, count, decode, pixels, text, needs_nms=False)


def _finished(facts: Facts) -> Head | None:
    """Labels (Q,), boxes (Q, 4) and scores (Q,), as RT-DETR and D-FINE export themselves."""
    boxes = [name for name, values in facts.of_rank(3).items() if values.shape[2] == 4]
    flat = facts.of_rank(2)
    labels = [name for name, values in flat.items() if values.dtype.kind == "i"]
    scores = [name for name, values in flat.items() if values.dtype.kind == "f"]
    if [len(boxes), len(labels), len(scores)] != [1, 1, 1]:
        return None
    box, label, score = boxes[0], labels[0], scores[0]
    count = min(CANDIDATES, flat[score].shape[1])

    def decode(builder: GraphBuilder, outputs: Mapping[str, str]) -> Answers:
        numbers = builder.cast(outputs[label], np.int64)
        best, numbers, places = best_of(builder, outputs[score], numbers, count)
        return Answers(at_places(builder, outputs[box], places), best, numbers)

    text = f"{flat[score].shape[1]} objects, decoded"
    return Head(facts.classes, count, decode, Pixels("stretch"), text, needs_nms=False)


LAYOUTS = (
    Layout("detr", "boxes and scores of queries: DETR, RT-DETR, D-FINE, RF-DETR", read_detr),
)
