# SPDX-License-Identifier: Apache-2.0
"""Data sets in YOLO text format, decoded once and kept in memory.

A data set is a folder with ``data.yaml`` (``names``, and ``train``/``val``: folders of images). The
labels of ``images/train/a.jpg`` are in ``labels/train/a.txt``: one ``class cx cy w h`` a line,
relative to the image. A missing or empty file is an image without objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from training.data.sample import Sample

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}


class DataError(ValueError):
    """A data set cannot be used; the message says which file and why."""


def read_classes(data: Path) -> tuple[str, ...]:
    """Return the class names of a ``data.yaml``, in the order of their numbers."""
    names = _read_yaml(data).get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{data}: 'names' must list the classes, or map 0..n-1 to them")
    return tuple(str(name) for name in names)


def read_split(data: Path, split: str) -> list[Sample]:
    """Read all images of one split ("train" or "val") of a ``data.yaml``, sorted by file name.

    Raises DataError for a missing split, an unreadable image or a malformed label line.
    """
    described = _read_yaml(data)
    if split not in described:
        raise DataError(f"{data} names no folder for '{split}'")
    root = data.parent / str(described.get("path") or ".")
    folder = root / str(described[split])
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"{folder} holds no images")
    classes = len(read_classes(data))
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda path: _read_sample(path, classes), paths))


def parse_labels(
    lines: Sequence[str], height: int, width: int, classes: int
) -> NDArray[np.float64]:
    """Parse label lines to rows (n, 5): class, x1, y1, x2, y2 in pixels, clipped to the image.

    Raises ValueError for a malformed line.
    """
    rows = [[float(value) for value in line.split()] for line in lines if line.strip()]
    if any(len(row) != 5 for row in rows):
        raise ValueError("a label line needs five numbers: class cx cy w h")
    table = np.array(rows, np.float64).reshape(-1, 5)
    label, centre, size = table[:, :1], table[:, 1:3], table[:, 3:]
    if not np.isfinite(table).all() or ((label < 0) | (label >= classes) | (label % 1 != 0)).any():
        raise ValueError(
            f"a label line has a class outside 0..{classes - 1} or a number that is not finite"
        )
    corners = np.concatenate((centre - size / 2, centre + size / 2), 1).clip(0, 1)
    return np.concatenate((label, corners * (width, height, width, height)), 1)


def _read_sample(path: Path, classes: int) -> Sample:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} is not a readable image")
    # The last folder called "images" is the one that has a twin called "labels".
    parts = list(path.with_suffix(".txt").parts)
    if "images" not in parts:
        raise DataError(f"{path} is not below a folder called 'images'")
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    labels = Path(*parts)
    try:
        lines = labels.read_text().splitlines() if labels.exists() else []
        rows = parse_labels(lines, image.shape[0], image.shape[1], classes)
    except ValueError as error:
        raise DataError(f"{labels}: {error}") from None
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return Sample(rgb, rows[:, 1:].astype(np.float32), rows[:, 0].astype(np.int64), path.stem)


def _read_yaml(path: Path) -> dict:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a mapping")
    return content
