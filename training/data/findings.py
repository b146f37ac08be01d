# SPDX-License-Identifier: Apache-2.0
"""What a data set lacks: what training refuses, and what it accepts though nobody may mean it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from compact_yolo_ros.model.sizes import Size
from training.data.dataset import Cache, DataSet, Entry, open_split
from training.data.description import remedy_without

NEEDED = ("train", "val")
"""The splits that training needs."""
TINY = 3
"""Shorter side in pixels of the input below which a box is hardly learnt."""
NAMED = 10
"""Number of names in a sentence."""


def lacks_objects(split: str, data: DataSet) -> str:
    """Return a sentence if no image of a split shows an object, else nothing."""
    if any(len(entry.truth) for entry in data.entries):
        return ""
    return (
        f"no image of '{split}' shows an object: are its labels where training/data/README.md says?"
    )


def require_objects(file: Path, split: str, data: DataSet) -> None:
    """Raise ValueError, with the file that describes the data set, if a split shows no object."""
    if sentence := lacks_objects(split, data):
        raise ValueError(f"{file}: {sentence}")


def other_shapes(split: str, data: DataSet) -> str:
    """Return a sentence if objects of a split are not drawn as boxes, else nothing."""
    found = Counter(entry.truth.drawn_as for entry in data.entries if entry.truth.drawn_as)
    files = " and ".join(f"{count} label files hold {shapes}" for shapes, count in found.items())
    return f"{split}: {files}: their boxes are used" if files else ""


def open_for_training(
    data: Path, split: str, cache: Cache, most: int = 0, least: Size | None = None
) -> DataSet:
    """Open a split that is trained or measured on; see ``open_split``.

    Raises:
        ValueError: no object is labelled, so the labels are probably in another folder.
    """
    opened = open_split(data, split, cache, most=most, least=least)
    require_objects(data, split, opened)
    if sentence := other_shapes(split, opened):
        logging.getLogger("training.data").warning("%s: %s", data, sentence)
    return opened


def refusals(splits: Mapping[str, DataSet]) -> list[str]:
    """Return why training would refuse a data set; empty if it would not."""
    found = []
    for name in NEEDED:
        if name not in splits:
            found.append(f"there is no '{name}', which training needs{remedy_without(name)}")
        elif sentence := lacks_objects(name, splits[name]):
            found.append(sentence)
    return found


def remarks(split: str, data: DataSet, side: int) -> Iterator[str]:
    """Yield a sentence about each finding of a split that training accepts.

    Args:
        split: its name.
        data: its images.
        side: of the input in pixels, to which the long side of an image is scaled.
    """
    without = sum(entry.label_file is None for entry in data.entries)
    if without:
        yield (
            f"{split}: {without} of {len(data)} images have no label file: they count as images "
            "without objects"
        )
    if sentence := other_shapes(split, data):
        yield sentence
    if cut := sum(entry.cut for entry in data.entries):
        yield f"{split}: boxes that reach beyond the image and are clipped: {cut}"
    if tiny := sum(_tiny(entry, side) for entry in data.entries):
        yield (
            f"{split}: boxes with a side below {TINY} pixels at {side}, which are hardly learnt: "
            f"{tiny}"
        )
    if absent := _absent(data):
        yield f"{split}: classes without a box: {_listed(absent)}"


def _tiny(entry: Entry, side: int) -> int:
    sides = entry.truth.boxes[:, 2:] - entry.truth.boxes[:, :2]
    scale = side / max(entry.image.height, entry.image.width)
    return int((sides.min(1, initial=np.inf) * scale < TINY).sum())


def _absent(data: DataSet) -> list[str]:
    """The classes that have no box though some image is labelled with them."""
    present = {int(label) for entry in data.entries for label in entry.truth.labels}
    unlabelled = frozenset.intersection(*(entry.truth.unlabelled for entry in data.entries))
    return [name for n, name in enumerate(data.classes) if n not in present | unlabelled]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
