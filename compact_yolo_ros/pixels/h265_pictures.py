# SPDX-License-Identifier: Apache-2.0
"""Reads which picture of an H.265 video a packet is, so that lost ones show.

Source: ITU-T H.265, 7.3.2.2 (sequence parameter set), 7.3.2.3 (picture parameter set), 7.3.3
(profile, tier and level), 7.3.6 (slice header), 8.3.1 (picture order count).
"""

from __future__ import annotations

from typing import NamedTuple

from compact_yolo_ros.pixels.bit_reader import BitReader
from compact_yolo_ros.pixels.video_packets import units

FIRST_KEY, LAST_KEY, LAST_PICTURE = 16, 23, 31
"""Types of units: keyframes are those between, pictures all up to the last."""
IDR = frozenset({19, 20})
SEQUENCE, PICTURE = 33, 34
"""Types of parameter sets."""
MOST_SETS = 64
"""Parameter sets of one type that a video may have."""


class _Sequence(NamedTuple):
    """What a sequence parameter set says of picture order counts: their bits in a slice header."""

    bits: int
    has_planes: bool


class _Picture(NamedTuple):
    """What a picture parameter set says of slice headers."""

    sequence: int
    has_output_flag: bool
    extra_bits: int


class PictureOrder:
    """Follows the picture order counts of a video, packet by packet.

    They count the pictures in the order in which they are shown: most encoders count by one.
    """

    def __init__(self) -> None:
        """Know no parameters yet."""
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, _Picture] = {}
        self._last = 0

    def number(self, data: bytes) -> int | None:
        """The count of the picture in a packet; None if it cannot be read."""
        for header, start in units(data):
            kind = header >> 1 & 0x3F
            bits = BitReader(data, start + 2)
            try:
                if kind == SEQUENCE:
                    self._sequences.update([_read_sequence(bits)])
                elif kind == PICTURE:
                    self._pictures.update([_read_picture(bits)])
                elif kind <= LAST_PICTURE:
                    return self._count(kind, bits)
            except (ValueError, KeyError):
                return None
        return None

    def _count(self, kind: int, bits: BitReader) -> int:
        """The count in a slice header; of its higher bits, those that bring it nearest the last."""
        if not bits.fixed(1):
            raise ValueError("it is not the first slice of its picture")
        if FIRST_KEY <= kind <= LAST_KEY:
            bits.fixed(1)
        picture = self._pictures[bits.unsigned()]
        sequence = self._sequences[picture.sequence]
        bits.fixed(picture.extra_bits)
        bits.unsigned()  # type of the slice
        bits.fixed(picture.has_output_flag + 2 * sequence.has_planes)
        if kind in IDR:
            self._last = 0
        else:
            whole = 1 << sequence.bits
            ahead = (bits.fixed(sequence.bits) - self._last) % whole
            self._last += ahead - whole * (ahead >= whole // 2)
        return self._last


def _read_sequence(bits: BitReader) -> tuple[int, _Sequence]:
    """The number of a sequence parameter set, and what it says."""
    bits.fixed(4)  # number of the video parameter set
    layers = bits.fixed(3)
    bits.fixed(1)
    _skip_levels(bits, layers)
    number = _number_of_set(bits)
    has_planes = bits.unsigned() == 3 and bool(bits.fixed(1))
    bits.unsigned(), bits.unsigned()  # width and height
    if bits.fixed(1):
        for _ in range(4):
            bits.unsigned()  # sides that are cut off
    bits.unsigned(), bits.unsigned()  # depth of luma and chroma
    length = bits.unsigned() + 4
    if length > 16:
        raise ValueError("the counts are too long")
    return number, _Sequence(length, has_planes)


def _skip_levels(bits: BitReader, layers: int) -> None:
    """Skip profile, tier and level, those of all layers and those of each."""
    bits.fixed(96)
    present = [(bits.fixed(1), bits.fixed(1)) for _ in range(layers)]
    if layers:
        bits.fixed(2 * (8 - layers))
    for has_profile, has_level in present:
        bits.fixed(88 * has_profile + 8 * has_level)


def _read_picture(bits: BitReader) -> tuple[int, _Picture]:
    """The number of a picture parameter set, and what it says."""
    number, sequence = _number_of_set(bits), _number_of_set(bits)
    bits.fixed(1)  # dependent slices
    return number, _Picture(sequence, bool(bits.fixed(1)), bits.fixed(3))


def _number_of_set(bits: BitReader) -> int:
    number = bits.unsigned()
    if number >= MOST_SETS:
        raise ValueError("there is no such parameter set")
    return number
