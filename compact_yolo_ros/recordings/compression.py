# SPDX-License-Identifier: Apache-2.0
"""The compressions of recordings; rosbags depends on the libraries for them."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.pip import pip_line

ZSTD = b"\x28\xb5\x2f\xfd"
"""First bytes of Zstandard data (RFC 8878); a CDR message begins with a zero."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MOST_BYTES = 2**28 + 2**20
"""Largest message or chunk, also unpacked: an image of 8192 x 8192 pixels with 4 bytes each."""
MOST_EXPANSION, ALWAYS_UNPACKED = 300, 2**28
"""A whole file is unpacked up to so many times its size, or so many bytes if that is more. Camera
images shrink to a half and simulated ones to a few hundredths, but zeros to a ten thousandth."""


def check_libraries() -> None:
    """Raise BagError if the library that reads messages is missing."""
    if find_spec("rosbags") is None:
        raise BagError(f"recordings are read with rosbags, which is missing: {pip_line('rosbags')}")


def zstd() -> Any:
    """The module for Zstandard, which Python itself has from 3.14 on."""
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def _zstd(data: bytes, most: int) -> bytes:
    return _whole(zstd().ZstdDecompressor(), data, most)


def _lz4(data: bytes, most: int) -> bytes:
    return _whole(import_module("lz4.frame").LZ4FrameDecompressor(), data, most)


def _whole(decompressor: Any, data: bytes, most: int) -> bytes:
    """Unpack the one frame that ``data`` is; no more than ``most`` bytes are ever made."""
    content: bytes = decompressor.decompress(data, max_length=most + 1)
    if len(content) > most:
        raise ValueError(f"unpacked, it would have more than {most} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("the compressed data end early, or something follows them")
    return content


DECOMPRESS: dict[str, Callable[[bytes, int], bytes]] = {
    "": lambda data, most: data,
    "lz4": _lz4,
    "zstd": _zstd,
}
"""By the names MCAP has for them; they take data and the most bytes that may come of them."""


def plain_message(data: bytes) -> bytes:
    """A message as it was published, whether or not the recorder compressed it.

    Raises:
        Exception: it is damaged, or has more than ``MOST_BYTES``; each library has its errors.
    """
    return _zstd(data, MOST_BYTES) if data.startswith(ZSTD) else data


class _Limited:
    """The beginning of a stream: reading more than ``most`` bytes raises BagError."""

    def __init__(self, stream: Any, most: int, path: Path) -> None:
        self._stream, self._left, self._path = stream, most, path

    def read(self, size: int = -1, /) -> bytes:
        content: bytes = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise BagError(
                f"{self._path} would unpack to more than {MOST_EXPANSION} times its size, which is "
                f"no recording of a camera: if you trust it, unpack it with `zstd -d {self._path}`"
            )
        return content


@contextmanager
def plain_file(path: Path, lost: list[str]) -> Iterator[Path]:
    """Give the path of an uncompressed file: the file itself, or a copy in a temporary folder.

    Of a damaged file, everything before the damage is there; a sentence is added to ``lost``.

    Raises:
        BagError: there is no room for it, or it would be far larger than recordings are.
        OSError: it cannot be read.
    """
    if path.suffix != ".zstd":
        yield path
        return
    with TemporaryDirectory(prefix="bag_") as folder:
        plain = Path(folder, path.stem)
        with plain.open("wb") as out:
            try:
                most = max(ALWAYS_UNPACKED, MOST_EXPANSION * path.stat().st_size)
                with zstd().open(path, "rb") as source:
                    shutil.copyfileobj(_Limited(source, most, path), out, 2**20)
            except (EOFError, zstd().ZstdError):
                lost.append(f"{path.name} ends early or is damaged: its tail is lost")
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                raise BagError(
                    f"cannot unpack {path} into {folder}: {error.strerror}; the environment "
                    "variable TMPDIR names a folder with more room"
                ) from None
        yield plain
