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

ZSTD = b"\x28\xb5\x2f\xfd"
"""First bytes of Zstandard data (RFC 8878); a CDR message begins with a zero."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_libraries() -> None:
    """Raise BagError if the library that reads messages is missing."""
    if find_spec("rosbags") is None:
        raise BagError("recordings are read with rosbags, which is missing: `pip install rosbags`")


def zstd() -> Any:
    """The module for Zstandard, which Python itself has from 3.14 on."""
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def _lz4(data: bytes) -> bytes:
    return bytes(import_module("lz4.frame").decompress(data))


DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "lz4": _lz4,
    "zstd": lambda data: zstd().decompress(data),
}
"""By the names MCAP has for them."""


def plain_message(data: bytes) -> bytes:
    """A message as it was published, whether or not the recorder compressed it.

    Raises:
        Exception: it is damaged; each library has errors of its own.
    """
    return zstd().decompress(data) if data.startswith(ZSTD) else data


@contextmanager
def plain_file(path: Path, lost: list[str]) -> Iterator[Path]:
    """Give the path of an uncompressed file: the file itself, or a copy in a temporary folder.

    Of a damaged file, everything before the damage is there; a sentence is added to ``lost``.

    Raises:
        BagError: there is no room for it.
        OSError: it cannot be read.
    """
    if path.suffix != ".zstd":
        yield path
        return
    with TemporaryDirectory(prefix="bag_") as folder:
        plain = Path(folder, path.stem)
        with plain.open("wb") as out:
            try:
                with zstd().open(path, "rb") as source:
                    shutil.copyfileobj(source, out, 2**20)
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
