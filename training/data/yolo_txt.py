# SPDX-License-Identifier: Apache-2.0
"""Data sets in YOLO text format.

A split is a folder of images (and of folders of them), a ``.txt`` list of image files (relative to
``path``), or a list of such. The labels of ``images/train/a.jpg`` are in ``labels/train/a.txt``:
one ``class cx cy w h`` a line, relative to the image; a sixth number is the confidence of a box
that a teacher drew. A missing or empty file is an image without objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.description import DataError, Description
from training.data.listing import ENCODING, Annotation, BadFile, Listing, Picture, clip

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def read(description: Description, split: str) -> Listing:
    """List a split, sorted by path within each folder."""
    entry = description.split(split)
    pictures: list[Picture] = []
    bad_files: list[BadFile] = []
    for part in entry if isinstance(entry, list) else [entry]:
        place = description.root / str(part)
        images = _listed(place, description.root) if place.suffix == ".txt" else _inside(place)
        if not images:
            raise DataError(f"{place} holds no images")
        labels = [labels_of(image) for image in images]
        classes = len(description.names or ())
        readers = Counter(text for _, text in {*zip(images, labels, strict=True)})
        for image, text in zip(images, labels, strict=True):
            if readers[text] > 1 and text.exists():
                bad_files.append(BadFile(image, f"is not the only image with the labels {text}"))
            else:
                pictures.append(Picture(image, text, partial(_annotate, text, classes)))
        if place.suffix != ".txt":
            orphans = set(labels_of(place / "any").parent.rglob("*.txt")) - {*labels}
            bad_files += [
                BadFile(path, "labels without an image")
                for path in sorted(orphans)
                if path.name != "classes.txt"  # labelling tools write the class names there
            ]
    return Listing(description.names or (), pictures, bad_files)


def labels_of(image: Path) -> Path:
    """Return the label file of an image; DataError if it is not below a folder called 'images'."""
    parts = list(image.with_suffix(".txt").parts)
    if "images" not in parts:
        raise DataError(f"{image} is not below a folder called 'images'")
    # The last folder called "images" is the one that has a twin called "labels".
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def parse_labels(
    lines: Sequence[str], height: int, width: int, classes: int
) -> NDArray[np.float64]:
    """Parse label lines to rows (n, 6): class, x1, y1, x2, y2 in pixels, confidence (1: certain).

    Raises ValueError for a malformed line.
    """
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = [float(value) for value in line.split()]
        except ValueError:
            row = [np.nan]
        row = [*row, 1.0] if len(row) == 5 else row
        if row and (len(row) != 6 or not np.isfinite(row).all()):
            raise ValueError(f"line {number} is not five numbers: class cx cy w h")
        if row and (row[0] not in range(classes)):
            raise ValueError(f"line {number} has class {row[0]:g}, outside 0..{classes - 1}")
        if row and not 0 < row[5] <= 1:
            raise ValueError(f"line {number} has confidence {row[5]:g}, which is not in (0, 1]")
        rows += [row] if row else []
    table = np.array(rows, np.float64).reshape(-1, 6)
    label, centre, size, confidence = np.split(table, (1, 3, 5), 1)
    corners = np.concatenate((centre - size / 2, centre + size / 2), 1)
    return np.concatenate((label, corners * (width, height, width, height), confidence), 1)


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _listed(file: Path, root: Path) -> list[Path]:
    try:
        lines = file.read_text(ENCODING).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    return [root / line.strip() for line in lines if line.strip()]


def _annotate(labels: Path, classes: int, height: int, width: int) -> Annotation:
    lines = labels.read_text(ENCODING).splitlines() if labels.exists() else []
    rows = parse_labels(lines, height, width, classes)
    boxes, confidence = clip(rows[:, 1:5], height, width), rows[:, 5].astype(np.float32)
    return Annotation(
        boxes,
        rows[:, 0].astype(np.int64),
        np.zeros(len(rows), bool),
        confidence=None if (confidence == 1).all() else confidence,
    )
