# SPDX-License-Identifier: Apache-2.0
"""Protocol-buffer messages without their schema: reading and writing single fields.

A robot has no ``onnx`` package, and little of an ONNX file has to be understood. Format:
https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are not a protocol-buffer message."""


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        number: as the schema has it.
        value: an integer, or the content of a text, a message or a packed list (a view).
        encoded: the whole field, to be copied into another message (a view).
    """

    number: int
    value: int | memoryview
    encoded: memoryview

    @property
    def content(self) -> memoryview:
        """The value of a field that is not an integer; raises WireError for one that is."""
        if isinstance(self.value, int):
            raise WireError("a text or a message was expected, not an integer")
        return self.value


def read_fields(message: bytes | memoryview) -> Iterator[Field]:
    """Yield the fields of a message in their order; nothing is copied.

    Raises:
        WireError: the bytes are not a message, or it is cut off.
    """
    view, position = memoryview(message), 0
    end = len(view)
    while position < end:
        start = position
        tag, position = _read_varint(view, position)
        kind = tag & 7
        value: int | memoryview
        if kind == _VARINT:
            value, position = _read_varint(view, position)
        else:
            if kind == _BYTES:
                size, position = _read_varint(view, position)
            else:
                size = _fixed_size(kind)
            value = view[position : position + size]
            position += size
        if position > end:
            raise WireError("the message is cut off")
        yield Field(tag >> 3, value, view[start:position])


def read_packed(content: memoryview) -> Iterator[int]:
    """Yield the integers of a packed list; negative ones come as 2**64 more.

    Raises:
        WireError: the last one is cut off.
    """
    position = 0
    while position < len(content):
        value, position = _read_varint(content, position)
        yield value


def write_field(number: int, value: int | bytes) -> bytes:
    """Return a field: an integer (not negative), or bytes with their length before them."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _fixed_size(kind: int) -> int:
    """Return the size in bytes of a number that is no varint."""
    if kind in (_FIXED32, _FIXED64):
        return 4 if kind == _FIXED32 else 8
    raise WireError(f"there is no wire type {kind}")


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    """Return a base-128 number at ``position``, and the position after it."""
    if position < len(view) and view[position] < 0x80:  # as nearly all of them
        return view[position], position + 1
    value = 0
    for shift in range(0, 64, 7):
        if position == len(view):
            break
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise WireError("a number is cut off")


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*digits, value))
