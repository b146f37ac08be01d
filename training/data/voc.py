# SPDX-License-Identifier: Apache-2.0
"""Data sets in PASCAL VOC format.

A split is an entry ``VOC2007/trainval``, or a list of them: the images of
``VOC2007/ImageSets/Main/trainval.txt``, with ``VOC2007/JPEGImages/<id>.jpg`` and
``VOC2007/Annotations/<id>.xml``. So the usual VOC07+12 is ``train: [VOC2007/trainval,
VOC2012/trainval]`` and ``val: VOC2007/test``. ``labels.voc`` reads the XML.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from compact_yolo_ros.labels.voc import read_voc
from compact_yolo_ros.labels.yolo import ENCODING
from training.data.description import DataError, Description
from training.data.listing import ListedImage, Listing


def read(description: Description, split: str) -> Listing:
    """List a split in the order of its image sets."""
    names = description.names or ()
    numbers = {name: number for number, name in enumerate(names)}
    entry = description.split(split)
    images = []
    for part in entry if isinstance(entry, list) else [entry]:
        folder, image_set = (description.root / str(part)).parent, Path(str(part)).name
        for image in _image_set(folder / "ImageSets" / "Main" / f"{image_set}.txt"):
            xml = folder / "Annotations" / f"{image}.xml"
            path = folder / "JPEGImages" / f"{image}.jpg"
            images.append(ListedImage(path, xml, partial(read_voc, xml, numbers)))
    return Listing(names, images)


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
