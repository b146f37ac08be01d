# SPDX-License-Identifier: Apache-2.0
"""What an image really shows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ANY_CLASS = -1


def _no_boxes() -> NDArray[np.float32]:
    return np.empty((0, 4), np.float32)


@dataclass(frozen=True)
class Truth:
    """The labels of one image. Boxes are x1 y1 x2 y2 in pixels of that image, origin at its top
    left; an object covering pixel columns 3 to 5 has x1 = 3 and x2 = 6.

    Attributes:
        boxes: (n, 4), what is to be found.
        labels: (n,) integers, positions in the list of classes.
        name: what a person finds the image by.
        size: (height, width) of the image in pixels.
        ignored: (m, 4), neither to be found nor wrong to find: COCO's crowds, VOC's difficult.
        ignored_labels: (m,) their classes; ``ANY_CLASS`` or None: a detection of any class there
            is ignored.
        unlabelled: classes nobody looked for in this image; they do not count in it at all.

    Raises:
        ValueError: the arrays do not fit together, or a coordinate is not finite.
    """

    boxes: NDArray[np.floating]
    labels: NDArray[np.integer]
    name: str
    size: tuple[int, int]
    ignored: NDArray[np.floating] = field(default_factory=_no_boxes)
    ignored_labels: NDArray[np.integer] | None = None
    unlabelled: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for what, boxes, labels in (
            ("boxes", self.boxes, self.labels),
            ("ignored boxes", self.ignored, self.ignored_labels),
        ):
            if boxes.ndim != 2 or boxes.shape[1] != 4:
                raise ValueError(f"{self.name}: {what} have shape {boxes.shape}, expected (n, 4)")
            if labels is not None and labels.shape != (len(boxes),):
                raise ValueError(
                    f"{self.name}: {len(boxes)} {what} have labels of shape {labels.shape}"
                )
            if not np.isfinite(boxes).all():
                raise ValueError(f"{self.name}: a coordinate of the {what} is not finite")
