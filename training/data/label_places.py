# SPDX-License-Identifier: Apache-2.0
"""Where the label file of an image is: tools have several conventions, and all are read.

For ``images/train/a.jpg`` these are, with any case of the folder's name and of the suffix,

- ``labels/train/a.txt``: another folder takes the place of one in the image's path;
- ``images/train/a.txt``: beside the image, as darknet and LabelImg have it;
- ``images/train/labels/a.txt``: in a folder beside the image;
- ``labels/a.txt``: all in one folder, if no other image could own it.
"""

from __future__ import annotations

import filecmp
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from compact_yolo_ros.labels.ground_truth import LabelError
from compact_yolo_ros.support.folders import files_below
from training.data.image_files import Folders, images_in

IMAGE_FOLDERS = ("images", "jpegimages")
"""A folder of this name may also be above the data set's folder."""


class _Mirror(NamedTuple):
    """A folder of labels that takes the place of one of images, for the images of a folder.

    Attributes:
        labels, images: the two folders.
        rest: the folder of the images, relative to ``images``.
    """

    labels: Path
    images: Path
    rest: Path


class LabelPlaces:
    """Finds label files.

    Args:
        root: folder of the data set.
        suffix: of label files, in lower case.
        names: what folders of labels are called, in lower case.
        folders: what is known of folders, which finders of several suffixes share.
    """

    def __init__(self, root: Path, suffix: str, names: Sequence[str], folders: Folders) -> None:
        self._root, self._suffix, self._names = root, suffix, names
        self._listings = folders
        self._mirrors_of: dict[Path, Sequence[_Mirror]] = {}
        self._folders_of: dict[Path, Sequence[Path]] = {}
        self._images_below: dict[Path, Counter[str]] = {}
        self._labels_below: dict[Path, Mapping[str, Sequence[Path]]] = {}

    def find(self, image: Path) -> Path | None:
        """Return the label file of an image; None if there is none.

        Raises:
            LabelError: it is not clear which file it is.
        """
        folders = self.folders(image.parent)
        found = [path for folder in folders for path in self._named_like(image, folder)]
        for other in found[1:]:
            if not _same(found[0], other):
                raise LabelError(f"has labels in {found[0]} and others in {other}: delete one")
        return found[0] if found else self._in_common_folder(image)

    def folders(self, folder: Path) -> Sequence[Path]:
        """Return the folders that may hold the labels of the images in a folder."""
        if folder not in self._folders_of:
            mirrored = [mirror.labels / mirror.rest for mirror in self._mirrors(folder)]
            inner = [folder / name for name in self._label_folders(folder)]
            self._folders_of[folder] = [p for p in (*mirrored, folder, *inner) if p.is_dir()]
        return self._folders_of[folder]

    def stray(self, image: Path) -> Path | None:
        """Return a label file of the image's name in a wrong place, which no other image owns."""
        for labels, images, _ in self._mirrors(image.parent):
            for path in self._below(labels).get(image.stem.casefold(), ()):
                places = (images / path.relative_to(labels).parent, path.parent)
                if not any(self._listings.images(place, path.stem) for place in places):
                    return path
        return None

    def _in_common_folder(self, image: Path) -> Path | None:
        for labels, images, _ in self._mirrors(image.parent):
            for path in self._named_like(image, labels):
                if images not in self._images_below:
                    self._images_below[images] = Counter(p.stem for p in images_in(images))
                if self._images_below[images][image.stem] > 1:
                    raise LabelError(f"is not the only image with the labels {path}")
                return path
        return None

    def _mirrors(self, folder: Path) -> Sequence[_Mirror]:
        if folder not in self._mirrors_of:
            self._mirrors_of[folder] = [*self._find_mirrors(folder)]
        return self._mirrors_of[folder]

    def _find_mirrors(self, folder: Path) -> Iterator[_Mirror]:
        """From the innermost folder outwards."""
        parts = folder.parts
        inside = len(self._root.parts) if folder.is_relative_to(self._root) else len(parts) - 1
        for place in reversed(range(len(parts))):
            if place < inside and parts[place].casefold() not in IMAGE_FOLDERS:
                continue
            above = Path(*parts[:place])
            for name in self._label_folders(above):
                if name != parts[place]:
                    rest = Path(*parts[place + 1 :])
                    yield _Mirror(above / name, above / parts[place], rest)

    def _label_folders(self, folder: Path) -> list[str]:
        listing = self._listings.names(folder)
        names = [name for known in self._names for name in listing.get(known, ())]
        return [name for name in names if (folder / name).is_dir()]

    def _named_like(self, image: Path, folder: Path) -> Iterator[Path]:
        """``a.txt`` and ``a.jpg.txt`` for ``a.jpg``."""
        for stem in (image.stem, image.name):
            for name in self._listings.names(folder).get((stem + self._suffix).casefold(), ()):
                if name.startswith(stem):
                    yield folder / name

    def _below(self, folder: Path) -> Mapping[str, Sequence[Path]]:
        """The label files below a folder by their stems in lower case."""
        if folder not in self._labels_below:
            found: dict[str, list[Path]] = defaultdict(list)
            for path in sorted(files_below(folder)):
                if path.suffix.lower() == self._suffix:
                    found[path.stem.casefold()].append(path)
            self._labels_below[folder] = found
        return self._labels_below[folder]


def _same(one: Path, other: Path) -> bool:
    """Whether two files have the same content; False if one cannot be read."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
