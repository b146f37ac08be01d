# SPDX-License-Identifier: Apache-2.0
"""Data sets in YOLO text format.

A split is a folder of images (and of folders of them), a ``.txt`` list of image files (relative to
``path``), or a list of such. The labels of ``images/train/a.jpg`` are in ``labels/train/a.txt``;
without that file the image shows no objects. ``labels.yolo`` reads the files.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

from compact_yolo_ros.labels.ground_truth import GroundTruth
from compact_yolo_ros.labels.yolo import CLASSES_FILE, ENCODING, read_labels
from training.data.description import DataError, Description
from training.data.listing import BadFile, ListedImage, Listing

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def read(description: Description, split: str) -> Listing:
    """List a split, sorted by path within each folder."""
    entry = description.split(split)
    listed: list[ListedImage] = []
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
                listed.append(ListedImage(image, text, partial(_truth, text, classes)))
        if place.suffix != ".txt":
            orphans = set(labels_of(place / "any").parent.rglob("*.txt")) - {*labels}
            bad_files += [
                BadFile(path, "labels without an image")
                for path in sorted(orphans)
                if path.name != CLASSES_FILE
            ]
    return Listing(description.names or (), listed, bad_files)


def labels_of(image: Path) -> Path:
    """Return the label file of an image.

    Raises:
        DataError: the image is not below a folder called 'images'.
    """
    parts = list(image.with_suffix(".txt").parts)
    if "images" not in parts:
        raise DataError(f"{image} is not below a folder called 'images'")
    # The last folder called "images" is the one beside which there is one called "labels".
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _listed(file: Path, root: Path) -> list[Path]:
    try:
        lines = file.read_text(ENCODING).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    return [root / line.strip() for line in lines if line.strip()]


def _truth(labels: Path, classes: int) -> GroundTruth:
    return read_labels(labels, classes) if labels.exists() else GroundTruth.empty()
