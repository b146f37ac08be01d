# SPDX-License-Identifier: Apache-2.0
"""Labels in COCO's JSON (https://cocodataset.org/#format-data, object detection).

Classes are the file's categories in the order of their ids, which may have gaps. Crowds are
ignored; an image without annotations shows no objects. The files that ``evaluate_bag`` writes have
three more keys: ``timestamp_ns`` and ``topic`` of an image, ``score`` of an annotation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compact_yolo_ros.labels.ground_truth import GroundTruth, LabelError
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.support.document import DocumentError
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.json_files import read_large_json

_IDS = ("id", "image_id", "category_id")

_Table = list[dict[str, Any]]


class _Row(NamedTuple):
    """An annotation as it stands in the file."""

    id: Any
    category: Any
    bbox: Any
    crowd: bool
    score: Any


@dataclass(frozen=True)
class CocoImage:
    """An image of the file.

    Attributes:
        file_name: empty if there is none.
        timestamp: stamp of the image in ns, as it stands in the file; None if there is none.
        topic: of the image; empty if there is none.
    """

    file_name: str
    timestamp: Any
    topic: str
    _sides: tuple[Any, Any] | None
    _rows: Sequence[_Row]
    _numbers: Mapping[int, int]

    def truth(self, least_score: float = 0.0) -> GroundTruth:
        """What the image shows, boxes as they stand in the file: see ``GroundTruth.clipped``.

        Its ``size`` is None where the file does not state it.

        Args:
            least_score: annotations with a lower ``score`` are left out.

        Raises:
            LabelError: an annotation of the image, or its stated size, cannot be used.
        """
        size = self._size()
        rows = [row for row in self._rows if not least_score or _score(row) >= least_score]
        for row in rows:
            if row.category not in self._numbers:
                raise LabelError(f"annotation {row.id} has the unknown category {row.category}")
        boxes = np.array([_box(row) for row in rows], np.float64).reshape(-1, 4)
        labels = np.array([self._numbers[row.category] for row in rows], np.int64)
        crowd = np.array([row.crowd for row in rows], bool)
        return GroundTruth(
            boxes[~crowd],
            labels[~crowd],
            size=size,
            ignored=boxes[crowd],
            ignored_labels=labels[crowd],
        )

    def _size(self) -> Size | None:
        if self._sides is None:
            return None
        try:
            size = Size(*map(int, self._sides))
        except (OverflowError, TypeError, ValueError):
            size = Size(0, 0)
        if min(size) < 1:
            width, height = self._sides
            raise LabelError(f"the image is stated to have {width}x{height} pixels")
        return size


@dataclass(frozen=True)
class CocoFile:
    """The content of a file.

    Attributes:
        classes: names of the categories in the order of their ids.
        images: in the order of the file.
        problems: what fits to no image: a sentence about each part of the file that is left out.
    """

    classes: tuple[str, ...]
    images: tuple[CocoImage, ...]
    problems: tuple[str, ...]


def read_coco(file: Path) -> CocoFile:
    """Read a file; its annotations are looked at when ``CocoImage.truth`` is called.

    Raises:
        LabelError: it cannot be read, or it is not in COCO's format.
    """
    content = _read_json(file)
    categories = _categories(content)
    numbers = {number: place for place, number in enumerate(categories)}
    rows: dict[Any, list[_Row]] = {}
    for entry in content["annotations"]:
        row = _Row(
            entry.get("id"),
            entry.get("category_id"),
            entry.get("bbox"),
            bool(entry.get("iscrowd")),
            entry.get("score", 1.0),
        )
        rows.setdefault(entry.get("image_id"), []).append(row)
    images: dict[Any, CocoImage] = {}
    problems = []
    for entry in content["images"]:
        number = entry.get("id")
        if number is None or number in images:
            problems.append(f"image {number} has no id, or one that another image has")
            continue
        images[number] = _image(entry, rows.get(number, ()), numbers)
    problems += [
        f"annotations of image {number}, which is not listed" for number in rows.keys() - images
    ]
    return CocoFile(tuple(categories.values()), tuple(images.values()), tuple(problems))


def read_coco_classes(file: Path) -> tuple[str, ...]:
    """Names of a file's categories in the order of their ids; see ``read_coco`` for the errors."""
    return tuple(_categories(_read_json(file)).values())


def _read_json(file: Path) -> dict[str, _Table]:
    try:
        content: dict[str, _Table] = read_large_json(file)
    except (OSError, DocumentError) as error:
        raise LabelError(f"cannot be read: {reason(error)}") from None
    for key in ("images", "categories", "annotations"):
        table = content.get(key) if isinstance(content, dict) else None
        if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
            raise LabelError(f"has no list '{key}', which COCO's object detection format needs")
        if any(isinstance(row.get(name), list | dict) for row in table for name in _IDS):
            raise LabelError(f"an id in '{key}' is neither a number nor a text")
    return content


def _categories(content: dict[str, _Table]) -> dict[int, str]:
    """Names by id, in the order of the ids."""
    try:
        rows = [(int(row["id"]), str(row["name"])) for row in content["categories"]]
    except (KeyError, OverflowError, TypeError, ValueError):
        raise LabelError("every category needs an 'id' and a 'name'") from None
    if not rows or len({i for i, _ in rows}) < len(rows) or len({n for _, n in rows}) < len(rows):
        raise LabelError("categories are missing, or one is there twice")
    return dict(sorted(rows))


def _image(entry: dict[str, Any], rows: Sequence[_Row], numbers: Mapping[int, int]) -> CocoImage:
    name = entry.get("file_name")
    stated = "height" in entry and "width" in entry
    return CocoImage(
        name if isinstance(name, str) else "",
        entry.get("timestamp_ns"),
        str(entry.get("topic") or ""),
        (entry["width"], entry["height"]) if stated else None,
        rows,
        numbers,
    )


def _box(row: _Row) -> list[float]:
    """Box xyxy of an annotation."""
    try:
        x, y, width, height = map(float, row.bbox)
    except (OverflowError, TypeError, ValueError):
        x = y = width = height = math.nan
    if not all(map(math.isfinite, (x, y, width, height))):
        raise LabelError(
            f"the 'bbox' of annotation {row.id} is not four numbers: x, y, width, height"
        )
    return [x, y, x + width, y + height]


def _score(row: _Row) -> float:
    if not isinstance(row.score, int | float) or not math.isfinite(row.score):
        raise LabelError(f"the 'score' of annotation {row.id} is not a number")
    return row.score
