# SPDX-License-Identifier: Apache-2.0
"""Foxglove's images in JSON and protobuf are read as what they show; other encodings are not taken
for images.

Messages are made by Google's protobuf from Foxglove's published schema.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bag_writer import PERIOD, START, TOPIC, Recorded, draw_scene, image, write_bag
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.pixels.decoding import ImageDecoder
from compact_yolo_ros.recordings.codec import Codec, stamp_of
from compact_yolo_ros.recordings.image_types import COMPRESSED_IMAGE, IMAGE
from compact_yolo_ros.recordings.reader import Bag, choose_topics
from compact_yolo_ros.recordings.storage import BagError, Message

KIND = descriptor_pb2.FieldDescriptorProto
# foxglove/RawImage.proto and foxglove/CompressedImage.proto: name, number, type
FIELDS = {
    "RawImage": [
        ("timestamp", 1, KIND.TYPE_MESSAGE),
        ("frame_id", 7, KIND.TYPE_STRING),
        ("width", 2, KIND.TYPE_FIXED32),
        ("height", 3, KIND.TYPE_FIXED32),
        ("encoding", 4, KIND.TYPE_STRING),
        ("step", 5, KIND.TYPE_FIXED32),
        ("data", 6, KIND.TYPE_BYTES),
    ],
    "CompressedImage": [
        ("timestamp", 1, KIND.TYPE_MESSAGE),
        ("frame_id", 4, KIND.TYPE_STRING),
        ("data", 2, KIND.TYPE_BYTES),
        ("format", 3, KIND.TYPE_STRING),
    ],
}


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name="images.proto", package="foxglove")
    file.syntax = "proto3"
    file.dependency.append("google/protobuf/timestamp.proto")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number, type=kind)
            added.label = KIND.LABEL_OPTIONAL
            if kind == KIND.TYPE_MESSAGE:
                added.type_name = ".google.protobuf.Timestamp"
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"foxglove.{name}"))
        for name in FIELDS
    }


CLASSES = _classes()
SCENES = [draw_scene(number) for number in range(3)]
STAMPS = [START + number * PERIOD + 123_456_789 for number in range(3)]


def as_protobuf(name: str, stamp: int, values: dict[str, Any]) -> bytes:
    message = CLASSES[name](**values)
    message.timestamp.seconds, message.timestamp.nanos = divmod(stamp, 10**9)
    return bytes(message.SerializeToString())


def as_json(name: str, stamp: int, values: dict[str, Any]) -> bytes:
    seconds, rest = divmod(stamp, 10**9)
    texts = values | {"data": base64.b64encode(values["data"]).decode()}
    return json.dumps({"timestamp": {"sec": seconds, "nsec": rest}, **texts}).encode()


ENCODE = {"protobuf": as_protobuf, "json": as_json}


def raw(pixels: np.ndarray, encoding: str = "rgb8") -> dict[str, Any]:
    height, width = pixels.shape[:2]
    step = pixels.strides[0]
    return {
        "frame_id": "eye",
        "width": width,
        "height": height,
        "encoding": encoding,
        "step": step,
        "data": pixels.tobytes(),
    }


def png(pixels: np.ndarray) -> dict[str, Any]:
    content = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()
    return {"frame_id": "eye", "format": "png", "data": content}


@pytest.mark.parametrize("encoding", ENCODE)
@pytest.mark.parametrize(
    ("name", "values", "read_as"),
    [("RawImage", raw, IMAGE), ("CompressedImage", png, COMPRESSED_IMAGE)],
)
@pytest.mark.parametrize("storage", ["none", "storage"])
def test_images_are_what_they_show(
    tmp_path: Path, encoding: str, name: str, values: Any, read_as: str, storage: str
) -> None:
    messages = [
        Recorded(
            TOPIC,
            f"foxglove.{name}",
            stamp + 5,
            ENCODE[encoding](name, stamp, values(scene.pixels[:200])),
            encoding,
        )
        for stamp, scene in zip(STAMPS, SCENES, strict=True)
    ]
    bag = Bag([write_bag(tmp_path / "bag", messages, "mcap", storage)])
    assert choose_topics(bag, []) == [TOPIC]
    assert bag.topics[TOPIC].type == read_as
    codec, decoder = Codec(bag.topics.values()), ImageDecoder()
    read = list(bag.messages([TOPIC]))
    assert [message.type for message in read] == [read_as] * 3
    for message, stamp, scene in zip(read, STAMPS, SCENES, strict=True):
        content = codec.read(message)
        assert stamp_of(content, 0) == stamp and content.header.frame_id == "eye"
        pixels, colour, *_ = (decoder.image if name == "RawImage" else decoder.compressed)(content)
        shown = pixels if colour == "rgb" else pixels[..., ::-1]
        assert np.array_equal(shown, scene.pixels[:200])
        # What the player publishes is the same message, for any subscriber of ROS.
        published = Message(0, TOPIC, read_as, codec.published(message))
        assert stamp_of(Codec().read(published), 0) == stamp


@pytest.mark.parametrize("content", [b"", b'{"a": 1}', b"\0\1\0\0\1\0"])
def test_what_no_subscriber_can_read_is_not_published(content: bytes) -> None:
    with pytest.raises(BagError):
        Codec().published(Message(0, TOPIC, IMAGE, content))


@given(
    seconds=st.integers(0, 2**31 - 1),
    nanoseconds=st.integers(0, 10**9 - 1),
    frame_id=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    sizes=st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
    data=st.binary(max_size=50),
    encoding=st.sampled_from(sorted(ENCODE)),
)
def test_every_field_arrives(
    seconds: int,
    nanoseconds: int,
    frame_id: str,
    sizes: tuple[int, int, int],
    data: bytes,
    encoding: str,
) -> None:
    values = dict(zip(("width", "height", "step"), sizes, strict=True))
    values |= {"frame_id": frame_id, "encoding": "16UC1", "data": data}
    stamp = seconds * 10**9 + nanoseconds
    content = ENCODE[encoding]("RawImage", stamp, values)
    message = Message(0, TOPIC, IMAGE, content, f"foxglove.RawImage ({encoding})")
    read = Codec().read(message)
    assert (read.header.stamp.sec, read.header.stamp.nanosec) == (seconds, nanoseconds)
    assert (read.width, read.height, read.step) == sizes
    assert (read.header.frame_id, read.encoding, read.is_bigendian) == (frame_id, "16UC1", 0)
    assert read.data.tobytes() == data


def test_what_newer_schemas_add_is_ignored_and_what_is_missing_is_empty() -> None:
    """Both formats leave out what is zero, and a schema may grow."""
    unknown = b"\x9a\x06\x03new" + b"\xa0\x06\x05"
    for encoding, content in (("protobuf", unknown), ("json", b'{"new": [1, {"a": null}]}')):
        recorded_as = f"foxglove.CompressedImage ({encoding})"
        read = Codec().read(Message(0, TOPIC, COMPRESSED_IMAGE, content, recorded_as))
        assert (read.header.stamp.sec, read.format, len(read.data)) == (0, "", 0)


DAMAGED_JSON = [
    b"",
    b"[]",
    b"null",
    b'{"timestamp": 5}',
    b'{"timestamp": {"sec": "5"}}',
    b'{"timestamp": {"sec": 1e5}}',
    b'{"timestamp": {"sec": 4294967296}}',
    b'{"timestamp": {"sec": -5000000000}}',
    b'{"data": 5}',
    b'{"data": "not base64 at all"}',
    b'{"data": "####"}',
    b'{"width": -1}',
    b'{"width": 4294967296}',
    b'{"width": true}',
    b'{"frame_id": null}',
    b'{"a": ' + b"[" * 100_000,
    b'{"a": [' + b"1," * 5000 + b"1]}",
    b"\xff\xfe",
]
DAMAGED_PROTOBUF = [
    b"\x0a",
    b"\x0a\x05\x08",
    b"\x0a\x01\xff",
    b"\x08\x01",
    b"\x12\x01\x00",
    b"\x15\x01",
    b"\x1a\x05eye",
    b"\x3a\x01\xff",
    b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x32\xff\xff\xff\xff\x7f",
    b"\xa0\x06\x05" * 1001,
    b"\xff" * 20,
]


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        *(("json", content) for content in DAMAGED_JSON),
        *(("protobuf", content) for content in DAMAGED_PROTOBUF),
    ],
)
def test_a_damaged_message_is_a_sentence(encoding: str, content: bytes) -> None:
    recorded_as = f"foxglove.RawImage ({encoding})"
    with pytest.raises(BagError, match=f"a message of {TOPIC} cannot be read") as error:
        Codec().read(Message(0, TOPIC, IMAGE, content, recorded_as))
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@given(content=st.binary(max_size=60), encoding=st.sampled_from(sorted(ENCODE)))
def test_no_bytes_end_in_anything_but_a_sentence(content: bytes, encoding: str) -> None:
    recorded_as = f"foxglove.CompressedImage ({encoding})"
    try:
        Codec().read(Message(0, TOPIC, COMPRESSED_IMAGE, content, recorded_as))
    except BagError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize(
    ("type_", "encoding"),
    [
        (IMAGE, "json"),
        (COMPRESSED_IMAGE, "protobuf"),
        ("sensor_msgs/Image", "ros1"),
        ("foxglove.CompressedAudio", "protobuf"),
        ("foxglove.CompressedImage", "flatbuffer"),
    ],
)
def test_other_encodings_are_no_images(
    tmp_path: Path, storage: str, type_: str, encoding: str
) -> None:
    """The bytes of JSON were published as those of an image."""
    other = Recorded("/other", type_, START, b'{"a": 1}', encoding)
    alone = Bag([write_bag(tmp_path / "alone", [other], storage)])
    with pytest.raises(BagError) as error:
        choose_topics(alone, [])
    assert f"but /other ({type_} ({encoding}))" in str(error.value)
    with pytest.raises(BagError, match="not images"):
        choose_topics(alone, ["/other"])
    good = image(SCENES[0], 0)
    assert choose_topics(Bag([write_bag(tmp_path / "two", [other, good], storage)]), []) == [TOPIC]


def test_the_sentence_names_the_types_that_are_there_but_not_thousands(tmp_path: Path) -> None:
    names = [f"/topic_{number:03}" for number in range(299)] + ["/long" * 10_000]
    messages = [
        Recorded(name, "std_msgs/msg/String", START, b"\0\1\0\0\1\0\0\0\0") for name in names
    ]
    with pytest.raises(BagError) as error:
        choose_topics(Bag([write_bag(tmp_path / "bag", messages)]), [])
    said = str(error.value)
    assert len(said) < 2000
    assert "/topic_000 (std_msgs/msg/String)" in said and said.endswith("and 288 more")
    assert "CompressedVideo, foxglove.RawImage, foxglove.CompressedImage" in said
