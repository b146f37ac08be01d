# SPDX-License-Identifier: Apache-2.0
"""How many frames a Matroska or WebM file announces that was cut off.

It says how long it plays and, in most files, how long a frame is shown. That is no count: frames
may come at a varying rate, and sound may go on after the last. So only a file is taken for damaged
that is shorter than it says.

Source: RFC 8794 (EBML) and RFC 9559 (Matroska).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MOST_HEADER = 2**20
"""Bytes before the frames; they are some thousand."""
EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
INFO, SCALE, DURATION = 0x1549A966, 0x2AD7B1, 0x4489
TRACKS, TRACK, KIND, FRAME = 0x1654AE6B, 0xAE, 0x83, 0x23E383
VIDEO = b"\1"
USUAL_SCALE = 10**6
"""Nanoseconds that a file counts in if it does not say."""


class _Element(NamedTuple):
    """A part of a file: its name, where its content begins, and its length; None: unknown."""

    name: int
    begin: int
    length: int | None


NOTHING = _Element(0, 0, None)


def announced_by_cut_matroska(path: Path) -> int:
    """Frames of a Matroska or WebM file that was cut off, by its duration.

    Returns:
        0 of a whole file and of other files, and where it is not known.

    Raises:
        OSError, LookupError, ValueError, ArithmeticError, struct.error: it cannot be read, or is
            damaged in its header.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(MOST_HEADER)
    first, segment, *_ = [*_elements(head), NOTHING, NOTHING]
    # A recorder that was killed, or wrote into a pipe, has left the length unknown.
    if (first.name, segment.name) != (EBML, SEGMENT) or segment.length is None:
        return 0
    is_cut = segment.begin + segment.length > size
    return _frames(head[segment.begin :]) if is_cut else 0


def _frames(segment: bytes) -> int:
    """Frames of the only video; 0 where it is not known."""
    info = _contents(_content(segment, INFO))
    tracks = [
        _contents(track) for name, track in _parts(_content(segment, TRACKS)) if name == TRACK
    ]
    videos = [track for track in tracks if track.get(KIND) == VIDEO]
    if len(videos) != 1 or FRAME not in videos[0] or DURATION not in info:
        return 0
    scale = int.from_bytes(info[SCALE], "big") if SCALE in info else USUAL_SCALE
    duration: float
    (duration,) = struct.unpack(">f" if len(info[DURATION]) == 4 else ">d", info[DURATION])
    return max(0, round(duration * scale / int.from_bytes(videos[0][FRAME], "big")))


def _content(segment: bytes, name: int) -> bytes:
    """What is in the first part of a name before the frames; empty if there is none."""
    return next((content for found, content in _parts(segment) if found == name), b"")


def _contents(content: bytes) -> dict[int, bytes]:
    return dict(_parts(content))


def _parts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Name and content of each part, up to the frames."""
    for name, begin, length in _elements(content):
        if length is None:
            return
        yield name, content[begin : begin + length]


def _elements(content: bytes) -> Iterator[_Element]:
    """The parts of a list; the last one may be the frames, or end behind what was read."""
    place = 0
    while place < len(content):
        name, place = _number(content, place)
        length, begin = _number(content, place)
        ones = (1 << 7 * (begin - place)) - 1
        known = None if length & ones == ones else length & ones
        yield _Element(name, begin, known)
        if known is None or name == CLUSTER:
            return
        place = begin + known


def _number(content: bytes, place: int) -> tuple[int, int]:
    """A number with the mark of its length, and the place behind it."""
    length = 9 - content[place].bit_length()
    end = place + length
    if length > 8 or end > len(content):
        raise ValueError("a number is cut off, or too long")
    return int.from_bytes(content[place:end], "big"), end
