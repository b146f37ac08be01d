# SPDX-License-Identifier: Apache-2.0
"""How objects are found in space; what finds them is used only where that is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from compact_yolo_ros.detection.selection import name_and_number
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.support.error_text import shortened

MOST_HEIGHT = 100.0
"""Metres."""


@dataclass(frozen=True)
class PositionOptions:
    """Where positions come from.

    Attributes:
        uses_depth: from depth images; else only directions are known, and ranges from heights.
        tolerance: most seconds between the stamps of an image and of its depth image.
        heights: metres of the objects of a label, as far as they are known.
        rectified: whether the images have no distortion any more.
    """

    uses_depth: bool = True
    tolerance: float = 0.05
    heights: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    rectified: bool = False


def class_heights(texts: Iterable[str]) -> dict[str, float]:
    """Read ``person:1.7`` for each class of known height.

    Raises:
        ValueError: a text has another form, or a class stands twice.
    """
    found: dict[str, float] = {}
    for text in filter(None, texts):
        name, metres = name_and_number(text)
        if not name or not 0 < metres <= MOST_HEIGHT:
            raise ValueError(
                f"class height '{shortened(text)}' is not of the form person:1.7, with metres up "
                f"to {MOST_HEIGHT:g}"
            )
        if name in found:
            raise ValueError(f"class '{shortened(name)}' has two heights: give one")
        found[name] = metres
    return found


def label_heights(of_classes: Mapping[str, float], card: ModelCard) -> dict[int, float]:
    """The heights by the labels of a model.

    Raises:
        ValueError: it has no class of a name.
    """
    labels = card.labels_of(of_classes)
    return dict(zip(labels, of_classes.values(), strict=True))
