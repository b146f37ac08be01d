# SPDX-License-Identifier: Apache-2.0
"""Data sets in COCO's JSON format.

A split is ``{images: <folder>, annotations: <file.json>}``, or a list of such. Without ``names``
the classes are the file's categories in the order of their ids. ``labels.coco`` reads the files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.labels.coco import CocoImage, read_coco, read_coco_classes
from compact_yolo_ros.labels.ground_truth import GroundTruth, LabelError
from training.data.description import SPLITS, DataError, Description
from training.data.image_files import find_path
from training.data.listing import BadFile, ListedImage, Listing

_Content = TypeVar("_Content")


def read(description: Description, split: str) -> Listing:
    """List a split in the order of its files."""
    images: list[ListedImage] = []
    bad_files: list[BadFile] = []
    names = description.names or read_names(description)
    for folder, file in _parts(description, split):
        content = _usable(read_coco, file)
        if not folder.is_dir():
            raise DataError(f"{folder} does not exist: give the folder of the images")
        if unknown := set(content.classes) - set(names):
            raise DataError(_unknown(file, sorted(unknown), description.names is not None))
        number_of = {name: number for number, name in enumerate(names)}
        numbers = np.array([number_of[name] for name in content.classes], np.int64)
        bad_files += [BadFile(file, problem) for problem in content.problems]
        for image in content.images:
            path = find_path(image.file_name, folder, description.root)
            if image.file_name:
                images.append(ListedImage(path, path, partial(_truth, image, numbers)))
            else:
                bad_files.append(BadFile(file, "an image has no file_name"))
    return Listing(names, images, bad_files)


def _unknown(file: Path, categories: list[str], named: bool) -> str:
    if named:
        return (
            f"{file} has the categories {categories}, which are not among 'names': leave 'names'"
            " out, and map classes in a data.yaml with 'sources'"
        )
    return (
        f"{file} has the categories {categories}, which the file of another split has not: list"
        " the classes of all splits as 'names'"
    )


def read_names(description: Description) -> tuple[str, ...]:
    """Return the categories of the annotation files, ordered by id.

    The smallest file tells them, unless it leaves out a group of classes: an object of another file
    may have it.
    """
    files = {
        file
        for split in SPLITS
        if split in description.splits
        for _, file in _parts(description, split)
    }
    if not files:
        raise DataError(f"{description.file} has neither 'names' nor a split")
    there = sorted((file for file in files if file.exists()), key=lambda path: path.stat().st_size)
    first, *others = there or sorted(files)
    found = _usable(read_coco_classes, first)
    if not found.left_out:
        return found.names
    return max([found.names, *(_usable(read_coco_classes, file).names for file in others)], key=len)


def _parts(description: Description, split: str) -> list[tuple[Path, Path]]:
    entry = description.split(split)
    parts = entry if isinstance(entry, list) else [entry]
    if not all(isinstance(part, dict) and {*part} == {"images", "annotations"} for part in parts):
        raise DataError(
            f"{description.file}: '{split}' must be {{images: <folder>, annotations: <file.json>}}"
        )
    root = description.root
    return [(root / str(part["images"]), root / str(part["annotations"])) for part in parts]


def _usable(reader: Callable[[Path], _Content], file: Path) -> _Content:
    try:
        return reader(file)
    except LabelError as error:
        raise DataError(f"{file}: {error}") from None


def _truth(image: CocoImage, numbers: NDArray[np.int64]) -> GroundTruth:
    return image.truth().renumbered(numbers)
