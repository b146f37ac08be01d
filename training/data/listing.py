# SPDX-License-Identifier: Apache-2.0
"""What the readers of all formats return: pictures, and what is known of each before decoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Editors of Windows write a mark before the first line.
ENCODING = "utf-8-sig"


class BadFile(NamedTuple):
    """A file that a data set goes without, and why (half a sentence)."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Annotation:
    """What is drawn on one image.

    Attributes:
        boxes: (n, 4) float64, xyxy in pixels; the image begins at 0, the edge of its first pixel.
        labels: (n,) int64, class numbers.
        ignored: (n,) bool, boxes neither to be found nor wrong to find.
        unlabelled: classes that may be there without a box.
        confidence: (n,) float32 in (0, 1], below 1 for boxes that a teacher drew; None: all 1.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    unlabelled: frozenset[int] = frozenset()
    confidence: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Picture:
    """An image file, not looked at yet.

    Attributes:
        path: of the image.
        labels: the file to blame if ``annotate`` fails.
        annotate: (height, width) -> what is drawn on it; ValueError or OSError says why it cannot.
    """

    path: Path
    labels: Path
    annotate: Callable[[int, int], Annotation]


@dataclass(frozen=True)
class Listing:
    """One split of a data set: its class names, pictures, and files known to be bad already."""

    classes: tuple[str, ...]
    pictures: list[Picture]
    bad_files: list[BadFile] = field(default_factory=list)


def clip(boxes: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Clip boxes (n, 4) xyxy to the image; ValueError if nothing of one is left."""
    clipped = boxes.clip(0, (width, height, width, height))
    gone = ~(clipped[:, 2:] > clipped[:, :2]).all(1)
    if gone.any():
        row = gone.argmax()
        corners = ", ".join(f"{value:g}" for value in boxes[row])
        raise ValueError(f"box {row + 1} ({corners}) is empty or outside the image")
    return clipped


def check_size(height: int, width: int, stated_height: int, stated_width: int) -> None:
    """Raise ValueError if an image has not the size that its annotation states."""
    if (height, width) != (stated_height, stated_width):
        raise ValueError(
            f"the annotation is for {stated_width}x{stated_height} pixels, the image has"
            f" {width}x{height}"
        )
