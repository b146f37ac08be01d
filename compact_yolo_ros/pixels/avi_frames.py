# SPDX-License-Identifier: Apache-2.0
"""How many frames an AVI file announces that can be shown to be damaged.

The header counts frames too that a recorder dropped, and what a decoder shows of a whole file may
differ from it for other reasons. So only a file is taken for damaged that ends before its frames
do, or that has something else where its index says that a frame is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_PARTS = 1000
"""Parts of a file, which begins another one after every gigabyte."""
MOST_HEADER = 2**20
"""Bytes of its header; it has some thousand."""
MOST_INDEX = 2**26
"""Bytes of its index; that of a day at 30 images a second has about 40 MB."""
TRIED = 100
"""Frames that show what the places in an index are counted from."""
_ENTRY = np.dtype([("name", "S4"), ("flags", "<u4"), ("place", "<u4"), ("size", "<u4")])


class _Part(NamedTuple):
    """A part of a file, and where its content begins and should end; a list has its kind's name."""

    name: bytes
    begin: int
    end: int


def announced_by_damaged_avi(path: Path) -> int:
    """Frames of a damaged AVI file by its header, without those that its recorder dropped.

    Returns:
        0 of a whole file and of other files, and where it is not known.

    Raises:
        OSError, LookupError, struct.error: it cannot be read, or is damaged in its header.
    """
    with path.open("rb") as file:
        parts = list(_parts(file))
        lists = [part for part in parts if part.name == b"movi"]
        number, count = _video(_content(file, parts, b"hdrl", MOST_HEADER))
        if not count or not lists:
            return 0
        content = _content(file, parts, b"idx1", MOST_INDEX)
        index = np.frombuffer(content[: len(content) // 16 * 16], _ENTRY)
        frames = index[np.isin(index["name"], [b"%02ddc" % number, b"%02ddb" % number])]
        shown = frames[frames["size"] > 0]
        is_cut = max(part.end for part in lists) > os.fstat(file.fileno()).st_size
        is_damaged = is_cut or _contradicts(file, lists[0], shown)
        return max(0, count - len(frames) + len(shown)) if is_damaged else 0


def _parts(file: BinaryIO) -> Iterator[_Part]:
    place = 0
    for _ in range(MOST_PARTS):
        file.seek(place)
        begin = file.read(12)
        if len(begin) < 12:
            return
        name, size, kind = struct.unpack("<4sI4s", begin)
        if place == 0 and (name, kind) != (b"RIFF", b"AVI "):
            return
        if name == b"RIFF":
            place += 12
            continue
        is_list = name == b"LIST"
        yield _Part(kind if is_list else name, place + (12 if is_list else 8), place + 8 + size)
        place += 8 + size + size % 2


def _content(file: BinaryIO, parts: list[_Part], name: bytes, most: int) -> bytes:
    """What is in the first part of a name; empty if there is none."""
    for part in parts:
        if part.name == name:
            file.seek(part.begin)
            return file.read(max(0, min(part.end - part.begin, most)))
    return b""


def _video(header: bytes) -> tuple[int, int]:
    """Number of the only video stream and its count of frames; 0 where that is not written yet."""
    chunks = list(_chunks(header))
    streams = [
        dict(_chunks(each[4:])) for name, each in chunks if name == b"LIST" and each[:4] == b"strl"
    ]
    videos = [n for n, stream in enumerate(streams) if stream[b"strh"][:4] == b"vids"]
    if len(videos) != 1:
        return 0, 0
    (total,) = struct.unpack_from("<16xI", dict(chunks)[b"avih"])
    (count,) = struct.unpack_from("<32xI", streams[videos[0]][b"strh"])
    # A recorder fills in both at the end. In what is written into a pipe, the second is invented.
    return videos[0], count if total else 0


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        yield name, content[place + 8 : place + 8 + size]
        place += 8 + size + size % 2


def _contradicts(file: BinaryIO, frames: _Part, index: NDArray[np.void]) -> bool:
    """Whether an index, which finds some frames, does not find others."""

    def is_found(origin: int, entry: np.void) -> bool:
        return os.pread(file.fileno(), 4, origin + int(entry["place"])) == bytes(entry["name"])

    some = index[:: max(1, len(index) // TRIED)]
    # Places are counted from the name of the list or, by some programs, from the file's beginning.
    found = {
        origin: sum(is_found(origin, entry) for entry in some) for origin in (frames.begin - 4, 0)
    }
    origin = max(found, key=lambda each: found[each])
    return found[origin] > 0 and not all(is_found(origin, entry) for entry in index)
