# SPDX-License-Identifier: Apache-2.0
"""What the listings of all formats return: images, and where the labels of each are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from compact_yolo_ros.labels.ground_truth import RELATIVE, GroundTruth, LabelError
from compact_yolo_ros.model.sizes import Size


class BadFile(NamedTuple):
    """A file that a data set leaves out, and why (half a sentence)."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ListedImage:
    """An image file that nobody has opened yet.

    Attributes:
        path: of the image.
        label_file: the file to name if ``read`` fails; None: there is none, so the image shows no
            objects.
        read: reads what the image shows; LabelError or OSError says why it cannot.
        repeat: how often it is shown in an epoch.
    """

    path: Path
    label_file: Path | None
    read: Callable[[], GroundTruth]
    repeat: int = 1

    def in_image_of(self, size: Size) -> GroundTruth:
        """What the image of ``size`` shows, boxes in its pixels, not yet clipped.

        Raises:
            LabelError: the labels cannot be used, or are for an image of another size.
            OSError: they cannot be read.
        """
        found = self.read()
        if found.size not in (None, RELATIVE, size):
            raise LabelError(
                f"the labels are for an image of {found.size} pixels, this one has {size}"
            )
        return found.in_pixels_of(size)


@dataclass(frozen=True)
class Listing:
    """One split of a data set: its class names, images, and files known to be bad already."""

    classes: tuple[str, ...]
    images: list[ListedImage]
    bad_files: list[BadFile] = field(default_factory=list)
