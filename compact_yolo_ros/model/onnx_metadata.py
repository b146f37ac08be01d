# SPDX-License-Identifier: Apache-2.0
"""Reading an ONNX file's metadata properties without loading its graph or any ONNX package.

The card has to be known before a backend opens the file (it fixes the input size), and a robot has
no ``onnx`` package. ``ModelProto.metadata_props`` is field 14, each a ``StringStringEntryProto``
with key = 1 and value = 2 (onnx/onnx.proto).
"""

from __future__ import annotations

from pathlib import Path

from compact_yolo_ros.support.files import read_file
from compact_yolo_ros.support.protobuf import WireError, read_fields

MOST_BYTES = 2**31 - 1
"""Of an ONNX file; protocol buffers are not larger."""
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata properties of the ONNX file at ``path``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not an ONNX file.
    """
    try:
        entries = [
            {part.number: bytes(part.content).decode() for part in read_fields(field.content)}
            for field in read_fields(read_file(path, MOST_BYTES))
            if field.number == _METADATA_PROPS
        ]
        return {entry[_KEY]: entry.get(_VALUE, "") for entry in entries}
    except (KeyError, UnicodeDecodeError, WireError):
        raise ValueError(f"{path} is not an ONNX file, or it is cut off") from None
