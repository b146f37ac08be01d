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

from compact_yolo_ros.pixels.compressed_file import decodable
from compact_yolo_ros.pixels.file_limits import DISK_LIMITS
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.support.files import replacing
from training.data.description import DataError
from training.data.image_files import UNREAD_SUFFIXES

# A cached file: digest of the image file, height, width; then the pixels.
_HEADER = struct.Struct("<16sII")


class Load(Protocol):
    """Returns the image: (H, W, 3) uint8, RGB."""

    def __call__(self) -> NDArray[np.uint8]: ...


class Decoded(NamedTuple):
    """An image that can be read.

    Attributes:
        load: returns it.
        height, width: in pixels.
        digest: of its file; equal files have equal ones.
    """

    load: Load
    height: int
    width: int
    digest: bytes


def keep_in_memory(path: Path) -> Decoded:
    """Decode an image and keep its pixels in memory.

    Raises:
        ValueError: it is not a readable image.
        OSError: the file cannot be read.
    """
    image, digest = decode(path)
    height, width = image.shape[:2]
    return Decoded(lambda: image, height, width, digest)


def keep_nothing(path: Path) -> Decoded:
    """Decode an image only to check it; it is decoded again whenever it is used.

    Raises:
        ValueError: it is not a readable image.
        OSError: the file cannot be read.
    """
    image, digest = decode(path)
    height, width = image.shape[:2]
    return Decoded(lambda: decode(path)[0], height, width, digest)


class DiskCache:
    """A folder of decoded images, mapped into memory when they are used.

    An image is found by its path, file size and modification time. Files are written atomically, so
    that an incomplete folder is completed by the next run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, path: Path) -> Decoded:
        """Decode an image unless the folder has it.

        Raises:
            ValueError: it is not a readable image.
            OSError: the file cannot be read.
            DataError: the folder cannot be written.
        """
        facts = path.stat()
        key = f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"
        file = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.rgb"
        return _cached(file) or self._fill(file, path)

    def _fill(self, file: Path, path: Path) -> Decoded:
        image, digest = decode(path)
        height, width = image.shape[:2]
        try:
            with replacing(file) as temporary, temporary.open("wb") as out:
                out.write(_HEADER.pack(digest, height, width))
                out.write(np.ascontiguousarray(image).data)
        except OSError as error:
            raise DataError(f"the cache cannot be written: {error}") from None
        return Decoded(partial(_map, file, height, width), height, width, digest)


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
    image = cv2.imdecode(np.frombuffer(checked, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None:
        raise ValueError("is not a readable image, or is cut off")
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), digest


def _cached(file: Path) -> Decoded | None:
    try:
        with file.open("rb") as content:
            digest, height, width = _HEADER.unpack(content.read(_HEADER.size))
            length = os.fstat(content.fileno()).st_size
    except (OSError, struct.error):
        return None
    if length != _HEADER.size + height * width * 3:
        return None
    return Decoded(partial(_map, file, height, width), height, width, digest)


def _map(file: Path, height: int, width: int) -> NDArray[np.uint8]:
    # The plain array keeps the mapping alive, and indexes faster than numpy's memmap does.
    return np.asarray(np.memmap(file, np.uint8, "r", _HEADER.size, (height, width, 3)))
