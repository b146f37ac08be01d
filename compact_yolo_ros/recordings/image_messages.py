# SPDX-License-Identifier: Apache-2.0
"""Image messages as ROS 2 publishes them, made of what other messages hold."""

from __future__ import annotations

import struct
from dataclasses import dataclass

Buffer = bytes | memoryview


@dataclass(frozen=True)
class ImageContent:
    """What a message of an image holds; only compressed ones have a ``format``."""

    seconds: int
    nanoseconds: int
    frame_id: str
    data: Buffer
    format: str = ""
    width: int = 0
    height: int = 0
    encoding: str = ""
    step: int = 0


class _CdrWriter:
    """Writes a message in the wire format of ROS 2 (CDR, little-endian)."""

    def __init__(self) -> None:
        self._content = bytearray(b"\0\1\0\0")

    def bytes(self) -> bytes:
        return bytes(self._content)

    def number(self, kind: str, value: int) -> None:
        """An integer of a ``struct`` format; it is aligned to its size."""
        self._content += bytes(-len(self._content) % struct.calcsize(kind))
        self._content += struct.pack(f"<{kind}", value)

    def text(self, text: str) -> None:
        self.sequence(text.encode() + b"\0")

    def sequence(self, content: Buffer) -> None:
        self.number("I", len(content))
        self._content += content

    def header(self, image: ImageContent) -> None:
        self.number("i", image.seconds)
        self.number("I", image.nanoseconds)
        self.text(image.frame_id)


def compressed_to_cdr(image: ImageContent) -> bytes:
    """A sensor_msgs/CompressedImage."""
    writer = _CdrWriter()
    writer.header(image)
    writer.text(image.format)
    writer.sequence(image.data)
    return writer.bytes()


def raw_to_cdr(image: ImageContent) -> bytes:
    """A sensor_msgs/Image."""
    writer = _CdrWriter()
    writer.header(image)
    writer.number("I", image.height)
    writer.number("I", image.width)
    writer.text(image.encoding)
    writer.number("B", 0)  # pixels of 16 bit are little-endian
    writer.number("I", image.step)
    writer.sequence(image.data)
    return writer.bytes()


def video_to_cdr(image: ImageContent) -> bytes:
    """A foxglove_msgs/CompressedVideo: its stamp and frame_id stand as in a header."""
    writer = _CdrWriter()
    writer.header(image)
    writer.sequence(image.data)
    writer.text(image.format)
    return writer.bytes()
