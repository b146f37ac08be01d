# SPDX-License-Identifier: Apache-2.0
"""Finds lost pictures of an H.264 video by the frame numbers in it.

Source: ITU-T H.264, 7.3.2.1.1 (sequence parameter set), 7.3.3 (slice header), 7.4.3 (frame_num). A
picture has the number of the last reference picture, or the next one; any other is a gap. A lost
picture that is no reference leaves none, and spoils nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from compact_yolo_ros.pixels.bit_reader import BitReader
from compact_yolo_ros.pixels.video_packets import units

SLICE, IDR, PARAMETERS = 1, 5, 7
"""Types of units."""
WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Profiles whose parameters name a format of chroma."""


class _Sequence(NamedTuple):
    """What a sequence parameter set says of frame numbers."""

    bits: int
    has_planes: bool
    allows_gaps: bool


class FrameNumbers:
    """Follows the frame numbers of a video, packet by packet."""

    def __init__(self) -> None:
        """Know no parameters yet."""
        self._sequence: _Sequence | None = None
        self._last: int | None = None

    def begin(self, data: bytes) -> None:
        """Go on from a keyframe: what was before it is not needed any more."""
        self._last = None
        self.miss(data)

    def miss(self, data: bytes) -> bool:
        """Take the next packet; return whether a picture between it and the one before is lost.

        What cannot be read shows no loss: the decoder judges that.
        """
        for header, start in units(data):
            kind = header & 0x1F
            try:
                if kind == PARAMETERS:
                    self._sequence = _parameters(BitReader(data, start + 1))
                elif kind in (SLICE, IDR):
                    return self._slice(BitReader(data, start + 1), bool(header >> 5 & 3))
            except ValueError:
                return False
        return False

    def _slice(self, bits: BitReader, is_reference: bool) -> bool:
        sequence = self._sequence
        if sequence is None or sequence.allows_gaps:
            return False
        for _ in ("first macroblock", "type", "picture parameters"):
            bits.unsigned()
        bits.fixed(2 * sequence.has_planes)
        number, last = bits.fixed(sequence.bits), self._last
        if is_reference:
            self._last = number
        if last is None:
            return False
        return number not in (last, (last + 1) % (1 << sequence.bits))


def _parameters(bits: BitReader) -> _Sequence:
    profile = bits.fixed(8)
    bits.fixed(16)  # constraints and level
    bits.unsigned()  # number of the set
    has_planes = profile in WITH_CHROMA and _chroma(bits)
    length = bits.unsigned() + 4
    if length > 16:
        raise ValueError("the frame numbers are too long")
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.fixed(1)
        bits.unsigned(), bits.unsigned()
        for _ in range(min(bits.unsigned(), 255)):
            bits.unsigned()
    bits.unsigned()  # reference frames
    return _Sequence(length, has_planes, bool(bits.fixed(1)))


def _chroma(bits: BitReader) -> bool:
    """Skip what concerns the format of chroma; whether its planes are coded apart."""
    form = bits.unsigned()
    has_planes = form == 3 and bool(bits.fixed(1))
    bits.unsigned(), bits.unsigned()  # depth of luma and chroma
    bits.fixed(1)
    if bits.fixed(1):
        for place in range(12 if form == 3 else 8):
            if bits.fixed(1):
                _scaling_list(bits, 16 if place < 6 else 64)
    return has_planes


def _scaling_list(bits: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
