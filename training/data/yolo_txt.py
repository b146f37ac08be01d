# SPDX-License-Identifier: Apache-2.0
"""Data sets in YOLO text format.

A split is a folder of images (and of folders of them), a ``.txt`` list of image files (relative to
``path`` or to the list), or a list of such. ``label_places`` says where the labels of an image are;
without any the image shows no objects, unless labels lie elsewhere that could be its own.
``labels.yolo`` reads the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from compact_yolo_ros.labels.ground_truth import GroundTruth, LabelError
from compact_yolo_ros.labels.yolo import LARGEST_LIST, is_labels, read_labels, read_lines
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.folders import files_below
from training.data.description import DataError, Description
from training.data.image_files import Folders, find_path, images_in
from training.data.label_places import LabelPlaces
from training.data.listing import BadFile, ListedImage, Listing

SUFFIX, FOLDERS = ".txt", ("labels",)
OTHER_FOLDERS = (*FOLDERS, "annotations", "xml", "xmls", "json")
OTHER_FORMATS = {
    ".xml": "set 'format: voc'",
    ".json": "export the labels as YOLO text, or as one file in COCO's format",
}
"""What to do if such labels lie where an image without a text file should have its own."""


def read(description: Description, split: str) -> Listing:
    """List a split, sorted by path within each folder."""
    entry = description.split(split)
    found = Listing(description.names or (), [])
    for part in entry if isinstance(entry, list) else [entry]:
        place = find_path(str(part), description.root, description.file.parent)
        if not place.exists():
            raise DataError(f"{place} does not exist")
        is_list = place.suffix.lower() == SUFFIX
        images = _listed(place, description.root) if is_list else images_in(place)
        if not images:
            raise DataError(f"{place} holds no images")
        labels = _Labels(description.root, len(found.classes), description.keypoints)
        _add(found, images, labels, None if is_list else place)
    return found


class _Labels:
    """Finds the labels of images, and signs that an image has some in a wrong place.

    Args:
        root: folder of the data set.
        classes: number of classes.
        keypoints: how many numbers follow a box; 0: not known.
    """

    def __init__(self, root: Path, classes: int, keypoints: int) -> None:
        self._read = partial(read_labels, classes=classes, keypoints=keypoints)
        folders = Folders()
        self.places = LabelPlaces(root, SUFFIX, FOLDERS, folders)
        self._others = {
            LabelPlaces(root, suffix, OTHER_FOLDERS, folders): cure
            for suffix, cure in OTHER_FORMATS.items()
        }

    def of(self, image: Path) -> Path | None:
        """Return the label file of an image; None if it shows no objects.

        Raises:
            LabelError: it is not clear which file it is, or that there is none.
        """
        if found := self.places.find(image):
            return found
        if stray := self.places.stray(image):
            raise LabelError(f"has no labels, but {stray} has its name: put it beside the image")
        for places, cure in self._others.items():
            if other := places.find(image):
                raise LabelError(f"has no labels in YOLO's text format, but in {other}: {cure}")
        return None

    def truth(self, file: Path | None) -> GroundTruth:
        """Read a label file; see ``labels.yolo.read_labels`` for the errors."""
        return GroundTruth.empty() if file is None else self._read(file)


def _add(found: Listing, images: list[Path], labels: _Labels, folder: Path | None) -> None:
    """Add images to a listing, and label files below ``folder`` that belong to none of them."""
    pairs: list[tuple[Path, Path | None]] = []
    unclear: set[str] = set()
    for image in images:
        try:
            pairs.append((image, labels.of(image)))
        except LabelError as error:
            found.bad_files.append(BadFile(image, str(error)))
            unclear.add(image.stem.casefold())
    owners: Counter[Path | None] = Counter(text for _, text in set(pairs) if text is not None)
    for image, text in pairs:
        if owners[text] > 1:
            found.bad_files.append(BadFile(image, f"is not the only image with the labels {text}"))
        else:
            found.images.append(ListedImage(image, text, partial(labels.truth, text)))
    if folder is not None:
        places = labels.places.folders(folder)
        orphans = {path for place in places for path in _texts_in(place)} - owners.keys()
        found.bad_files.extend(
            BadFile(path, "labels without an image")
            for path in sorted(orphans)
            if path.stem.casefold() not in unclear and is_labels(path)
        )


def _texts_in(folder: Path) -> Iterator[Path]:
    return (path for path in files_below(folder) if path.suffix.lower() == SUFFIX)


def _listed(file: Path, root: Path) -> list[Path]:
    try:
        lines = read_lines(file, LARGEST_LIST)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {reason(error)}") from None
    return [find_path(line.strip(), root, file.parent) for line in lines if line.strip()]
