# SPDX-License-Identifier: Apache-2.0
"""What a compressed image may demand of the decoder: a small file can claim gigabytes."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PARTS = 2**15
"""Most chunks or segments of a file: an encoder writes one for some kilobytes of pixels."""


@dataclass(frozen=True)
class FileLimits:
    """Largest claims that are accepted.

    Attributes:
        megabytes: memory for pixels, and for coefficients where a JPEG has several scans.
        scans: of a JPEG. Each goes over all pixels; encoders write about ten.
        frames: of an animated PNG, of which only the first is used.
    """

    megabytes: int = 256
    scans: int = 64
    frames: int = 1


USUAL_LIMITS = FileLimits()
DISK_LIMITS = FileLimits(megabytes=1024)
"""For files that somebody chose: no camera makes such large images, but a satellite does."""


@dataclass(frozen=True)
class FileHeader:
    """What a file says of itself.

    Attributes:
        width, height: in pixels.
        channels: that its decoder makes.
        bits: of a sample.
        memory: bytes that its decoder allocates, at least.
        coded: bytes of coded pixels.
        fewest: bytes that can code so many pixels at least.
        length: bytes of the file, without whatever follows its end.
        scan_end: where the only scan of a JPEG ends; 0 in other files.
        has_blocks: whether it is a JPEG of blocks, which can be decoded at a fraction of its size.
    """

    width: int
    height: int
    channels: int
    bits: int
    memory: int
    coded: int
    fewest: int
    length: int
    scan_end: int = 0
    has_blocks: bool = False
