# SPDX-License-Identifier: Apache-2.0
"""The result of a detector on one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.letterbox import Placement

NO_TRACK = 0
"""The id of a detection that belongs to no track; those of tracks count from 1."""

Index = slice | Sequence[int] | NDArray[np.bool_] | NDArray[np.integer]


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, best first.

    ``found[found.scores > 0.5]`` takes some of them: by mask, slice or positions.

    Attributes:
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels of the source image, origin at its top left.
        scores: (n,) float32 in [0, 1].
        labels: (n,) int32, positions in the model card's ``classes``.
        ids: (n,) int64 track ids, ``NO_TRACK`` for none; None where nothing is tracked.

    Raises:
        ValueError: the arrays do not fit together.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes.shape != (count, 4):
            raise ValueError(f"boxes have shape {self.boxes.shape}, expected ({count}, 4)")
        if self.scores.shape != (count,) or self.labels.shape != (count,):
            raise ValueError(
                f"scores {self.scores.shape} and labels {self.labels.shape} must both be ({count},)"
            )
        if self.ids is not None and self.ids.shape != (count,):
            raise ValueError(f"ids have shape {self.ids.shape}, expected ({count},)")

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Index) -> Detections:
        """Some of the objects.

        Args:
            index: (n,) bool mask, slice, or integer positions in the order wanted.

        Raises:
            TypeError: the index is a single number, which would not give a list of objects.
            IndexError: a position or the length of a mask is out of range.
        """
        if isinstance(index, int | np.integer):
            raise TypeError(f"index detections with a slice or a list, as in found[[{index}]]")
        if not isinstance(index, slice) and len(index) == 0:
            index = np.empty(0, np.intp)  # an empty list would count as floats
        ids = None if self.ids is None else self.ids[index]
        return Detections(self.boxes[index], self.scores[index], self.labels[index], ids)

    @classmethod
    def empty(cls) -> Detections:
        """No objects."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """The objects of several results, in the order given; none of none.

        Raises:
            ValueError: some parts have track ids and some have none.
        """
        if not parts:
            return cls.empty()
        ids = [part.ids for part in parts if part.ids is not None]
        if ids and len(ids) < len(parts):
            raise ValueError("detections with track ids cannot be joined with those without")
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate(ids) if ids else None,
        )

    def to_source(self, placement: Placement) -> Detections:
        """The objects in pixels of the image that was placed into the network's input.

        Boxes are clipped to that image; those that lie wholly in the padding are left out.
        """
        width, height = placement.source
        boxes = placement.to_source(self.boxes)
        return Detections(boxes, self.scores, self.labels, self.ids).in_image(width, height)

    def moved(self, x: float, y: float) -> Detections:
        """The objects of a part of an image, in pixels of the image; the part begins at x, y."""
        boxes = self.boxes + np.array([x, y, x, y], np.float32)
        return Detections(boxes, self.scores, self.labels, self.ids)

    def in_area(self, x: int, y: int, width: int, height: int) -> Detections:
        """Boxes clipped to a rectangle; those that lie wholly outside are left out."""
        return self.moved(-x, -y).in_image(width, height).moved(x, y)

    def in_image(self, width: int, height: int) -> Detections:
        """Boxes clipped to an image of this size; those that lie wholly outside are left out."""
        boxes = np.clip(self.boxes, 0, np.array([width, height] * 2, self.boxes.dtype))
        visible: NDArray[np.bool_] = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        return Detections(boxes, self.scores, self.labels, self.ids)[visible]
