# SPDX-License-Identifier: Apache-2.0
"""What a JPEG file claims, and whether all of it is there, read without decoding it.

Numbers of markers and the fields of segments are those of ITU-T T.81, annex B.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.file_limits import MAX_PARTS, FileHeader, FileLimits
from compact_yolo_ros.pixels.image_error import ImageError, damaged, incomplete

JPEG = b"\xff\xd8\xff"
"""How a file begins."""

_SOI, _EOI, _SOS, _DRI = 0xD8, 0xD9, 0xDA, 0xDD
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN, _PROGRESSIVE = frozenset({0xC0, 0xC1}), frozenset({0xC2, 0xCA})
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_UNSENT = 0xFF


class _Segment(NamedTuple):
    """A marker, and where its parameters begin and end."""

    marker: int
    start: int
    end: int


class _Component(NamedTuple):
    """Samples of a colour: how many blocks a coding unit has across and down."""

    across: int
    down: int


@dataclass(frozen=True)
class _Frame:
    """The frame header, and what is known of its coefficients after each scan.

    Attributes:
        missing: for each coefficient of a component the lowest bit that was sent.
    """

    marker: int
    width: int
    height: int
    bits: int
    components: dict[int, _Component]
    missing: dict[int, bytearray] = field(default_factory=dict)

    @property
    def units(self) -> tuple[int, int]:
        """Coding units across and down, if a scan has all components."""
        across = max(part.across for part in self.components.values())
        down = max(part.down for part in self.components.values())
        return -(-self.width // (8 * across)), -(-self.height // (8 * down))

    @property
    def blocks(self) -> int:
        """Blocks of 64 coefficients, in all components."""
        columns, rows = self.units
        return columns * rows * sum(part.across * part.down for part in self.components.values())

    def units_of(self, scan: list[int]) -> int:
        """Coding units in a scan of these components: single ones are padded to blocks only."""
        columns, rows = self.units
        if len(scan) > 1:
            return columns * rows
        part = self.components[scan[0]]
        across = max(other.across for other in self.components.values())
        down = max(other.down for other in self.components.values())
        samples = -(-self.width * part.across // across), -(-self.height * part.down // down)
        return -(-samples[0] // 8) * -(-samples[1] // 8)


def jpeg_header(data: bytes, limits: FileLimits) -> FileHeader:
    """Read the header of a JPEG file, if every scan is there and its pieces fit together.

    Raises:
        ImageError: it is incomplete or damaged, or has too many scans.
    """
    content = np.frombuffer(data, np.uint8)
    segments = list(_segments(data, _markers(content)))
    frame: _Frame | None = None
    interval = scans = first_scan = 0
    for segment, following in pairwise(segments):
        if segment.marker in _FRAMES:
            if frame is not None:
                raise damaged("JPEG", "it has two frames")
            frame = _frame(data, segment)
        elif segment.marker == _DRI:
            interval = _number(data, segment)
        elif segment.marker == _SOS:
            if frame is None:
                raise damaged("JPEG", "its size is missing")
            scans += 1
            first_scan = first_scan or segment.end
            _check_scans(scans, limits)
            parts = _scan(data, segment, frame)
            if interval and frame.marker not in _LOSSLESS:
                expected = -(-frame.units_of(parts) // interval) - 1
                _check_restarts(data, content[segment.end : following.start], expected)
    if frame is None or any(map(any, frame.missing.values())):
        raise incomplete("JPEG", data)
    channels = 1 if len(frame.components) == 1 else 3
    memory = frame.width * frame.height * channels
    if scans > 1 or frame.marker in _PROGRESSIVE:
        memory += frame.blocks * 128
    coded = segments[-1].start - first_scan
    # The shortest block is a bit for its mean and one that says that nothing follows.
    fewest = frame.blocks // 4 if frame.marker in _HUFFMAN else 0
    scan_end = segments[-1].start if scans == 1 and frame.marker in _HUFFMAN else 0
    length = segments[-1].start + 2
    size = frame.width, frame.height
    return FileHeader(*size, channels, frame.bits, memory, coded, fewest, length, scan_end)


def _markers(content: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Positions of all markers but restarts; some may lie within segments."""
    at = np.flatnonzero(content[:-1] == 0xFF)
    code = content[at + 1]
    # Zero is a stuffed byte of coded data, 0xFF fills, 0x01 has no meaning.
    found: NDArray[np.intp] = at[(code > 1) & (code < 0xFF) & ((code & 0xF8) != 0xD0)]
    return found


