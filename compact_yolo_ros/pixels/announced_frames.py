# SPDX-License-Identifier: Apache-2.0
"""How many frames a video file says that it has, where that can be relied on.

A decoder leaves out what is damaged, and says nothing. OpenCV's own count is not relied on: of many
containers it is a guess from the duration, and of a trimmed MP4 it has frames that are not shown.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

AVI = struct.Struct("<4s4x4s4x4x4s4s20xI")
"""Up to ``dwTotalFrames`` of the header that every AVI file begins with."""
MOST_INDEX = 2**26
"""Bytes of an MP4 file's index; that of a day at 30 images a second has about 40 MB."""


def announced_frames(path: Path) -> int:
    """Frames of an AVI or MP4 file by its header; 0 of other files, and where it is not known."""
    try:
        with path.open("rb") as file:
            return _of_avi(file.read(AVI.size)) or _of_mp4(_index(file))
    except (OSError, struct.error):  # a header that is cut off or damaged itself
        return 0


def _of_avi(header: bytes) -> int:
    *names, count = AVI.unpack(header)
    return int(count) if names == [b"RIFF", b"AVI ", b"hdrl", b"avih"] else 0


def _index(file: BinaryIO) -> bytes:
    """What is inside the ``moov`` box of an MP4 file, which is at its beginning or at its end."""
    name, place, end = b"", 0, 0
    while name != b"moov":
        file.seek(end)
        size, name, large = struct.unpack(">I4sQ", file.read(16))
        place = end + (16 if size == 1 else 8)
        end += large if size == 1 else size
        if end < place or (end == size and name != b"ftyp"):
            raise struct.error("no MP4 file")
    file.seek(place)
    return file.read(min(end - place, MOST_INDEX))


def _of_mp4(index: bytes) -> int:
    """Frames of the only video, if it is shown whole: files can be trimmed without rewriting."""
    videos = [track for name, track in _boxes(index) if name == b"trak" and _is_video(track)]
    if len(videos) != 1 or _box(index, b"mvex"):  # the rest of a fragmented file is elsewhere
        return 0
    (track,) = videos
    timescale, duration = _times(_box(track, b"mdia", b"mdhd"))
    count = int(struct.unpack_from(">I", _box(track, b"mdia", b"minf", b"stbl", b"stsz"), 8)[0])
    edits = _box(track, b"edts", b"elst")
    shown = _shown(edits) / _times(_box(index, b"mvhd"))[0] if edits else duration / timescale
    return count if count and shown >= (duration - duration / count / 2) / timescale else 0


def _is_video(track: bytes) -> bool:
    return _box(track, b"mdia", b"hdlr")[8:12] == b"vide"


def _times(header: bytes) -> tuple[int, int]:
    """Units a second, and the duration in them, of an ``mdhd`` or ``mvhd`` box."""
    timescale, duration = struct.unpack_from(">20xIQ" if header[:1] == b"\1" else ">12xII", header)
    if not timescale:
        raise struct.error("no time")
    return timescale, duration


def _shown(edits: bytes) -> int:
    """Duration of what an ``elst`` box shows, in units of the file."""
    entry = struct.Struct(">Qq4x" if edits[:1] == b"\1" else ">Ii4x")
    whole = len(edits) - (len(edits) - 8) % entry.size
    return sum(duration for duration, begin in entry.iter_unpack(edits[8:whole]) if begin >= 0)


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
