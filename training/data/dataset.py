# SPDX-License-Identifier: Apache-2.0
"""A split of a data set, checked and ready to train on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, overload

import numpy as np
from rich.console import Console
from rich.progress import track

from compact_yolo_ros.labels.ground_truth import GroundTruth
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.support.error_text import reason
from training.data.description import DataError
from training.data.image_cache import (
    Decoded,
    DiskCache,
    default_cache,
    keep_in_memory,
    keep_nothing,
)
from training.data.joining import list_split, read_classes
from training.data.listing import BadFile, ListedImage
from training.data.reduction import fits
from training.data.sample import Sample

__all__ = ["BadFile", "DataError", "DataSet", "open_split", "read_classes"]

ROUNDING = 1.0
"""In pixels: how far boxes are clipped without a word."""
Cache = Literal["memory", "disk", "none"]


@dataclass(frozen=True)
class Entry:
    """A good image with what it shows.

    Attributes:
        path: of its file.
        image: its pixels, reduced if the data set was opened so.
        truth: the objects, boxes in these pixels, clipped to the image.
        label_file: None if there is none.
        cut: number of its boxes that were not clipped by rounding only.
        large: see ``Sample``.
        whole: the objects in the pixels of the file, however far the image is reduced.
    """

    path: Path
    image: Decoded
    truth: GroundTruth
    whole: GroundTruth
    label_file: Path | None = None
    cut: int = 0
    large: bool = False

    def sample(self) -> Sample:
        """Return it with its pixels."""
        shown = self.truth
        return Sample(
            self.image.load(),
            shown.boxes.astype(np.float32),
            shown.labels.astype(np.int64),
            self.path.stem,
            shown.ignored.astype(np.float32),
            shown.confidence,
            shown.unlabelled,
            self.large,
        )


class DataSet(Sequence[Sample]):
    """The good images of a split; a sample's image is loaded when the sample is read.

    Attributes:
        classes: names, in the order of their numbers.
        entries: images and their annotations.
        bad_files: the files that were left out, and why.
    """

    def __init__(
        self, classes: tuple[str, ...], entries: list[Entry], bad_files: list[BadFile]
    ) -> None:
        self.classes, self.entries, self.bad_files = classes, entries, bad_files

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [entry.sample() for entry in self.entries[index]]
        return self.entries[index].sample()


def open_split(
    data: Path,
    split: str,
    cache: Cache = "memory",
    cache_folder: Path | None = None,
    most: int = 0,
    least: Size | None = None,
) -> DataSet:
    """Open one split ("train", "val" or "test") of a ``data.yaml``.

    Every image is decoded once to find bad files, which are left out and listed in the result.

    Args:
        data: description of the data set.
        split: its name.
        cache: where decoded images are kept: "memory", "disk" (files that processes share) or
            "none".
        cache_folder: for "disk"; None: the user's cache.
        most: images that are opened, drawn from all, the same in every call; 0: all.
        least: larger images are those of a camera: they are halved while what is left has this
            width or this height; None: all stay whole, as the node's letterbox needs them.

    Raises:
        DataError: the description is wrong, or no good image is left.
    """
    listing = list_split(data, split)
    listed = _drawn(listing.images, most)
    shared = DiskCache(cache_folder or default_cache())
    if cache == "disk":
        shared.tidy_up()
    keep: dict[Cache, Callable[[Path, Size | None], Decoded]] = {
        "memory": keep_in_memory,
        "disk": shared.keep,
        "none": keep_nothing,
    }
    entries: list[Entry] = []
    bad_files = list(listing.bad_files)
    first_of: dict[bytes, Path] = {}
    with ThreadPoolExecutor() as pool:
        results = track(
            pool.map(partial(_examine, keep[cache], least), listed),
            f"reading {split}",
            len(listed),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        for image, result in zip(listed, results, strict=True):
            if isinstance(result, BadFile):
                bad_files.append(result)
            elif first := first_of.get(result.image.digest):
                again = result.path == first
                reason = "is listed twice" if again else f"is the same image as {first}"
                bad_files.append(BadFile(result.path, reason))
            else:
                first_of[result.image.digest] = result.path
                entries += [result] * image.repeat
    if not entries:
        reasons = "; the first: {}: {}".format(*bad_files[0]) if bad_files else ""
        raise DataError(f"{data}: no good image is left in '{split}'{reasons}")
    if bad_files:
        logging.getLogger(__name__).warning(
            "%d bad files of '%s' are left out; `python -m training.data.check --data %s` lists"
            " them",
            *(len(bad_files), split, data),
        )
    return DataSet(listing.classes, entries, bad_files)


def _drawn(images: list[ListedImage], most: int) -> list[ListedImage]:
    if not 0 < most < len(images):
        return images
    chosen = np.random.default_rng(0).choice(len(images), most, replace=False)
    return [images[number] for number in sorted(chosen)]


def _examine(
    keep: Callable[[Path, Size | None], Decoded], least: Size | None, listed: ListedImage
) -> Entry | BadFile:
    try:
        image = keep(listed.path, least)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        return _bad(listed.path, error)
    try:
        found = listed.in_image_of(image.source)
        truth = found.clipped()
        cut = int((np.abs(found.boxes - truth.boxes) > ROUNDING).any(1).sum())
        shown = truth.in_pixels_of(Size(image.width, image.height))
        large = least is not None and not fits(image.source, least)
        return Entry(listed.path, image, shown, truth, listed.label_file, cut, large)
    except (OSError, ValueError) as error:
        return _bad(listed.label_file or listed.path, error)


def _bad(path: Path, error: Exception) -> BadFile:
    missing = isinstance(error, FileNotFoundError)
    return BadFile(path, "does not exist" if missing else reason(error))