def _segments(data: bytes, markers: NDArray[np.intp]) -> Iterator[_Segment]:
    """The segments of the file up to its end marker, which is the last one.

    Coded data is skipped, as is whatever else lies between segments.
    """
    position = len(JPEG) - 1
    for _ in range(MAX_PARTS):
        index = int(markers.searchsorted(position))
        if index == len(markers):
            raise incomplete("JPEG", data)
        position = int(markers[index])
        marker = data[position + 1]
        if marker == _EOI:
            yield _Segment(marker, position, position)
            return
        if marker == _SOI:
            raise incomplete("JPEG", data, "another image begins before its end")
        if position + 4 > len(data):
            raise incomplete("JPEG", data)
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise incomplete("JPEG", data)
        yield _Segment(marker, position + 4, end)
        position = end
    raise damaged("JPEG", f"it has more than {MAX_PARTS} segments")


def _frame(data: bytes, segment: _Segment) -> _Frame:
    if segment.end - segment.start < 6:
        raise damaged("JPEG", "its size is missing")
    bits, height, width, count = struct.unpack_from(">BHHB", data, segment.start)
    rows = data[segment.start + 6 : segment.end]
    if not count or len(rows) != 3 * count:
        raise damaged("JPEG", "its components are missing")
    components = {
        number: _Component(sampling >> 4, sampling & 15)
        for number, sampling in zip(rows[::3], rows[1::3], strict=True)
    }
    if any(not 1 <= factor <= 4 for part in components.values() for factor in part):
        raise damaged("JPEG", "its sampling factors are wrong")
    missing = {number: bytearray([_UNSENT] * 64) for number in components}
    return _Frame(segment.marker, width, height, bits, components, missing)


def _scan(data: bytes, segment: _Segment, frame: _Frame) -> list[int]:
    """Note what a scan sends; return its components."""
    fields = data[segment.start : segment.end]
    count = fields[0] if fields else 0
    parts = list(fields[1 : 1 + 2 * count : 2])
    if not count or len(fields) != 4 + 2 * count or not frame.components.keys() >= set(parts):
        raise damaged("JPEG", "a scan has unknown components")
    first, last, precision = fields[-3:]
    if frame.marker not in _PROGRESSIVE:
        first, last, precision = 0, 63, 0  # some cameras write other values, which mean nothing
    if not first <= last <= 63:
        raise damaged("JPEG", "a scan has unknown coefficients")
    before, after = precision >> 4 or _UNSENT, precision & 15
    for part in parts:
        sent = frame.missing[part]
        if any(bit != before for bit in sent[first : last + 1]):
            raise damaged("JPEG", "a scan does not follow from those before it")
        sent[first : last + 1] = bytes([after]) * (last + 1 - first)
    return parts


def _check_scans(scans: int, limits: FileLimits) -> None:
    if scans > limits.scans:
        raise ImageError(
            "compressed",
            f"the JPEG image has more than {limits.scans} scans: let the camera send baseline JPEG,"
            " or raise max_jpeg_scans",
        )


def _check_restarts(data: bytes, coded: NDArray[np.uint8], expected: int) -> None:
    """Restart markers count from 0 to 7 again and again: a lost or foreign piece breaks that."""
    at = np.flatnonzero(coded[:-1] == 0xFF)
    code = coded[at + 1]
    numbers = code[(code & 0xF8) == 0xD0] & 7
    # Some encoders end with a restart, which nothing follows.
    in_order = np.array_equal(numbers, np.arange(len(numbers)) & 7)
    if not in_order or not expected <= len(numbers) <= expected + 1:
        raise incomplete("JPEG", data, "its restart markers do not follow each other")


def _number(data: bytes, segment: _Segment) -> int:
    if segment.end - segment.start < 2:
        raise damaged("JPEG", "its restart interval is missing")
    return int.from_bytes(data[segment.start : segment.start + 2], "big")
