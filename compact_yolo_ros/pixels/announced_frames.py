# SPDX-License-Identifier: Apache-2.0
"""How many frames a video file says that it has, where that can be relied on.

A decoder leaves out what is damaged, and says nothing. OpenCV's own count is not relied on: of many
containers it is a guess from the duration, and of a trimmed MP4 it has frames that are not shown.
Matroska and WebM do not count their frames, but tell whether they are whole; FLV and others tell
nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from compact_yolo_ros.pixels.avi_frames import announced_by_damaged_avi
from compact_yolo_ros.pixels.matroska_frames import announced_by_cut_matroska

MOST_BOXES = 100
"""Parts of an MP4 file; those before its index are a few."""
MOST_INDEX = 2**26
"""Bytes of its index; that of a day at 30 images a second has about 40 MB."""


def announced_frames(path: Path) -> int:
    """Frames of an MP4 file by its index, of a damaged AVI or a cut Matroska file by its header.

    0 of whole files of the last two and of others, and where it is not known.
    """
    try:
        with path.open("rb") as file:
            frames = _frames(_index(file))
        return frames or announced_by_damaged_avi(path) or announced_by_cut_matroska(path)
    except (OSError, ValueError, ArithmeticError, LookupError, struct.error):
        return 0  # the index is cut off or damaged itself


def _index(file: BinaryIO) -> bytes:
    """What is inside the ``moov`` box of an MP4 file, which is at its beginning or at its end."""
    place = 0
    for _ in range(MOST_BOXES):
        file.seek(place)
        size, name, large = struct.unpack(">I4sQ", file.read(16))
        if place == 0 and name != b"ftyp":
            break
        if name == b"moov":
            file.seek(place + 8)
            return file.read(min(size, MOST_INDEX))
        place += large if size == 1 else size
    return b""


def _frames(index: bytes) -> int:
    """Frames of the only video, if it is shown whole: files can be trimmed without rewriting."""
    tracks = [track for name, track in _boxes(index) if name == b"trak"]
    videos = [track for track in tracks if _box(track, b"mdia", b"hdlr")[8:12] == b"vide"]
    if len(videos) != 1 or _box(index, b"mvex"):  # the rest of a fragmented file is elsewhere
        return 0
    (video,) = videos
    (count,) = struct.unpack_from(">8xI", _box(video, b"mdia", b"minf", b"stbl", b"stsz"))
    return int(count) if _is_whole(index, video, count) else 0


def _is_whole(index: bytes, video: bytes, count: int) -> bool:
    """Whether nothing is trimmed; false where it is not known, as with times of 64 bits."""
    edits = _box(video, b"edts", b"elst")
    if not edits:
        return True
    number, shown = struct.unpack_from(">4xII", edits)
    (second,) = struct.unpack_from(">12xI", _box(index, b"mvhd"))
    own_second, duration = struct.unpack_from(">12xII", _box(video, b"mdia", b"mdhd"))
    half_a_frame = duration / count / 2
    return bool(number == 1 and shown / second >= (duration - half_a_frame) / own_second)


def _box(content: bytes, *path: bytes) -> bytes:
    """What is inside the first box at a path; empty if there is none."""
    for wanted in path:
        content = next((inner for name, inner in _boxes(content) if name == wanted), b"")
    return content


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        if size < 8:
            return
        yield name, content[place + 8 : place + size]
        place += size
