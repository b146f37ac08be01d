# SPDX-License-Identifier: Apache-2.0
"""Foxglove's image messages in MCAP files, as the messages of ROS that hold the same.

Schemas: https://docs.foxglove.dev/docs/sdk/schemas. A message has a handful of fields whose numbers
are fixed, so that ``support.protobuf`` reads it without copying and without generated classes,
which would tie a robot to one version of the protobuf library.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from compact_yolo_ros.recordings.compression import MOST_BYTES
from compact_yolo_ros.recordings.image_messages import (
    Buffer,
    ImageContent,
    compressed_to_cdr,
    raw_to_cdr,
    video_to_cdr,
)
from compact_yolo_ros.recordings.image_types import COMPRESSED_IMAGE, COMPRESSED_VIDEO, IMAGE
from compact_yolo_ros.support.document import Limits
from compact_yolo_ros.support.json_files import parse_json
from compact_yolo_ros.support.protobuf import Field, read_fields

MOST_FIELDS = 1000
"""Of a message; there are seven, but schemas grow."""
JSON_LIMITS = Limits(size=MOST_BYTES, values=MOST_FIELDS, depth=16)


class ForeignType(NamedTuple):
    """A type of messages that are read as another one: its name, and what converts them to CDR.

    The conversion raises an exception where a message is damaged; each format has its own.
    """

    read_as: str
    convert: Callable[[bytes], bytes]


def _raw_from_protobuf(message: bytes) -> bytes:
    fields = _fields(message)
    return raw_to_cdr(
        ImageContent(
            *_stamp(fields),
            frame_id=_text(fields, 7),
            data=_content(fields, 6),
            width=_number(fields, 2),
            height=_number(fields, 3),
            encoding=_text(fields, 4),
            step=_number(fields, 5),
        )
    )


def _compressed_from_protobuf(message: bytes) -> bytes:
    return compressed_to_cdr(_encoded(message, data=2, format_=3, frame_id=4))


def _video_from_protobuf(message: bytes) -> bytes:
    return video_to_cdr(_encoded(message, frame_id=2, data=3, format_=4))


def _encoded(message: bytes, data: int, format_: int, frame_id: int) -> ImageContent:
    """A message whose pixels are encoded, by the numbers of its fields."""
    fields = _fields(message)
    return ImageContent(
        *_stamp(fields),
        frame_id=_text(fields, frame_id),
        data=_content(fields, data),
        format=_text(fields, format_),
    )


def _fields(message: Buffer) -> dict[int, Field]:
    """The fields by their numbers; of one that is repeated the last, as the format demands."""
    found = list(islice(read_fields(message), MOST_FIELDS + 1))
    if len(found) > MOST_FIELDS:
        raise ValueError(f"the message has more than {MOST_FIELDS} fields")
    return {field.number: field for field in found}


def _content(fields: Mapping[int, Field], number: int) -> Buffer:
    return fields[number].content if number in fields else b""


def _text(fields: Mapping[int, Field], number: int) -> str:
    return str(_content(fields, number), "utf-8")


def _number(fields: Mapping[int, Field], number: int) -> int:
    """A field of the type fixed32."""
    content = _content(fields, number)
    return int(struct.unpack("<I", content)[0]) if len(content) else 0


def _stamp(fields: Mapping[int, Field]) -> tuple[int, int]:
    """Seconds and nanoseconds of the google.protobuf.Timestamp in the field 1."""
    parts = _fields(_content(fields, 1))
    seconds, nanoseconds = (parts[n].value if n in parts else 0 for n in (1, 2))
    if not isinstance(seconds, int) or not isinstance(nanoseconds, int):
        raise ValueError("the timestamp is not made of two integers")
    return seconds, nanoseconds


def _raw_from_json(message: bytes) -> bytes:
    return raw_to_cdr(_from_json(message))


def _compressed_from_json(message: bytes) -> bytes:
    return compressed_to_cdr(_from_json(message))


def _video_from_json(message: bytes) -> bytes:
    return video_to_cdr(_from_json(message))


def _from_json(message: bytes) -> ImageContent:
    values = _of_kind(dict, parse_json(message, JSON_LIMITS), "content")
    stamp = _of_kind(dict, values.get("timestamp", {}), "timestamp")
    texts = {name: _of_kind(str, values.get(name, ""), name) for name in _TEXTS}
    numbers = {name: _of_kind(int, values.get(name, 0), name) for name in _NUMBERS}
    return ImageContent(
        _of_kind(int, stamp.get("sec", 0), "sec"),
        _of_kind(int, stamp.get("nsec", 0), "nsec"),
        data=base64.b64decode(_of_kind(str, values.get("data", ""), "data"), validate=True),
        **texts,
        **numbers,
    )


_TEXTS, _NUMBERS = ("frame_id", "format", "encoding"), ("width", "height", "step")


def _of_kind(kind: type, value: Any, name: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"the '{name}' of the message is not of the type {kind.__name__}")
    return value


FOREIGN_TYPES = {
    "foxglove.RawImage (protobuf)": ForeignType(IMAGE, _raw_from_protobuf),
    "foxglove.RawImage (json)": ForeignType(IMAGE, _raw_from_json),
    "foxglove.CompressedImage (protobuf)": ForeignType(COMPRESSED_IMAGE, _compressed_from_protobuf),
    "foxglove.CompressedImage (json)": ForeignType(COMPRESSED_IMAGE, _compressed_from_json),
    "foxglove.CompressedVideo (protobuf)": ForeignType(COMPRESSED_VIDEO, _video_from_protobuf),
    "foxglove.CompressedVideo (json)": ForeignType(COMPRESSED_VIDEO, _video_from_json),
}
"""By their ``type_name``."""
