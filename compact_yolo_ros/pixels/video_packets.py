# SPDX-License-Identifier: Apache-2.0
"""Packets of an H.264 or H.265 video as messages carry them, and what their bytes say of them.

Sources: ITU-T H.264, 7.3.1 and table 7-1; ITU-T H.265, 7.3.1.2 and table 7-1; the byte stream of
annex B of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from compact_yolo_ros.pixels.encodings import quote
from compact_yolo_ros.pixels.image_error import ImageError

H264, HEVC = "h264", "hevc"
START = b"\0\0\1"
"""What stands in front of each unit."""
CRA, RASL = 21, (8, 9)
"""H.265's units of a keyframe in the middle of a video, and of pictures behind it that are shown
before it and need earlier ones, too."""
PARAMETERS = {H264: {7, 8}, HEVC: {33, 34}}
"""Units that say how pictures are coded: those of a sequence and of pictures."""
KEY_FLAG = 1
"""FFmpeg's flag of a packet that begins with a keyframe (AV_PKT_FLAG_KEY)."""


class VideoPacket(NamedTuple):
    """The bytes of one picture.

    Attributes:
        encoder: as the publisher names it: ``libx264``, ``hevc_nvenc``, ``h264;yuv420p;bgr8;bgr8``.
        data: the picture, as a byte stream.
        origin: what belongs to the picture; it comes out with it.
        number: which counts the pictures in the order in which they were taken; None if unknown.
        is_marked: whether the publisher calls it a keyframe.
    """

    encoder: str
    data: memoryview
    origin: Any = None
    number: int | None = None
    is_marked: bool = False


def codec_of(encoder: str) -> str:
    """Name of FFmpeg's decoder for what an encoder writes.

    ffmpeg_image_transport writes the name of its encoder, since its version 3 followed by formats
    of pixels; Foxglove writes h264 or h265.

    Raises:
        ImageError: it is neither H.264 nor H.265.
    """
    name = encoder.split(";")[0].lower()
    if "264" in name:
        return H264
    if "265" in name or HEVC in name:
        return HEVC
    raise ImageError(
        "video",
        f"video of {quote(encoder)} cannot be decoded: set the encoder to one of H.264 or H.265,"
        " such as libx264 or hevc_nvenc",
    )


def begins(packet: VideoPacket) -> bool:
    """Whether a video can begin with the packet.

    Raises:
        ImageError: it is neither H.264 nor H.265.
    """
    codec = codec_of(packet.encoder)
    return packet.is_marked or is_keyframe(packet.data, codec)


def is_keyframe(data: memoryview, codec: str) -> bool:
    """Whether the picture can be decoded without those before it, by its first slice."""
    kind = _slice_kind(data, codec)
    return kind == 5 if codec == H264 else 16 <= kind <= 23  # IDR, IRAP


def is_amid(packet: VideoPacket) -> bool:
    """Whether pictures behind a keyframe may need those before it, too.

    Raises:
        ImageError: it is neither H.264 nor H.265.
    """
    return codec_of(packet.encoder) == HEVC and _slice_kind(packet.data, HEVC) == CRA


def has_parameters(packet: VideoPacket) -> bool:
    """Whether a decoder that knows nothing of the video yet can begin with a keyframe.

    Raises:
        ImageError: it is neither H.264 nor H.265.
    """
    codec = codec_of(packet.encoder)
    return PARAMETERS[codec] <= {_kind(header, codec) for header, _ in units(bytes(packet.data))}


def needs_before(data: memoryview, codec: str) -> bool:
    """Whether the picture needs those before the keyframe that it follows."""
    return codec == HEVC and _slice_kind(data, HEVC) in RASL


def _slice_kind(data: memoryview, codec: str) -> int:
    """The type of the first unit that is a slice; -1 without one."""
    for header, _ in units(bytes(data)):
        kind = _kind(header, codec)
        if 1 <= kind <= 5 if codec == H264 else kind < 32:
            return kind
    return -1


def _kind(header: int, codec: str) -> int:
    """The type of a unit by its first byte."""
    return header & 0x1F if codec == H264 else header >> 1 & 0x3F


def units(data: bytes) -> Iterator[tuple[int, int]]:
    """The first byte of each unit, and where that is."""
    at = data.find(START) + len(START)
    while len(START) <= at < len(data):
        yield data[at], at
        at = data.find(START, at) + len(START)
