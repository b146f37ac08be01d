# SPDX-License-Identifier: Apache-2.0
"""One labelled image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def no_boxes() -> NDArray[np.float32]:
    """Return an empty table of boxes."""
    return np.zeros((0, 4), np.float32)


class Mosaic(NamedTuple):
    """What is not labelled in each of the four parts of a mosaic.

    Attributes:
        seam: (x, y) in pixels where the parts meet.
        unlabelled: classes that may be there without a box: left above, right above, left below,
            right below.
    """

    seam: tuple[int, int]
    unlabelled: tuple[frozenset[int], ...]


@dataclass(frozen=True)
class Sample:
    """One labelled image. Boxes are float32, x1 y1 x2 y2 in pixels of the image.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        boxes: (n, 4).
        labels: (n,) int64.
        name: file name without suffix.
        ignored: (m, 4), objects that count neither as missed nor as false detections (difficult
            ones of VOC, crowds of COCO).
        confidence: (n,) float32 in (0, 1], below 1 for boxes that a teacher drew; None: all 1.
        unlabelled: classes that may be in the image without a box (partial labels).
        large: the image of a camera, which is halved before it is resized, as in the node.
        mosaic: in which parts the unlabelled classes may be; None: anywhere.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    name: str
    ignored: NDArray[np.float32] = field(default_factory=no_boxes)
    confidence: NDArray[np.float32] | None = None
    unlabelled: frozenset[int] = frozenset()
    large: bool = False
    mosaic: Mosaic | None = None
