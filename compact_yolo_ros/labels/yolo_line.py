# SPDX-License-Identifier: Apache-2.0
"""A line of YOLO's text files; whatever an object is drawn as, a box is made of it.

- ``class cx cy w h`` is a box, with a sixth number its confidence; 0: it is to be ignored;
- ``class x1 y1 x2 y2 x3 y3 ...`` is a polygon (YOLO-seg), or a rotated box (YOLO-OBB);
- ``class cx cy w h px py v ...`` is a box with keypoints (YOLO-pose), which may lack ``v``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from compact_yolo_ros.labels.ground_truth import LabelError

POLYGONS, KEYPOINTS = "polygons or rotated boxes", "boxes with keypoints"
"""What an object is drawn as, to a person."""
BEYOND = 0.1
"""How far outside of 0 to 1 a number may lie: rounding, and objects that the image cuts off."""
_NAMES = ("centre x", "centre y", "width", "height")
_VISIBILITY = {0.0, 1.0, 2.0}


class YoloObject(NamedTuple):
    """An object of an image.

    Attributes:
        label: number of its class.
        box: x1 y1 x2 y2 as fractions of the image's sides.
        confidence: 1 if there is none; 0: neither to be found nor wrong to find.
        drawn_as: POLYGONS, KEYPOINTS, or empty for a box.
    """

    label: int
    box: tuple[float, float, float, float]
    confidence: float = 1.0
    drawn_as: str = ""


def parse_line(line: str, number: int, classes: int, keypoints: int = 0) -> YoloObject:
    """Read a line.

    Args:
        line: its text.
        number: of the line, for people.
        classes: number of classes.
        keypoints: how many numbers follow a box; 0: not known, then ``v`` tells keypoints.

    Raises:
        LabelError: it is malformed, has an unknown class, or a number far outside of the image.
    """
    row = _numbers(line, number)
    if row[0] not in range(classes):
        raise LabelError(f"line {number} has class {row[0]:g}, outside 0..{classes - 1}")
    label = int(row[0])
    if len(row) <= 6:
        return YoloObject(label, _box(row, number), _confidence(row, number))
    if _has_keypoints(row, keypoints):
        return YoloObject(label, _box(row, number), drawn_as=KEYPOINTS)
    if len(row) % 2 and not keypoints:
        return YoloObject(label, _around(row[1:], number), drawn_as=POLYGONS)
    raise LabelError(
        f"line {number} has {len(row)} numbers, but a box has 5 or 6, a polygon an odd number, and"
        " a box with keypoints as many as kpt_shape in data.yaml says"
    )


def _numbers(line: str, number: int) -> list[float]:
    try:
        row = [float(value) for value in line.split()]
    except ValueError:
        row = []
    if len(row) < 5 or not all(map(math.isfinite, row)):
        raise LabelError(f"line {number} is not five numbers: class cx cy w h")
    return row


def _box(row: list[float], number: int) -> tuple[float, float, float, float]:
    for name, value in zip(_NAMES, row[1:5], strict=True):
        _check(f"a {name} of {value:g}", value, number)
    x, y, width, height = row[1:5]
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _around(corners: list[float], number: int) -> tuple[float, float, float, float]:
    """The box around corners x1 y1 x2 y2 ..."""
    for value in corners:
        _check(f"a corner at {value:g}", value, number)
    columns, rows = corners[::2], corners[1::2]
    return min(columns), min(rows), max(columns), max(rows)


def _check(what: str, value: float, number: int) -> None:
    if not -BEYOND <= value <= 1 + BEYOND:
        raise LabelError(
            f"line {number} has {what}, which is outside the image: give fractions of its sides, "
            "from 0 to 1"
        )


def _confidence(row: list[float], number: int) -> float:
    confidence = row[5] if len(row) > 5 else 1.0
    if not 0 <= confidence <= 1:
        raise LabelError(f"line {number} has confidence {confidence:g}, which is not in 0 to 1")
    return confidence


def _has_keypoints(row: list[float], keypoints: int) -> bool:
    """Whether a box is followed by keypoints; each third number is then 0, 1 or 2."""
    if keypoints:
        return len(row) == 5 + keypoints
    visibility = row[7::3]
    if (len(row) - 5) % 3 or not _VISIBILITY.issuperset(visibility):
        return False
    # A polygon along the border of the image has such numbers too, but never a 2.
    return len(row) % 2 == 0 or 2 in visibility
