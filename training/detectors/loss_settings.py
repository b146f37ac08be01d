# SPDX-License-Identifier: Apache-2.0
"""The settings of a loss, as a frozen dataclass of plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

CHOICES = {
    "kind": ("yolo", "sse", "region"),
    "box": ("giou", "ciou"),
    "gradient": ("exact", "darknet"),
    "assignment": ("anchors", "task_aligned"),
}
# Lowest and highest value of each number.
RANGES: dict[str, tuple[float, float]] = {
    "box_weight": (0, math.inf),
    "objectness_weight": (0, math.inf),
    "background_weight": (0, math.inf),
    "classes_weight": (0, math.inf),
    "ignore_iou": (0, 1),
    "ignore_score": (0, 1),
    "also_above": (0, 1),
    "label_smoothing": (0, 1),
    "anchor_pull": (0, math.inf),
    "top_k": (1, math.inf),
    "alpha": (0, math.inf),
    "beta": (0, math.inf),
}


@dataclass(frozen=True)
class LossSettings:
    """Settings of one loss. The defaults are YOLO-ReT's as published; darknet's keys in brackets.

    A detector whose grid has ``softmax`` learns its classes by the cross-entropy of the softmax
    (YOLOv2), all others by binary cross-entropy, whatever the kind.

    Attributes:
        kind: how box and objectness of a prediction are compared with the label.
            "yolo": 1 - GIoU or 1 - CIoU; binary cross-entropy of objectness.
            "sse": half the squared error of the logarithms of width and height, cross-entropy of
            the centre's place in its cell, both times 2 minus the object's share of the image;
            binary cross-entropy of objectness. The gradients are those of darknet's YOLOv3, whose
            paper (section 2.1) calls it sum of squared errors.
            "region": half the squared error of the centre's place, of the logarithms of width and
            height, and of the probability of an object (YOLOv2, darknet's region layer of 2016).
        box: overlap of kind "yolo" (iou_loss).
        gradient: of CIoU. "exact", or "darknet": through the last layer as darknet's code has it,
            without the slope of the sigmoid, the size of cell and anchor, and w^2 + h^2 in the
            aspect term, and twice the slope of IoU along width and height. Its iou_normalizer 0.07
            means this gradient.
        box_weight: of the box (iou_normalizer, coord_scale).
        objectness_weight: of objectness where a prediction is responsible for an object
            (obj_normalizer, object_scale).
        background_weight: of objectness of all other predictions (obj_normalizer,
            noobject_scale).
        classes_weight: of the classes (cls_normalizer, class_scale).
        ignore_iou: predictions that are responsible for no object but overlap one by this IoU or
            more have no objectness loss (ignore_thresh, thresh).
        ignore_score: ... if the probability of their best class also reaches this value: 0.25 in
            the code of YOLOv4's darknet, where it cannot be set.
        assignment: "anchors": predictions are assigned by the sizes of their anchors;
            "task_aligned": by what they predict (Feng et al., 2021, TOOD).
        also_above: with "anchors", every anchor whose size IoU reaches this is responsible for the
            object, not only the best one (iou_thresh); None: only the best one.
        top_k: with "task_aligned", the most predictions that are responsible for one object.
        alpha: with "task_aligned", exponent of the score.
        beta: with "task_aligned", exponent of the IoU.
        label_smoothing: share of the classes' truth that is spread evenly (label_smooth_eps).
        rescore: the target of the objectness is the IoU of the predicted box and the object, not 1
            (rescore).
        anchor_pull: with "region", until this many images have been seen, every prediction that is
            responsible for no object is drawn to its anchor in the middle of its cell, with weight
            0.01. 12800 in darknet, where it cannot be set.

    Raises:
        ValueError: a value is out of range, two settings exclude each other, or the chosen kind or
            assignment does not read a setting that is not the default.
    """

    kind: str = "yolo"
    box: str = "giou"
    gradient: str = "exact"
    box_weight: float = 1.0
    objectness_weight: float = 1.0
    background_weight: float = 1.0
    classes_weight: float = 1.0
    ignore_iou: float = 0.5
    ignore_score: float = 0.0
    assignment: str = "anchors"
    also_above: float | None = None
    top_k: int = 13
    alpha: float = 1.0
    beta: float = 6.0
    label_smoothing: float = 0.0
    rescore: bool = False
    anchor_pull: int = 0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"loss setting {name}: {getattr(self, name)!r} is unknown, "
                    f"choose one of {', '.join(choices)}"
                )
        for field in fields(self):
            if field.name in RANGES:
                _check_number(field.name, getattr(self, field.name), field.type)
        if not isinstance(self.rescore, bool):
            raise ValueError(f"loss setting rescore: {self.rescore!r} is not true or false")
        for wrong, sentence in (
            (
                self.gradient == "darknet" and (self.kind, self.box) != ("yolo", "ciou"),
                "gradient: darknet goes with kind yolo and box ciou only",
            ),
            (self.box != "giou" and self.kind != "yolo", "box: goes with kind yolo only"),
            (
                self.assignment == "task_aligned" and self.also_above is not None,
                "also_above: goes with assignment anchors only",
            ),
            (
                self.assignment == "task_aligned" and self.rescore,
                "rescore: goes with assignment anchors only, task_aligned sets objectness itself",
            ),
            (self.anchor_pull > 0 and self.kind != "region", "anchor_pull: goes with kind region"),
        ):
            if wrong:
                raise ValueError(f"loss setting {sentence}")
        for name in ("top_k", "alpha", "beta"):
            is_set = getattr(self, name) != getattr(LossSettings, name)
            if is_set and self.assignment != "task_aligned":
                raise ValueError(f"loss setting {name}: goes with assignment task_aligned only")


def _check_number(name: str, value: Any, annotation: Any) -> None:
    if value is None and "None" in annotation:
        return
    whole = annotation == "int"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"loss setting {name}: {value!r} is not a {'whole ' * whole}number")
    low, high = RANGES[name]
    if not low <= value <= high or value == math.inf:
        limits = f"{low} or more" if high == math.inf else f"from {low} to {high}"
        raise ValueError(f"loss setting {name}: {value} must be {limits}")
