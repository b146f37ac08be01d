# SPDX-License-Identifier: Apache-2.0
"""Which of the objects that a network finds are kept."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.support.error_text import shortened

if TYPE_CHECKING:  # they need OpenCV, which parameters do without
    from compact_yolo_ros.detection.detections import Detections

ANY_SIZE = (0, 0)
"""Limits no width and no height."""


def name_and_number(text: str) -> tuple[str, float]:
    """Split ``person:0.6``; the name is empty without a colon, the number NaN if it is none."""
    name, _, number = text.rpartition(":")
    try:
        return name, float(number)
    except ValueError:
        return name, math.nan


def class_thresholds(texts: Iterable[str]) -> dict[str, float]:
    """Read ``person:0.6`` for each class that has a score threshold of its own.

    Raises:
        ValueError: a text has another form, or a class stands twice.
    """
    found: dict[str, float] = {}
    for text in filter(None, texts):
        name, score = name_and_number(text)
        if not name or not 0 <= score <= 1:
            raise ValueError(
                f"class threshold '{shortened(text)}' is not of the form person:0.6, with a score "
                "from 0 to 1"
            )
        if name in found:
            raise ValueError(f"class '{shortened(name)}' has two thresholds: give one")
        found[name] = score
    return found


def label_thresholds(
    of_classes: Mapping[str, float], card: ModelCard, others: float
) -> tuple[float, ...] | None:
    """The score threshold of each label of a model; None if no class has one of its own.

    Args:
        of_classes: see ``class_thresholds``.
        card: of the model.
        others: that of all other classes.

    Raises:
        ValueError: the model has no class of a name.
    """
    if not card.labels_of(of_classes):
        return None
    return tuple(of_classes.get(name, others) for name in card.classes)


@dataclass(frozen=True)
class Selection:
    """Which objects are kept.

    Attributes:
        score_threshold: candidates below it are dropped, 0 to 1.
        iou_threshold: of two boxes of one class that overlap by more, the weaker goes, 0 to 1.
        max_detections: at most this many objects, best first, at least 1.
        labels: label numbers to keep; None keeps all.
        thresholds: what is dropped of each label instead of ``score_threshold``; None if all labels
            have that.
        min_size: least width and height of a box, in pixels of the image.
        max_size: most of them; 0 is no limit.
        box_voting: boxes that suppression removes move the one that stays (``box_voting``).

    Raises:
        ValueError: a value is out of its range.
    """

    score_threshold: float = 0.3
    iou_threshold: float = 0.5
    max_detections: int = 100
    labels: frozenset[int] | None = None
    thresholds: tuple[float, ...] | None = None
    min_size: tuple[int, int] = ANY_SIZE
    max_size: tuple[int, int] = ANY_SIZE
    box_voting: bool = True

    def __post_init__(self) -> None:
        for name in ("score_threshold", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a value from 0 to 1")
        if self.max_detections < 1:
            raise ValueError(f"max_detections is {self.max_detections}: give at least 1")
        for name, least, most in zip(
            ("width", "height"), self.min_size, self.max_size, strict=True
        ):
            if 0 < most < least:
                raise ValueError(
                    f"no box can have a {name} of at least {least} and at most {most} pixels: "
                    "check min_box_size and max_box_size"
                )

    def change(self, **values: Any) -> Selection:
        """Return a copy with some values changed, checked like a new one."""
        return replace(self, **values)

    @cached_property
    def least(self) -> float:
        """The lowest score that any label may have."""
        return min(self.thresholds or (self.score_threshold,))

    @cached_property
    def of_tile(self) -> Selection:
        """What a tile is to give: of its objects, those that its edge cuts are still to go."""
        return self.change(max_detections=sys.maxsize)

    def above(self, scores: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.bool_]:
        """(n,) which scores (n,) are high enough for their labels (n,)."""
        if self.thresholds is None:
            return scores >= np.float32(self.score_threshold)
        return scores >= self._by_label[labels]

    @property
    def limits_size(self) -> bool:
        """Whether boxes of some sizes are dropped."""
        return self.min_size != ANY_SIZE or self.max_size != ANY_SIZE

    def of_size(self, found: Detections) -> Detections:
        """Those of the objects, with boxes in pixels of the image, whose size is kept."""
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        most = [side or np.inf for side in self.max_size]
        return found[np.all((sides >= self.min_size) & (sides <= most), axis=1)]

    @cached_property
    def _by_label(self) -> NDArray[np.float32]:
        return np.array(self.thresholds, np.float32)


EVERYTHING = Selection(score_threshold=0.001, iou_threshold=0.5, max_detections=100)
"""What average precision is computed of, as for the papers' tables: it needs nearly all candidates.
A user's threshold, applied afterwards, gives what that user would have got: suppression never lets
a weaker box remove a stronger one."""
