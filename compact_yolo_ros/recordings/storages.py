# SPDX-License-Identifier: Apache-2.0
"""The table of storage formats. A format is one file with its row, ``INFO``, and one line here."""

from __future__ import annotations

from pathlib import Path

from compact_yolo_ros.recordings import mcap, sqlite
from compact_yolo_ros.recordings.storage import Storage, StorageError, StorageInfo

STORAGES: dict[str, StorageInfo] = {info.ending: info for info in (mcap.INFO, sqlite.INFO)}
"""Formats by the ending of a file's name."""


def endings() -> str:
    """The endings, as in ``.mcap or .db3``."""
    return " or ".join(STORAGES)


def open_storage(path: Path) -> Storage:
    """Open a file by the ending of its name.

    Raises:
        StorageError: no format has that ending, or the content is of another format.
        OSError: it cannot be read.
    """
    if path.suffix not in STORAGES:
        raise StorageError(f"{path.name} is not a recording: its name does not end in {endings()}")
    return STORAGES[path.suffix].open(path)
