# SPDX-License-Identifier: Apache-2.0
"""Data sets in PASCAL VOC format.

A split is an entry or a list of them. ``VOC2007/trainval`` means the images of
``VOC2007/ImageSets/Main/trainval.txt``, with ``VOC2007/JPEGImages/<id>.jpg`` and
``VOC2007/Annotations/<id>.xml``. So the usual VOC07+12 is ``train: [VOC2007/trainval,
VOC2012/trainval]`` and ``val: VOC2007/test``. Without image sets an entry is a folder of images,
whose XML is found as ``label_places`` says. ``labels.voc`` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from compact_yolo_ros.labels.ground_truth import LabelError
from compact_yolo_ros.labels.voc import read_voc
from compact_yolo_ros.labels.yolo import LARGEST_LIST, read_lines
from compact_yolo_ros.support.error_text import reason
from training.data.description import DataError, Description
from training.data.image_files import Folders, find_path, images_in
from training.data.label_places import LabelPlaces
from training.data.listing import BadFile, ListedImage, Listing

PRESENCE = re.compile(r"\s+(-1|0|1)$")
SUFFIX, FOLDERS = ".xml", ("annotations", "labels", "xml", "xmls")


def read(description: Description, split: str) -> Listing:
    """List a split in the order of its image sets, or sorted by path within each folder."""
    names = description.names or ()
    numbers = {name: number for number, name in enumerate(names)}
    found = Listing(names, [])
    entry = description.split(split)
    for part in entry if isinstance(entry, list) else [entry]:
        for image, xml in _pairs(description, str(part), found.bad_files):
            found.images.append(ListedImage(image, xml, partial(read_voc, xml, numbers)))
    return found


def _pairs(
    description: Description, part: str, bad_files: list[BadFile]
) -> Iterator[tuple[Path, Path]]:
    """Yield the images of an entry, each with its XML; where that is not clear it is a bad file."""
    folder, name = (description.root / part).parent, Path(part).name
    image_set = folder / "ImageSets" / "Main" / f"{name}.txt"
    place = find_path(part, description.root, description.file.parent)
    if image_set.exists() or not place.is_dir():
        yield from _of_image_set(folder, image_set)
        return
    images = images_in(place)
    if not images:
        raise DataError(f"{place} holds no images")
    places = LabelPlaces(description.root, SUFFIX, FOLDERS, Folders())
    for image in images:
        try:
            yield image, places.find(image) or image.with_suffix(SUFFIX)
        except LabelError as error:
            bad_files.append(BadFile(image, str(error)))


def _of_image_set(folder: Path, file: Path) -> Iterator[tuple[Path, Path]]:
    try:
        lines = read_lines(file, LARGEST_LIST)
    except FileNotFoundError:
        raise DataError(
            f"{file} does not exist: without image sets, name a folder of images"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {reason(error)}") from None
    if not any(line.strip() for line in lines):
        raise DataError(f"{file} names no images")
    folders = Folders()

    def images(name: str) -> list[Path]:
        image = folder / "JPEGImages" / name
        return folders.images(image.parent, image.name)

    for line in filter(str.strip, lines):
        names = _names(line)
        name = next(filter(images, names), names[-1])
        image = next(iter(images(name)), folder / "JPEGImages" / f"{name}.jpg")
        yield image, folder / "Annotations" / f"{name}{SUFFIX}"


def _names(line: str) -> list[str]:
    """What a line may name: names can have spaces.

    Sets of one class have a second column, which says whether the class is there.
    """
    names = [line.strip()]
    while column := PRESENCE.search(names[-1]):
        names.append(names[-1][: column.start()])
    return names
