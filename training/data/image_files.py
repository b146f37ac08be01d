# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are images, and where a path of a description leads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
UNREAD_SUFFIXES = frozenset(
    {".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm"}
)
"""Images that are not read: reported, since a silent gap in a data set is not noticed."""


def images_in(folder: Path) -> list[Path]:
    """Return the images below a folder, also those of ``UNREAD_SUFFIXES``, sorted by path."""
    return sorted(path for path in folder.rglob("*") if _is_image(path))


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
