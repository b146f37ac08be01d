# SPDX-License-Identifier: Apache-2.0
"""What a PNG file claims, read without decoding it (ISO/IEC 15948, and its animations)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from compact_yolo_ros.pixels.file_limits import MAX_PARTS, FileHeader, FileLimits
from compact_yolo_ros.pixels.image_error import ImageError, damaged, incomplete

PNG = b"\x89PNG\r\n\x1a\n"
"""How a file begins."""

_IHDR = struct.Struct(">IIBBBBB")
_REGION = struct.Struct(">IIII")
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a stored pixel, by colour type."""
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 4, 6: 4}
"""Channels that OpenCV makes of it; a transparent colour (tRNS) adds one."""
_MOST_DEFLATED = 1032
"""Bytes that one byte of zlib data can stand for, at most (RFC 1951: 258 in 2 bits)."""


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    length: int


def png_header(data: bytes, limits: FileLimits) -> FileHeader:
    """Read the header of a PNG file, if all its chunks are there and none exceeds the file.

    Raises:
        ImageError: it is incomplete or damaged, or has too many frames.
    """
    chunks = list(_chunks(data))
    width, height, bits, colour = _image_header(data, chunks[0])
    if any(chunk.kind == b"IHDR" for chunk in chunks[1:]):
        raise damaged("PNG", "it has two headers")
    _check_animation(data, chunks, (width, height), limits)
    coded = sum(chunk.length for chunk in chunks if chunk.kind == b"IDAT")
    if not coded:
        raise incomplete("PNG", data, "it has no pixels")
    transparent = any(chunk.kind == b"tRNS" for chunk in chunks)
    channels = 4 if transparent else _CHANNELS[colour]
    return FileHeader(
        width=width,
        height=height,
        channels=channels,
        bits=bits,
        memory=width * height * channels * (2 if bits == 16 else 1),
        coded=coded,
        fewest=width * height * _SAMPLES[colour] * bits // (8 * _MOST_DEFLATED),
        length=chunks[-1].start + 4,
    )


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """The chunks up to the last one (IEND), which must be there and be empty."""
    position = len(PNG)
    # The decoder allocates the length a chunk claims, so no chunk may claim more than there is.
    for _ in range(MAX_PARTS):
        if position + 12 > len(data):
            raise incomplete("PNG", data)
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        if kind == b"IEND" and length:
            raise damaged("PNG", "its last chunk is not empty")
        if position + 12 + length > len(data):
            raise incomplete("PNG", data)
        yield _Chunk(kind, position + 8, length)
        if kind == b"IEND":
            return
        position += 12 + length
    raise damaged("PNG", f"it has more than {MAX_PARTS} chunks")


def _image_header(data: bytes, chunk: _Chunk) -> tuple[int, int, int, int]:
    """Width, height, bits of a sample and colour type."""
    if chunk.kind != b"IHDR" or chunk.length != _IHDR.size:
        raise damaged("PNG", "it does not begin with its header")
    width, height, bits, colour, *_ = _IHDR.unpack_from(data, chunk.start)
    if colour not in _SAMPLES or bits not in (1, 2, 4, 8, 16):
        raise damaged("PNG", f"it has {bits} bits of colour type {colour}")
    return width, height, bits, colour


def _check_animation(
    data: bytes, chunks: list[_Chunk], size: tuple[int, int], limits: FileLimits
) -> None:
    """Check the number of frames, announced and real, and that each lies within the image."""
    controls = [chunk for chunk in chunks if chunk.kind == b"fcTL"]
    announced = [_announced(data, chunk) for chunk in chunks if chunk.kind == b"acTL"]
    _check_frames(max(len(controls), *announced, 0), limits)
    for control in controls:
        _check_region(data, control, *size)


def _announced(data: bytes, chunk: _Chunk) -> int:
    if chunk.length != 8:
        raise damaged("PNG", "its animation has no length")
    return int.from_bytes(data[chunk.start : chunk.start + 4], "big")


def _check_frames(frames: int, limits: FileLimits) -> None:
    if frames > limits.frames:
        raise ImageError(
            "compressed",
            f"the PNG image is an animation of {frames} frames, and max_png_frames is"
            f" {limits.frames}: send single images",
        )


def _check_region(data: bytes, chunk: _Chunk, width: int, height: int) -> None:
    if chunk.length != 26:
        raise damaged("PNG", "a frame of it has no size")
    columns, rows, left, top = _REGION.unpack_from(data, chunk.start + 4)
    if left + columns > width or top + rows > height:
        raise damaged("PNG", "a frame of it is larger than the image")
