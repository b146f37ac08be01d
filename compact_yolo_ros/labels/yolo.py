# SPDX-License-Identifier: Apache-2.0
"""Labels in YOLO's text files: a file an image, a line ``class cx cy w h`` an object.

Centre and size are fractions of the image's sides. A sixth number is the confidence of a box that
a model drew. An empty file is an image without objects. The names of the classes are in a
``data.yaml`` or a ``classes.txt``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compact_yolo_ros.labels.ground_truth import RELATIVE, GroundTruth, LabelError
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.yaml_files import read_yaml

ENCODING = "utf-8-sig"
"""Editors of Windows write a mark before the first line."""
CLASSES_FILE = "classes.txt"
"""Where labelling tools write the names of the classes, a line each."""
BEYOND = 0.1
"""How far outside of 0 to 1 a number may lie: rounding, and objects that the image cuts off."""
_LONGEST_LINE = 100_000
_NAMES = ("class", "centre x", "centre y", "width", "height", "confidence")


def read_labels(file: Path, classes: int) -> GroundTruth:
    """Read the labels of one image.

    Args:
        file: the text file.
        classes: number of classes.

    Returns:
        Boxes as fractions of the image's sides (``RELATIVE``), see ``GroundTruth.clipped``.

    Raises:
        LabelError: see ``parse_labels``.
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    return parse_labels(file.read_text(ENCODING).splitlines(), classes)


def parse_labels(lines: Sequence[str], classes: int) -> GroundTruth:
    """Read label lines; see ``read_labels``.

    Raises:
        LabelError: a line is malformed, has an unknown class, or a number far outside of the image.
    """
    rows = [_row(line, number, classes) for number, line in enumerate(lines, 1) if line.strip()]
    table = np.array(rows, np.float64).reshape(-1, len(_NAMES))
    centre, half, confidence = table[:, 1:3], table[:, 3:5] / 2, table[:, 5].astype(np.float32)
    return GroundTruth(
        np.hstack((centre - half, centre + half)),
        table[:, 0].astype(np.int64),
        size=RELATIVE,
        confidence=None if (confidence == 1).all() else confidence,
    )


def is_labels(file: Path) -> bool:
    """Whether a text file looks like labels: its first line is a row of numbers."""
    try:
        with file.open(encoding=ENCODING) as content:
            row = content.readline(_LONGEST_LINE).split()
        return len(row) >= len(_NAMES) - 1 and all(math.isfinite(float(value)) for value in row[:5])
    except (OSError, ValueError):
        return False


def _row(line: str, number: int, classes: int) -> list[float]:
    """The six numbers of a line; a confidence that is not there is 1."""
    try:
        row = [float(value) for value in line.split()]
    except ValueError:
        row = [np.nan]
    row = [*row, 1.0] if len(row) == 5 else row
    if len(row) != len(_NAMES) or not np.isfinite(row).all():
        raise LabelError(f"line {number} is not five numbers: class cx cy w h")
    if row[0] not in range(classes):
        raise LabelError(f"line {number} has class {row[0]:g}, outside 0..{classes - 1}")
    for name, value in zip(_NAMES[1:5], row[1:5], strict=True):
        if not -BEYOND <= value <= 1 + BEYOND:
            raise LabelError(
                f"line {number} has a {name} of {value:g}, which is outside the image: give "
                "fractions of its sides, from 0 to 1"
            )
    if not 0 < row[5] <= 1:
        raise LabelError(f"line {number} has confidence {row[5]:g}, which is not in (0, 1]")
    return row


def find_class_names(folder: Path) -> tuple[str, ...]:
    """Names of the classes from ``data.yaml`` or ``classes.txt`` in a folder or in the two above.

    Raises:
        LabelError: there is no such file, or it does not list the classes.
    """
    for place in (folder, folder.parent, folder.parent.parent):
        if (path := place / "data.yaml").is_file():
            return _names_in(path)
        if (path := place / CLASSES_FILE).is_file():
            return tuple(path.read_text(ENCODING).splitlines())
    raise LabelError(f"has neither a data.yaml nor a {CLASSES_FILE} with the names of the classes")


def _names_in(file: Path) -> tuple[str, ...]:
    try:
        content = read_yaml(file)
        names = class_names(content) if isinstance(content, dict) else None
    except (OSError, ValueError) as error:
        raise LabelError(
            f"the names of the classes cannot be read from {file}: {reason(error)}"
        ) from None
    if names is None:
        raise LabelError(f"{file} does not list the classes under 'names'")
    return names


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
