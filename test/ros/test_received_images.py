# SPDX-License-Identifier: Apache-2.0
"""Serialized images are read as rclpy reads them, whatever the bytes are."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image

from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.ros.received_images import unpack_file, unpack_image

UNPACK = {Image: unpack_image, CompressedImage: unpack_file}
KINDS = (Image, CompressedImage)
WORDS = st.integers(0, 2**32 - 1)
SMALL = st.one_of(st.integers(0, 70), WORDS)
TEXTS = st.one_of(
    st.text(max_size=9).map(lambda text: text.encode() + b"\0"),
    st.binary(max_size=9),
    st.binary(max_size=9).map(lambda text: text + b"\0"),
)
ENCODINGS = {b"\0\0": ">", b"\0\1": "<", b"\0\6": ">", b"\0\7": "<"}


class Writer:
    """Plain CDR, as the specification of DDS-XTypes has it."""

    def __init__(self, encoding: bytes, options: bytes) -> None:
        self.header = encoding + options
        self.order = ENCODINGS[encoding]
        self.body = b""

    def number(self, value: int, kind: str) -> None:
        size = struct.calcsize(kind)
        self.body += bytes(-len(self.body) % size) + struct.pack(self.order + kind, value)

    def octets(self, value: bytes, length: int | None = None) -> None:
        self.number(len(value) if length is None else length, "I")
        self.body += value


@st.composite
def serialized(draw: st.DrawFn, kind: type) -> bytes:
    """Messages of a kind in every encoding; some of them claim a wrong length or end early."""
    options = bytes((draw(st.integers(0, 255)), 4 * draw(st.integers(0, 63))))
    out = Writer(draw(st.sampled_from(sorted(ENCODINGS))), options)
    lie = st.one_of(st.none(), st.none(), st.none(), SMALL)
    out.number(draw(st.integers(-(2**31), 2**31 - 1)), "i")
    out.number(draw(WORDS), "I")
    out.octets(draw(TEXTS), draw(lie))
    if kind is Image:
        out.number(draw(WORDS), "I")
        out.number(draw(WORDS), "I")
        out.octets(draw(TEXTS), draw(lie))
        out.number(draw(st.integers(0, 255)), "B")
        out.number(draw(WORDS), "I")
    else:
        out.octets(draw(TEXTS), draw(lie))
    out.octets(draw(st.binary(max_size=40)), draw(lie))
    message = out.header + out.body + draw(st.one_of(st.just(b""), st.binary(max_size=9)))
    return message[: draw(st.one_of(st.none(), st.integers(0, len(message))))]


def fields(message: Any) -> dict[str, Any]:
    names = ("height", "width", "encoding", "is_bigendian", "step", "format")
    return {
        "stamp": (message.header.stamp.sec, message.header.stamp.nanosec),
        "frame_id": message.header.frame_id,
        "data": bytes(message.data),
        **{name: getattr(message, name) for name in names if hasattr(message, name)},
    }


def read_by_rclpy(data: bytes, kind: type) -> dict[str, Any] | None:
    """None if it cannot be read."""
    try:
        return fields(deserialize_message(data, kind))
    except Exception:  # rclpy does not export the type
        return None


def read_here(data: bytes, kind: type) -> dict[str, Any] | None:
    try:
        return fields(UNPACK[kind](data))
    except ImageError as error:
        assert error.kind == "malformed"
        assert "\n" not in str(error) and str(error).endswith(": check its publisher")
        return None


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=200)
@given(data=st.data())
def test_messages_are_read_as_rclpy_reads_them(kind: type, data: st.DataObject) -> None:
    message = data.draw(serialized(kind))
    assert read_here(message, kind) == read_by_rclpy(message, kind)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(
    data=st.one_of(
        st.binary(max_size=90).filter(lambda data: len(data) < 4 or data[3] % 4 == 0),
        st.tuples(st.integers(0, 15), st.binary(max_size=60)).map(
            lambda parts: bytes((0, parts[0], 0, 0)) + parts[1]
        ),
    )
)
def test_no_bytes_are_read_that_rclpy_refuses(kind: type, data: bytes) -> None:
    found = read_here(data, kind)
    if found is not None or data[:2] in ENCODINGS:
        assert found == read_by_rclpy(data, kind)


@pytest.mark.parametrize("padding", range(4))
def test_bytes_that_the_header_counts_as_padding_are_not_read(padding: int) -> None:
    """As Cyclone DDS fills the last word of a message."""
    message = bytearray(serialize_message(CompressedImage(format="jpeg", data=bytes(16 - padding))))
    message += bytes(padding)
    message[3] = padding
    assert read_here(bytes(message), CompressedImage) is not None
    length_at = len(message) - 16 - 4
    message[length_at : length_at + 4] = struct.pack("<I", 16)
    assert (read_here(bytes(message), CompressedImage) is None) is (padding > 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "its encoding without a number is not plain CDR"),
        (b"\0\1\0", "its encoding 0001 is not plain CDR"),
        (b"\0\3\0\0", "its encoding 0003 is not plain CDR"),
        (b"\0\1\0\0" + bytes(8), "4 of its 16 bytes are missing"),
        (b"\0\1\0\0" + bytes(8) + b"\xff\xff\xff\xff", "4294967295 of its 4294967311 bytes"),
    ],
)
def test_the_sentence_says_what_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as raised:
        UNPACK[Image](data)
    assert str(raised.value).startswith("the Image message cannot be read (")


def test_the_pixels_are_not_copied() -> None:
    message = serialize_message(Image(height=2, width=2, step=6, encoding="bgr8", data=bytes(12)))
    pixels = np.frombuffer(UNPACK[Image](message).data, np.uint8)
    assert np.shares_memory(pixels, np.frombuffer(message, np.uint8))
