# SPDX-License-Identifier: Apache-2.0
"""What a JPEG file claims, and whether all of it is there, read without decoding it.

Numbers of markers and the fields of segments are those of ITU-T T.81, annex B.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
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
    """The frame header, and how far the scans have come.

    Attributes:
        sent: for each coefficient of a component, the lowest bit that a scan has sent.
    """

    marker: int
    width: int
    height: int
    bits: int
    components: dict[int, _Component]
    sent: dict[int, bytearray]

    @property
    def largest(self) -> _Component:
        """Blocks of a coding unit of the component with the most samples."""
        parts = self.components.values()
        return _Component(max(part.across for part in parts), max(part.down for part in parts))

    @property
    def units(self) -> int:
        """Coding units of a scan that has several components."""
        across, down = self.largest
        return -(-self.width // (8 * across)) * -(-self.height // (8 * down))

    @property
    def blocks(self) -> int:
        """Blocks of 64 coefficients, in all components."""
        return self.units * sum(part.across * part.down for part in self.components.values())

    def units_of(self, scan: list[int]) -> int:
        """Coding units in a scan of these components; that of a single one is a block."""
        if len(scan) > 1:
            return self.units
        part, largest = self.components[scan[0]], self.largest
        columns = -(-self.width * part.across // largest.across)
        rows = -(-self.height * part.down // largest.down)
        return -(-columns // 8) * -(-rows // 8)


def jpeg_header(data: bytes, limits: FileLimits) -> FileHeader:
    """Read the header of a JPEG file, if every scan is there and its pieces fit together.

    Raises:
        ImageError: it is incomplete or damaged, or has too many scans.
    """
    content = np.frombuffer(data, np.uint8)
    walk = _Walk(data, limits)
    segments = list(_segments(data, _markers(content)))
    for segment, following in pairwise(segments):
        walk.pass_by(segment, content[segment.end : following.start])
    return walk.header(segments[-1].start)


class _Walk:
    """What the segments of a file have said so far."""

    def __init__(self, data: bytes, limits: FileLimits) -> None:
        self._data = data
        self._limits = limits
        self._frame: _Frame | None = None
        self._interval = self._scans = self._first_scan = 0

    def pass_by(self, segment: _Segment, coded: NDArray[np.uint8]) -> None:
        """Take note of a segment and the coded data after it."""
        if segment.marker in _FRAMES:
            if self._frame is not None:
                raise damaged("JPEG", "it has two frames")
            self._frame = _frame(self._data, segment)
        elif segment.marker == _DRI:
            self._interval = _number(self._data, segment)
        elif segment.marker == _SOS:
            self._scan(segment, coded)

    def _scan(self, segment: _Segment, coded: NDArray[np.uint8]) -> None:
        if self._frame is None:
            raise damaged("JPEG", "its size is missing")
        self._scans += 1
        self._first_scan = self._first_scan or segment.end
        _check_scans(self._scans, self._limits)
        parts = _scan(self._data, segment, self._frame)
        if self._interval and self._frame.marker not in _LOSSLESS:
            expected = -(-self._frame.units_of(parts) // self._interval) - 1
            _check_restarts(self._data, coded, expected)

    def header(self, end: int) -> FileHeader:
        """What the file is, if its last scan ends at ``end`` and nothing is missing."""
        frame = self._frame
        if frame is None or any(map(any, frame.sent.values())):
            raise incomplete("JPEG", self._data)
        channels = 1 if len(frame.components) == 1 else 3
        memory = frame.width * frame.height * channels
        if self._scans > 1 or frame.marker in _PROGRESSIVE:
            memory += frame.blocks * 128
        simple = self._scans == 1 and frame.marker in _HUFFMAN
        return FileHeader(
            width=frame.width,
            height=frame.height,
            channels=channels,
            bits=frame.bits,
            memory=memory,
            coded=end - self._first_scan,
            # The shortest block is a bit for its mean and one that says that nothing follows.
            fewest=frame.blocks // 4 if frame.marker in _HUFFMAN else 0,
            length=end + 2,
            scan_end=end if simple else 0,
            has_blocks=frame.marker not in _LOSSLESS,
        )


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
    if len(components) != count:
        raise damaged("JPEG", "two components have one name")
    sent = {number: bytearray([_UNSENT] * 64) for number in components}
    return _Frame(segment.marker, width, height, bits, components, sent)


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
        sent = frame.sent[part]
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
