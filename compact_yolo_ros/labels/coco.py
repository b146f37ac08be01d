# SPDX-License-Identifier: Apache-2.0
"""Labels in COCO's JSON (https://cocodataset.org/#format-data, object detection).

Classes are the file's categories in the order of their ids, which may have gaps. Crowds are
ignored; an image without annotations shows no objects. Numbers may be texts, as Labelbox writes
them, and a size that is missing, null or 0 is not known. The objects of an image are tracked if all
of them have a ``track_id``, or one in its ``attributes`` as CVAT writes them. The files that
``evaluate_bag`` writes have three more keys: ``timestamp_ns`` and ``topic`` of an image, ``score``
of an annotation.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compact_yolo_ros.labels.ground_truth import GroundTruth, LabelError
from compact_yolo_ros.labels.loose_values import flag, whole_number
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.support.document import DocumentError
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.json_files import read_large_json

_IDS = ("id", "image_id", "category_id")

_Id = int | str | None
_Table = list[dict[str, Any]]


class _Row(NamedTuple):
    """An annotation as it stands in the file, but for the id of its category."""

    id: Any
    category: _Id
    bbox: Any
    crowd: Any
    score: Any
    track: int | None


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
    _sides: tuple[Any, Any]
    _rows: Sequence[_Row]
    _numbers: Mapping[_Id, int]

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
        crowd = np.array([_is_crowd(row) for row in rows], bool)
        tracks = [row.track for row in rows if not _is_crowd(row)]
        known = [track for track in tracks if track is not None]
        return GroundTruth(
            boxes[~crowd],
            labels[~crowd],
            size=size,
            ignored=boxes[crowd],
            ignored_labels=labels[crowd],
            tracks=np.array(known, np.int64) if len(known) == len(tracks) else None,
        )

    def _size(self) -> Size | None:
        if not all(self._sides):
            return None
        width, height = map(whole_number, self._sides)
        if width is None or height is None or min(width, height) < 0:
            raise LabelError("the image is stated to have {}x{} pixels".format(*self._sides))
        return Size(width, height) if width and height else None


@dataclass(frozen=True)
class CocoFile:
    """The content of a file.

    Attributes:
        classes: names of the categories.
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
    numbers: dict[_Id, int] = {number: place for place, number in enumerate(categories.names)}
    rows: dict[_Id, list[_Row]] = {}
    for entry in content["annotations"]:
        row = _Row(
            entry.get("id"),
            _id(entry.get("category_id")),
            entry.get("bbox"),
            entry.get("iscrowd"),
            entry.get("score", 1.0),
            _track_id(entry),
        )
        rows.setdefault(_id(entry.get("image_id")), []).append(row)
    images: dict[int | str, CocoImage] = {}
    problems = []
    for entry in content["images"]:
        number = _id(entry.get("id"))
        if number is None or number in images:
            problems.append(f"image {number} has no id, or one that another image has")
            continue
        images[number] = _image(entry, rows.get(number, ()), numbers)
    problems += [
        f"annotations of image {number}, which is not listed" for number in rows.keys() - images
    ]
    return CocoFile(tuple(categories.names.values()), tuple(images.values()), tuple(problems))


class CocoClasses(NamedTuple):
    """The classes of a file.

    Attributes:
        names: of its categories in the order of their ids.
        left_out: names of groups of classes that are no class here, because no object has them.
    """

    names: tuple[str, ...]
    left_out: tuple[str, ...]


def read_coco_classes(file: Path) -> CocoClasses:
    """The classes of a file; see ``read_coco`` for the errors."""
    found = _categories(_read_json(file))
    return CocoClasses(tuple(found.names.values()), found.left_out)


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


class _Category(NamedTuple):
    """A category; ``group`` is its ``supercategory``, empty for none."""

    id: int
    name: str
    group: str
    used: bool


class _Categories(NamedTuple):
    """Names by id in the order of the ids, and the names of groups that are no classes.

    Roboflow adds a group of all classes, without boxes.
    """

    names: dict[int, str]
    left_out: tuple[str, ...]


def _categories(content: dict[str, _Table]) -> _Categories:
    used = {_id(row.get("category_id")) for row in content["annotations"]}
    rows = sorted(_category(row, used) for row in content["categories"])
    groups = {row.group for row in rows}
    # Of unused categories of one name the last is kept, and none if another is used.
    last = {row.name: row for row in sorted(rows, key=lambda row: (row.used, row.id))}
    kept = [
        row
        for row in rows
        if row.used or (last[row.name] is row and (row.group or row.name not in groups))
    ]
    names = {row.id: row.name for row in kept}
    if not kept or len({row.id for row in rows}) < len(rows) or len({*names.values()}) < len(kept):
        raise LabelError("categories are missing, or one is there twice")
    return _Categories(names, tuple({row.name for row in rows} - {*names.values()}))


def _category(row: dict[str, Any], used: Container[_Id]) -> _Category:
    number, name = whole_number(row.get("id")), row.get("name")
    if number is None or name is None:
        raise LabelError("every category needs an 'id', which is a whole number, and a 'name'")
    group = row.get("supercategory")
    return _Category(
        number, str(name), "" if group in (None, "none") else str(group), number in used
    )


def _id(value: Any) -> _Id:
    """An id, which may be a number or a text; "7" is 7."""
    number = whole_number(value)
    return number if number is not None else value if isinstance(value, str) else None


def _is_crowd(row: _Row) -> bool:
    return flag(row.crowd, f"the 'iscrowd' of annotation {row.id}")


def _track_id(entry: dict[str, Any]) -> int | None:
    """The track of an annotation; None if it has none that is a whole number."""
    attributes = entry.get("attributes")
    inner = attributes.get("track_id") if isinstance(attributes, dict) else None
    number = whole_number(entry.get("track_id", inner))
    return None if number is None or abs(number) >= 2**63 else number


def _image(entry: dict[str, Any], rows: Sequence[_Row], numbers: Mapping[_Id, int]) -> CocoImage:
    name = entry.get("file_name")
    return CocoImage(
        name if isinstance(name, str) else "",
        entry.get("timestamp_ns"),
        str(entry.get("topic") or ""),
        (entry.get("width"), entry.get("height")),
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
    try:
        score = float(row.score) if isinstance(row.score, int | float) else math.nan
    except OverflowError:
        score = math.nan
    if not math.isfinite(score):
        raise LabelError(f"the 'score' of annotation {row.id} is not a number")
    return score
