# SPDX-License-Identifier: Apache-2.0
"""Reading an ONNX file's metadata properties without loading its graph or any ONNX package.

The card has to be known before a backend opens the file (it fixes the input size), and a robot has
no ``onnx`` package. ``ModelProto.metadata_props`` is field 14, each a ``StringStringEntryProto``
with key = 1 and value = 2 (onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compact_yolo_ros.support.error_text import shortened
from compact_yolo_ros.support.files import read_file
from compact_yolo_ros.support.protobuf import WireError, read_fields

MOST_BYTES = 2**31 - 1
"""Of an ONNX file; protocol buffers are not larger."""
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
_GRAPH, _INITIALIZER = 7, 5  # of ModelProto and GraphProto
_DATA_LOCATION, _EXTERNAL = 14, 1  # of TensorProto
_PATH_KEY = b"location"
"""What the path of another file is called in one that keeps weights there."""


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata properties of the ONNX file at ``path``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not an ONNX file.
    """
    return metadata_of(read_file(path, MOST_BYTES), path)


def metadata_of(data: bytes, path: Path) -> dict[str, str]:
    """Return the metadata properties of an ONNX file of which these are the bytes.

    Raises:
        ValueError: it is not an ONNX file.
    """
    try:
        entries = [
            {part.number: bytes(part.content).decode() for part in read_fields(field.content)}
            for field in read_fields(data)
            if field.number == _METADATA_PROPS
        ]
        return {entry[_KEY]: entry.get(_VALUE, "") for entry in entries}
    except (KeyError, UnicodeDecodeError, WireError):
        raise ValueError(f"{path} is not an ONNX file, or it is cut off") from None


def check_weights_inside(data: bytes, path: Path) -> None:
    """Check that an ONNX file holds its weights: its digest says nothing of those in another file.

    Raises:
        ValueError: it keeps weights in another file, or is not an ONNX file.
    """
    try:
        # To go through all constants takes far longer than to look for a word.
        outside = _PATH_KEY in data and any(map(_is_outside, _constants(data)))
    except WireError:
        raise ValueError(f"{path} is not an ONNX file, or it is cut off") from None
    if outside:
        raise ValueError(
            f"{shortened(path)} keeps its weights in another file, which may change unnoticed: "
            "write one file, with onnx.save(onnx.load('net.onnx'), 'one.onnx')"
        )


def _constants(model: bytes) -> Iterator[memoryview]:
    """Yield the initializers of a ModelProto, each a TensorProto."""
    for part in read_fields(model):
        if part.number == _GRAPH:
            for field in read_fields(part.content):
                if field.number == _INITIALIZER:
                    yield field.content


def _is_outside(tensor: memoryview) -> bool:
    """Whether the values of a TensorProto are in another file."""
    return any(
        field.number == _DATA_LOCATION and field.value == _EXTERNAL for field in read_fields(tensor)
    )
