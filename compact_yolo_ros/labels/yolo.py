# SPDX-License-Identifier: Apache-2.0
"""Labels in YOLO's text files: a file an image, a line ``class cx cy w h`` an object.

Centre and size are fractions of the image's sides; ``yolo_line`` has the other kinds of lines. An
empty file is an image without objects. The names of the classes are in a ``data.yaml`` or a
``classes.txt``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compact_yolo_ros.labels.ground_truth import RELATIVE, GroundTruth, LabelError
from compact_yolo_ros.labels.yolo_line import parse_line
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.files import read_file
from compact_yolo_ros.support.yaml_files import read_yaml

ENCODING = "utf-8-sig"
"""Editors of Windows write a mark before the first line."""
DESCRIPTION = "data.yaml"
CLASSES_FILE, DARKNET_NAMES = "classes.txt", "obj.names"
"""Where labelling tools write the names of the classes, a line each."""
LARGEST = 20_000_000
"""Bytes of the labels of an image; a thousand outlines of a thousand corners are that large."""
LARGEST_LIST = 256_000_000
"""Bytes of a list of images; one of a million has about 100 MB."""
_LONGEST_LINE = 100_000


def read_labels(file: Path, classes: int, keypoints: int = 0) -> GroundTruth:
    """Read the labels of one image.

    Args:
        file: the text file.
        classes: number of classes.
        keypoints: how many numbers follow a box, see ``keypoint_numbers``; 0: not known.

    Returns:
        Boxes as fractions of the image's sides (``RELATIVE``), see ``GroundTruth.clipped``.

    Raises:
        LabelError: see ``parse_labels``.
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    return parse_labels(read_lines(file), classes, keypoints)


def read_lines(file: Path, limit: int = LARGEST) -> list[str]:
    """Lines of a text file of at most ``limit`` bytes.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    return read_file(file, limit).decode(ENCODING).splitlines()


def parse_labels(lines: Sequence[str], classes: int, keypoints: int = 0) -> GroundTruth:
    """Read label lines; see ``read_labels``.

    Raises:
        LabelError: a line is malformed, has an unknown class, or a number far outside of the image.
    """
    objects = [
        parse_line(line, number, classes, keypoints)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    boxes = np.array([item.box for item in objects], np.float64).reshape(-1, 4)
    labels = np.array([item.label for item in objects], np.int64)
    confidence = np.array([item.confidence for item in objects], np.float32)
    counts = confidence > 0
    return GroundTruth(
        boxes[counts],
        labels[counts],
        size=RELATIVE,
        ignored=boxes[~counts],
        ignored_labels=labels[~counts],
        confidence=None if (confidence[counts] == 1).all() else confidence[counts],
        drawn_as=max((item.drawn_as for item in objects), default=""),
    )


def is_labels(file: Path) -> bool:
    """Whether a text file looks like labels: its first line is a row of numbers."""
    try:
        with file.open(encoding=ENCODING) as content:
            row = content.readline(_LONGEST_LINE).split()
        return len(row) >= 5 and all(math.isfinite(float(value)) for value in row[:5])
    except (OSError, ValueError):
        return False


def keypoint_numbers(content: Mapping[str, Any]) -> int:
    """How many numbers follow a box by the ``kpt_shape`` of a ``data.yaml``; 0 without it.

    Raises:
        LabelError: it is not the number of keypoints and of numbers for each, 2 or 3.
    """
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    match shape:
        case [int(points), 2 | 3 as each] if 0 < points <= 1000:
            return points * int(each)
    raise LabelError("'kpt_shape' must be [number of keypoints, 2 or 3]")


def find_class_names(folder: Path) -> tuple[str, ...]:
    """Names of the classes in a folder or in the two above.

    They are in ``data.yaml``, ``classes.txt`` or darknet's ``obj.names``.

    Raises:
        LabelError: there is no such file, it cannot be read, or it does not list the classes.
    """
    file = _find(folder, (DESCRIPTION, CLASSES_FILE, DARKNET_NAMES))
    if file is None:
        raise LabelError(
            f"has neither a {DESCRIPTION} nor a {CLASSES_FILE} with the names of the classes"
        )
    if file.name != DESCRIPTION:
        return listed_names(file)
    names = class_names(_content(file))
    if names is None:
        raise LabelError(f"{file} does not list the classes under 'names'")
    return names


def find_keypoints(folder: Path) -> int:
    """The ``keypoint_numbers`` of the ``data.yaml`` of ``find_class_names``; 0 without one."""
    file = _find(folder, (DESCRIPTION,))
    return 0 if file is None else keypoint_numbers(_content(file))


def _find(folder: Path, names: Sequence[str]) -> Path | None:
    places = (folder, folder.parent, folder.parent.parent)
    files = (place / name for place in places for name in names)
    return next((file for file in files if file.is_file()), None)


def listed_names(file: Path) -> tuple[str, ...]:
    """Read names of classes that are a line each; empty lines may follow the last one.

    Raises:
        LabelError: it cannot be read, or has something else in a line.
    """
    try:
        names = [line.strip() for line in read_lines(file)]
    except UnicodeDecodeError as error:
        raise _unreadable(file, f"{error}: save it as UTF-8") from None
    except OSError as error:
        raise _unreadable(file, reason(error)) from None
    while names and not names[-1]:
        names.pop()
    if not names or "" in names or len(set(names)) < len(names):
        raise LabelError(f"{file} must have the name of a class on each line, none of them twice")
    return tuple(names)


def _content(file: Path) -> dict[str, Any]:
    try:
        content = read_yaml(file)
    except (OSError, ValueError) as error:
        raise _unreadable(file, reason(error)) from None
    return content if isinstance(content, dict) else {}


def _unreadable(file: Path, why: str) -> LabelError:
    return LabelError(f"the names of the classes cannot be read from {file}: {why}")


def class_names(content: dict[str, Any]) -> tuple[str, ...] | None:
    """The ``names`` of a ``data.yaml``: a list, or a map of 0..n-1; None if it has none.

    Raises:
        LabelError: they are something else, or a class is there twice.
    """
    names = content.get("names")
    if names is None:
        return None
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise LabelError("'names' must list the classes, or map 0..n-1 to them")
    for name in names:
        if name is None or isinstance(name, bool):
            raise LabelError(f"YAML reads one of 'names' as {name}: put it in quotes")
        if isinstance(name, list | dict):
            raise LabelError("one of 'names' is a list or a mapping, not a text")
    result = tuple(str(name) for name in names)
    if len(set(result)) < len(result):
        raise LabelError("'names' has the same class twice")
    return result
