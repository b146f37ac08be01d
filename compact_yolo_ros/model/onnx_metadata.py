# SPDX-License-Identifier: Apache-2.0
"""Reading an ONNX file's metadata properties without loading its graph or any ONNX package.

The card has to be known before a backend opens the file (it fixes the input size), and a robot has
no ``onnx`` package. Format: protobuf wire encoding; ``ModelProto.metadata_props`` is field 14, each
a ``StringStringEntryProto`` with key = 1 and value = 2 (onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata properties of the ONNX file at ``path``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not an ONNX file.
    """
    try:
        entries = [
            value for number, value in _fields(path.read_bytes()) if number == _METADATA_PROPS
        ]
        pairs = (dict(_fields(entry)) for entry in entries)
        return {pair[_KEY].decode(): pair.get(_VALUE, b"").decode() for pair in pairs}
    except (IndexError, KeyError, UnicodeDecodeError, _WireError):
        raise ValueError(f"{path} is not an ONNX file, or it is cut off") from None


class _WireError(Exception):
    """The bytes are not a protobuf message."""


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message, as (number, content)."""
    view, position = memoryview(message), 0
    while position < len(view):
        tag, position = _varint(view, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            _, position = _varint(view, position)
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        elif wire_type == _BYTES:
            length, position = _varint(view, position)
            if position + length > len(view):
                raise _WireError
            # The graph is megabytes and not needed: only metadata-sized fields are copied.
            if number in (_KEY, _VALUE, _METADATA_PROPS):
                yield number, bytes(view[position : position + length])
            position += length
        else:
            raise _WireError
    if position > len(view):
        raise _WireError


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    """A base-128 number at ``position`` and the position after it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _WireError
