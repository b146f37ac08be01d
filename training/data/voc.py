# SPDX-License-Identifier: Apache-2.0
"""Data sets in PASCAL VOC format.

A split is an entry ``VOC2007/trainval``, or a list of them: the images of
``VOC2007/ImageSets/Main/trainval.txt``, with ``VOC2007/JPEGImages/<id>.jpg`` and
``VOC2007/Annotations/<id>.xml``. So the usual VOC07+12 is ``train: [VOC2007/trainval,
VOC2012/trainval]`` and ``val: VOC2007/test``.

Coordinates count pixels from 1 and include the last one (VOC2007 development kit, section 3.2 and
VOCcode/PASreadrecord.m): pixels 1..1 are the box 0..1 here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from training.data.description import DataError, Description
from training.data.listing import ENCODING, Annotation, Listing, Picture, check_size, clip


def read(description: Description, split: str) -> Listing:
    """List a split in the order of its image sets."""
    names = description.names or ()
    numbers = {name: number for number, name in enumerate(names)}
    entry = description.split(split)
    pictures = []
    for part in entry if isinstance(entry, list) else [entry]:
        folder, image_set = (description.root / str(part)).parent, Path(str(part)).name
        for image in _image_set(folder / "ImageSets" / "Main" / f"{image_set}.txt"):
            xml = folder / "Annotations" / f"{image}.xml"
            path = folder / "JPEGImages" / f"{image}.jpg"
            pictures.append(Picture(path, xml, partial(_annotate, xml, numbers)))
    return Listing(names, pictures)


def _image_set(file: Path) -> list[str]:
    try:
        lines = file.read_text(ENCODING).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    # Sets of one class have a second column, which says whether the class is there.
    images = [line.split()[0] for line in lines if line.strip()]
    if not images:
        raise DataError(f"{file} names no images")
    return images


def _annotate(xml: Path, numbers: dict[str, int], height: int, width: int) -> Annotation:
    try:
        root = ElementTree.fromstring(xml.read_bytes())
    except ElementTree.ParseError as error:
        raise ValueError(f"is not XML: {error}") from None
    if (size := root.find("size")) is not None:
        check_size(height, width, int(_number(size, "height")), int(_number(size, "width")))
    boxes, labels, difficult = [], [], []
    for item in root.iterfind("object"):
        name = item.findtext("name", "").strip()
        if name not in numbers:
            raise ValueError(f"class '{name}' is none of the names in data.yaml")
        box = item.find("bndbox")
        if box is None:
            raise ValueError(f"an object ({name}) has no bndbox")
        left, top, right, bottom = (_number(box, k) for k in ("xmin", "ymin", "xmax", "ymax"))
        boxes.append((left - 1, top - 1, right, bottom))
        labels.append(numbers[name])
        difficult.append(item.findtext("difficult", "0").strip() == "1")
    table = clip(np.array(boxes, np.float64).reshape(-1, 4), height, width)
    return Annotation(table, np.array(labels, np.int64), np.array(difficult, bool))


def _number(element: ElementTree.Element, tag: str) -> float:
    try:
        value = float(element.findtext(tag, ""))
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f"{element.tag} has no number in {tag}")
    return value
