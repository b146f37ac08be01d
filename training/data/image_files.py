# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are images, and where a path of a description leads."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from compact_yolo_ros.support.folders import files_below

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
UNREAD_SUFFIXES = frozenset(
    {".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm"}
)
"""Images that are not read: reported, since a silent gap in a data set is not noticed."""


def images_in(folder: Path) -> list[Path]:
    """Return the images below a folder, also those of ``UNREAD_SUFFIXES``, sorted by path."""
    return sorted(path for path in files_below(folder) if _is_image(path))


def _is_image(path: Path) -> bool:
    # Names that begin with a dot are macOS's notes on files (._a.jpg), and temporary files.
    suffix = path.suffix.lower()
    return (suffix in SUFFIXES or suffix in UNREAD_SUFFIXES) and not path.name.startswith(".")


def find_path(entry: str, *folders: Path) -> Path:
    """Return what an entry of a description means.

    Tools write paths as they were where the data set was made: Roboflow ``../train/images`` for
    ``train/images``, CVAT ``data/obj_train_data/a.jpg`` for ``obj_train_data/a.jpg``. So leading
    folders are left out until something is there.

    Args:
        entry: path as it was written, also with Windows's separators.
        folders: that it may be relative to.

    Returns:
        A path that exists; if there is none, ``entry`` in the first folder.
    """
    for text in dict.fromkeys((entry, entry.replace("\\", "/"))):
        for folder in folders:
            for path in _shortened(Path(text)):
                if (folder / path).exists():
                    return folder / path
    return folders[0] / entry


def _shortened(path: Path) -> Iterator[Path]:
    """A path, and without its first folders; a single folder would mean too little."""
    yield path
    parts = path.parts[1:] if path.is_absolute() else path.parts
    for first in range(0 if path.is_absolute() else 1, len(parts)):
        rest = Path(*parts[first:])
        if len(rest.parts) > 1 or rest.suffix or set(parts[:first]) <= {".."}:
            yield rest


class Folders:
    """The names in folders, each of which is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, Mapping[str, Sequence[str]]] = {}

    def names(self, folder: Path) -> Mapping[str, Sequence[str]]:
        """Return the names by what they are in lower case; empty if there is no such folder."""
        if folder not in self._known:
            found: dict[str, list[str]] = defaultdict(list)
            try:
                for name in sorted(os.listdir(folder)):
                    found[name.casefold()].append(name)
            except OSError:
                pass
            self._known[folder] = found
        return self._known[folder]

    def images(self, folder: Path, stem: str) -> list[Path]:
        """Return the images with a name but for its suffix, sorted."""
        names = self.names(folder)
        keys = [(stem + suffix).casefold() for suffix in SUFFIXES | UNREAD_SUFFIXES]
        found = (name for key in keys for name in names.get(key, ()))
        return sorted(folder / name for name in found if name.startswith(stem))
