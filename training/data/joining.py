# SPDX-License-Identifier: Apache-2.0
"""Listing a split, whatever its format, and joining data sets whose classes differ."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.labels.ground_truth import GroundTruth
from training.data import coco, voc, yolo_txt
from training.data.description import SPLITS, DataError, Description, Source, read_description
from training.data.listing import ListedImage, Listing

_READERS = {"yolo": yolo_txt.read, "voc": voc.read, "coco": coco.read}


def read_classes(data: Path) -> tuple[str, ...]:
    """Return the class names of a ``data.yaml``, in the order of their numbers."""
    description = read_description(data)
    return description.names or coco.read_names(description)


def split_names(data: Path) -> tuple[str, ...]:
    """Return which of train, val and test a ``data.yaml`` has."""
    description = read_description(data)
    return tuple(
        split
        for split in SPLITS
        if split in description.splits
        or (split == "val" and description.hold_out)
        or any(_gives(source, split) for source in description.sources)
    )


def list_split(data: Path, split: str) -> Listing:
    """List one split of a data set.

    Args:
        data: its ``data.yaml``.
        split: "train", "val" or "test".

    Raises:
        DataError: the description or a file that it names cannot be used.
    """
    description = read_description(data)
    if description.hold_out and split != "test":
        return _part(description, _listed(description, "train"), split)
    return _listed(description, split)


def _part(description: Description, whole: Listing, split: str) -> Listing:
    """Return the images that are held out (val), or the others (train).

    Those with the lowest hashes of their names are held out: further images change few of them.
    """
    count = description.hold_out
    if count >= len(whole.images):
        raise DataError(
            f"{description.file}: 'hold_out' is {count}, and 'train' has {len(whole.images)} images"
        )
    # Not every name is UTF-8: the bytes of the file system tell all of them apart.
    by_hash = sorted(whole.images, key=lambda i: sha256(os.fsencode(i.path.name)).digest())
    held_out = {image.path for image in by_hash[:count]}
    chosen = [image for image in whole.images if (image.path in held_out) == (split == "val")]
    if split == "val":
        chosen = [replace(image, repeat=1) for image in chosen]
    return Listing(whole.classes, chosen, whole.bad_files)


def _listed(description: Description, split: str) -> Listing:
    if description.sources:
        listing = _join(description, split)
    else:
        listing = _READERS[description.format](description, split)
    if description.labelled is None:
        return listing
    if unknown := set(description.labelled) - set(listing.classes):
        known = ", ".join(listing.classes)
        raise DataError(
            f"{description.file}: 'labelled' has {sorted(unknown)}, and the classes are {known}"
        )
    absent = frozenset(
        number for number, name in enumerate(listing.classes) if name not in description.labelled
    )
    same = np.arange(len(listing.classes))
    images = [_renumbered(image, same, absent) for image in listing.images]
    return Listing(listing.classes, images, listing.bad_files)


def _gives(source: Source, split: str) -> bool:
    description = read_description(source.data)
    if description.sources:
        raise DataError(f"{source.data} is a source and has 'sources': name those directly")
    return split in description.splits and (source.splits is None or split in source.splits)


def _join(description: Description, split: str) -> Listing:
    names = description.names or ()
    joined = Listing(names, [])
    sources = [source for source in description.sources if _gives(source, split)]
    if not sources:
        raise DataError(f"no source of {description.file} has the split '{split}'")
    for source in sources:
        listing = list_split(source.data, split)
        table = _class_table(description, source, listing.classes)
        if source.labelled is None:
            labelled = set(table.tolist())
        else:
            labelled = {_number(description, name) for name in source.labelled}
        absent = frozenset(range(len(names))) - labelled
        images = (_renumbered(image, table, absent) for image in listing.images)
        shown = source.repeat if split == "train" else 1
        joined.images.extend(replace(image, repeat=shown) for image in images)
        joined.bad_files.extend(listing.bad_files)
    return joined


def _class_table(
    description: Description, source: Source, theirs: tuple[str, ...]
) -> NDArray[np.int64]:
    """Return our class number of each of a source's classes; -1 drops it."""
    mapping = source.classes
    if mapping is None:
        mapping = {name: name for name in theirs if name in (description.names or ())}
    if unknown := set(mapping) - set(theirs):
        raise DataError(
            f"{description.file} maps the classes {sorted(unknown)}, which are not in {source.data}"
        )
    ours = [mapping.get(name) for name in theirs]
    table = [-1 if name is None else _number(description, name) for name in ours]
    if max(table) < 0:
        raise DataError(f"{description.file} includes none of the classes of {source.data}")
    return np.array(table, np.int64)


def _number(description: Description, name: str) -> int:
    names = description.names or ()
    if name not in names:
        raise DataError(f"{description.file}: a source names '{name}', not among 'names'")
    return names.index(name)


def _renumbered(
    image: ListedImage, numbers: NDArray[np.int64], absent: frozenset[int]
) -> ListedImage:
    """An image labelled with the numbers of another list of classes, without those ``absent``."""
    return replace(image, read=partial(_truth, image, numbers, absent))


def _truth(image: ListedImage, numbers: NDArray[np.int64], absent: frozenset[int]) -> GroundTruth:
    return image.read().renumbered(numbers, absent)
