# SPDX-License-Identifier: Apache-2.0
"""Decoded images, and a folder of them that processes share."""

from __future__ import annotations

import hashlib
import os
import struct
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.compressed_file import decodable
from compact_yolo_ros.pixels.file_limits import DISK_LIMITS
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.picture_files import picture_of
from compact_yolo_ros.support.files import remove_unfinished, replacing
from training.data.description import DataError
from training.data.image_files import UNREAD_SUFFIXES
from training.data.reduction import REDUCTIONS, reduced, reduced_size, reduction_of

# A cached file: digest of the image file, its height and width; then the pixels, of which there are
# fewer if they are reduced. By how much is in the name of the file.
_HEADER = struct.Struct("<16sII")

MOST_SECONDS = 3600
"""That another process may still be writing a file."""


class Load(Protocol):
    """Returns the image: (H, W, 3) uint8, RGB."""

    def __call__(self) -> NDArray[np.uint8]: ...


class Decoded(NamedTuple):
    """An image that can be read.

    Attributes:
        load: returns it, reduced.
        source: its size in the file.
        digest: of its file; equal files have equal ones.
        reduction: pixels of the file, along a side, that are one here.
    """

    load: Load
    source: Size
    digest: bytes
    reduction: int = 1

    @property
    def width(self) -> int:
        """Of what is loaded, in pixels."""
        return reduced_size(self.source, self.reduction).width

    @property
    def height(self) -> int:
        """Of what is loaded, in pixels."""
        return reduced_size(self.source, self.reduction).height


def keep_in_memory(path: Path, least: Size | None = None) -> Decoded:
    """Decode an image and keep its pixels in memory.

    Args:
        path: of its file.
        least: see ``reduction_of``.

    Raises:
        ValueError: it is not a readable image.
        OSError: the file cannot be read.
    """
    image, found = _decode_reduced(path, least)
    return found._replace(load=lambda: image)


def keep_nothing(path: Path, least: Size | None = None) -> Decoded:
    """Decode an image only to check it; it is decoded again whenever it is used.

    Args:
        path: of its file.
        least: see ``reduction_of``.

    Raises:
        ValueError: it is not a readable image.
        OSError: the file cannot be read.
    """
    return _decode_reduced(path, least)[1]


class DiskCache:
    """A folder of decoded images, mapped into memory when they are used.

    An image is found by its path, file size and modification time, and by how much it is reduced.
    Files are written atomically, so that an incomplete folder is completed by the next run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tidy_up(self) -> None:
        """Remove what processes that were killed while they wrote have left."""
        remove_unfinished(self.folder, seconds=MOST_SECONDS)

    def keep(self, path: Path, least: Size | None = None) -> Decoded:
        """Decode an image unless the folder has it.

        Args:
            path: of its file.
            least: see ``reduction_of``.

        Raises:
            ValueError: it is not a readable image.
            OSError: the file cannot be read.
            DataError: the folder cannot be written.
        """
        facts = path.stat()
        key = f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"
        for reduction in REDUCTIONS:
            found = _cached(self._file(key, reduction), reduction)
            if found and reduction_of(found.source, least) == reduction:
                return found
        return self._fill(key, path, least)

    def _file(self, key: str, reduction: int) -> Path:
        if reduction > 1:
            key = f"{key}|{reduction}"
        return self.folder / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}.rgb"

    def _fill(self, key: str, path: Path, least: Size | None) -> Decoded:
        image, found = _decode_reduced(path, least)
        file = self._file(key, found.reduction)
        try:
            with replacing(file) as temporary, temporary.open("wb") as out:
                out.write(_HEADER.pack(found.digest, *found.source.shape))
                out.write(np.ascontiguousarray(image).data)
        except OSError as error:
            raise DataError(f"the cache cannot be written: {error}") from None
        return found._replace(load=partial(_map, file, *image.shape[:2]))


def default_cache() -> Path:
    """Return the user's folder of decoded images, under XDG_CACHE_HOME."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "compact_yolo_ros" / "images"


def decode(path: Path) -> tuple[NDArray[np.uint8], bytes]:
    """Decode an image file.

    Returns:
        The image, (H, W, 3) uint8, RGB, and the digest of the file.

    Raises:
        ValueError: it is not a readable image.
        OSError: the file cannot be read.
    """
    if path.suffix.lower() in UNREAD_SUFFIXES:
        raise ValueError(
            f"is a {path.suffix} file, which is not read: convert it to JPEG or PNG, or delete it"
        )
    content = path.read_bytes()
    try:
        checked = decodable(content, DISK_LIMITS)
    except ImageError as error:
        raise ValueError(f"is not a readable image: {error}") from None
    # A warning of the decoder would say less than the report of bad files.
    image = picture_of(checked)
    if image is None:
        raise ValueError("is not a readable image, or is cut off")
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), digest


def _decode_reduced(path: Path, least: Size | None) -> tuple[NDArray[np.uint8], Decoded]:
    """Return an image, reduced, and what decodes it again."""
    image, digest = decode(path)
    source = Size(image.shape[1], image.shape[0])
    reduction = reduction_of(source, least)

    def load() -> NDArray[np.uint8]:
        return reduced(decode(path)[0], reduction)

    return reduced(image, reduction), Decoded(load, source, digest, reduction)


def _cached(file: Path, reduction: int) -> Decoded | None:
    try:
        with file.open("rb") as content:
            digest, *shape = _HEADER.unpack(content.read(_HEADER.size))
            length = os.fstat(content.fileno()).st_size
    except (OSError, struct.error):
        return None
    source = Size(shape[1], shape[0])
    width, height = reduced_size(source, reduction)
    if length != _HEADER.size + height * width * 3:
        return None
    return Decoded(partial(_map, file, height, width), source, digest, reduction)


def _map(file: Path, height: int, width: int) -> NDArray[np.uint8]:
    # The plain array keeps the mapping alive, and indexes faster than numpy's memmap does.
    return np.asarray(np.memmap(file, np.uint8, "r", _HEADER.size, (height, width, 3)))
