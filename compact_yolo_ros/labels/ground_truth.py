# SPDX-License-Identifier: Apache-2.0
"""The objects of one labelled image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.model.sizes import Size

ANY_CLASS = -1
"""Stands for the class of an ignored box in which detections of every class are ignored."""
RELATIVE = Size(1, 1)
"""The ``size`` of labels whose coordinates are fractions of the image's sides, as YOLO has them."""
LARGEST_SIDE = 2**53
"""Pixels; a file may state any number."""


class LabelError(ValueError):
    """The labels of an image, or a file of labels, cannot be used.

    The message says why, but not in which file: who reads the labels puts its name in front.
    """


def _no_boxes() -> NDArray[np.float32]:
    return np.empty((0, 4), np.float32)


@dataclass(frozen=True)
class GroundTruth:
    """What one labelled image shows.

    Boxes are x1 y1 x2 y2 in pixels of the labelled image, origin at its top left; an object that
    covers the pixel columns 3 to 5 has x1 = 3 and x2 = 6.

    Attributes:
        boxes: (n, 4), the objects to be found.
        labels: (n,) integers, positions in the list of classes.
        name: names the image to a person; empty if the caller knows it.
        size: of the labelled image, which the boxes refer to; ``RELATIVE``; None if not known.
        ignored: (m, 4), neither to be found nor wrong to find: COCO's crowds, VOC's difficult ones.
        ignored_labels: (m,) their classes; ``ANY_CLASS`` or None: a detection of any class there
            is ignored.
        unlabelled: classes that may be in the image without a box; they do not count in it.
        confidence: (n,) float32 in (0, 1], below 1 for boxes that a model drew; None: all 1.
        drawn_as: what the objects were drawn as, to a person; empty if they were boxes.
        tracks: (n,) int64, which objects of a sequence are the same; None if it is not known.

    Raises:
        LabelError: the arrays do not fit together, or a coordinate is not finite.
    """

    boxes: NDArray[np.floating]
    labels: NDArray[np.integer]
    name: str = ""
    size: Size | None = None
    ignored: NDArray[np.floating] = field(default_factory=_no_boxes)
    ignored_labels: NDArray[np.integer] | None = None
    unlabelled: frozenset[int] = frozenset()
    confidence: NDArray[np.float32] | None = None
    drawn_as: str = ""
    tracks: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        image = f"{self.name}: " if self.name else ""
        for what, boxes, labels in (
            ("boxes", self.boxes, self.labels),
            ("ignored boxes", self.ignored, self.ignored_labels),
        ):
            if boxes.ndim != 2 or boxes.shape[1] != 4:
                raise LabelError(f"{image}{what} have shape {boxes.shape}, expected (n, 4)")
            if labels is not None and labels.shape != (len(boxes),):
                raise LabelError(f"{image}{len(boxes)} {what} have labels of shape {labels.shape}")
            if not np.isfinite(boxes).all():
                raise LabelError(f"{image}a coordinate of the {what} is not finite")

    def __len__(self) -> int:
        """Number of objects to be found."""
        return len(self.labels)

    @property
    def ignored_classes(self) -> NDArray[np.integer]:
        """(m,) classes of the ignored boxes; ``ANY_CLASS`` for all if none is given."""
        given = self.ignored_labels
        return np.full(len(self.ignored), ANY_CLASS) if given is None else given

    @classmethod
    def empty(cls) -> GroundTruth:
        """An image without objects."""
        return cls(np.empty((0, 4)), np.empty(0, np.int64))

    def in_pixels_of(self, size: Size) -> GroundTruth:
        """The same objects in an image of another size, into which the labelled one was scaled."""
        if self.size is None or self.size == size:
            return replace(self, size=size)
        scale = np.array([size.width / self.size.width, size.height / self.size.height] * 2)
        return replace(self, boxes=self.boxes * scale, ignored=self.ignored * scale, size=size)

    def clipped(self) -> GroundTruth:
        """The same objects with their boxes clipped to the image, where its size is known.

        Raises:
            LabelError: a box is empty, or lies outside the image.
        """
        return replace(
            self,
            boxes=_clip(self.boxes, self.size, "box"),
            ignored=_clip(self.ignored, self.size, "ignored box"),
        )

    def renumbered(
        self, numbers: NDArray[np.integer], unlabelled: frozenset[int] = frozenset()
    ) -> GroundTruth:
        """The same image labelled with the classes of another list.

        Args:
            numbers: new number of each class; objects and ignored boxes of a class with -1 are
                left out.
            unlabelled: further classes, of the new list, that may be there without a box.
        """
        labels = numbers[self.labels]
        kept = labels >= 0
        ignored, ignored_labels = self.ignored, self.ignored_labels
        if ignored_labels is not None:
            anywhere = ignored_labels < 0
            new = np.where(anywhere, ANY_CLASS, numbers[ignored_labels])
            known = anywhere | (new >= 0)
            ignored, ignored_labels = ignored[known], new[known]
        absent = numbers[list(self.unlabelled)]
        return replace(
            self,
            boxes=self.boxes[kept],
            labels=labels[kept],
            ignored=ignored,
            ignored_labels=ignored_labels,
            unlabelled=unlabelled | frozenset(absent[absent >= 0].tolist()),
            confidence=None if self.confidence is None else self.confidence[kept],
            tracks=None if self.tracks is None else self.tracks[kept],
        )


def _clip(boxes: NDArray[np.floating], size: Size | None, what: str) -> NDArray[np.floating]:
    """Clip boxes (n, 4) to an image; LabelError if nothing of one is left."""
    clipped = boxes
    if size is not None:
        clipped = boxes.clip(0, [min(side, LARGEST_SIDE) for side in size] * 2)
    gone = ~(clipped[:, 2:] > clipped[:, :2]).all(1)
    if gone.any():
        row = int(gone.argmax())
        corners = ", ".join(f"{value:g}" for value in boxes[row])
        outside = "" if size is None else " or outside the image"
        raise LabelError(f"{what} {row + 1} ({corners}) is empty{outside}")
    return clipped
