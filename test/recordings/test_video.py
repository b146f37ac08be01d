# SPDX-License-Identifier: Apache-2.0
"""Videos in recordings become images: each packet one, with its stamp, wherever reading begins."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_writer import PERIOD, START, Recorded, draw_scene, image, write_bag
from encoded_video import OPEN_GOP, Encoded, encode, number_of
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from video_messages import FFMPEG, FOXGLOVE, compressed_video, ffmpeg_packet

from compact_yolo_ros.pixels.decoding import ImageDecoder
from compact_yolo_ros.recordings.codec import Codec, stamp_of
from compact_yolo_ros.recordings.reader import Bag, choose_topics
from compact_yolo_ros.recordings.storage import FOREVER, BagError, Message
from compact_yolo_ros.recordings.video import images

TOPIC = "/eye/ffmpeg"
KIND = descriptor_pb2.FieldDescriptorProto


def foxglove_json(packet: Encoded, stamp: int) -> bytes:
    return json.dumps(
        {
            "timestamp": {"sec": stamp // 10**9, "nsec": stamp % 10**9},
            "frame_id": "eye",
            "data": base64.b64encode(packet.data).decode(),
            "format": "h264",
        }
    ).encode()


def foxglove_protobuf(packet: Encoded, stamp: int) -> bytes:
    """By Google's protobuf and foxglove/CompressedVideo.proto."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name="v.proto", package="foxglove", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    video = file.message_type.add(name="CompressedVideo")
    for name, number, kind in (
        ("timestamp", 1, KIND.TYPE_MESSAGE),
        ("frame_id", 2, KIND.TYPE_STRING),
        ("data", 3, KIND.TYPE_BYTES),
        ("format", 4, KIND.TYPE_STRING),
    ):
        field = video.field.add(name=name, number=number, type=kind, label=KIND.LABEL_OPTIONAL)
        if kind == KIND.TYPE_MESSAGE:
            field.type_name = ".google.protobuf.Timestamp"
    pool.Add(file)
    make = message_factory.GetMessageClass(pool.FindMessageTypeByName("foxglove.CompressedVideo"))
    message: Any = make(frame_id="eye", data=packet.data, format="h264")
    message.timestamp.seconds, message.timestamp.nanos = divmod(stamp, 10**9)
    return bytes(message.SerializeToString())


FORMS: dict[str, tuple[str, str, Callable[..., bytes]]] = {
    "ffmpeg": (FFMPEG, "cdr", ffmpeg_packet),
    "foxglove": (FOXGLOVE, "cdr", compressed_video),
    "protobuf": ("foxglove.CompressedVideo", "protobuf", foxglove_protobuf),
    "json": ("foxglove.CompressedVideo", "json", foxglove_json),
}


def without_parameters(data: bytes, codec: str) -> bytes:
    """A packet without the units that say how pictures are coded."""
    kept = b""
    for unit in re.split(b"\0\0\0?\1", data)[1:]:
        kind = unit[0] & 0x1F if codec == "h264" else unit[0] >> 1 & 0x3F
        if kind not in ((7, 8) if codec == "h264" else (32, 33, 34)):
            kept += b"\0\0\1" + unit
    return kept


def time_of(place: int) -> int:
    """When the packet at a place of the order was received."""
    return START + place * PERIOD + 5_000_000


def recorded(packets: Sequence[Encoded], form: str = "ffmpeg", **options: str) -> list[Recorded]:
    kind, encoding, write = FORMS[form]
    stamps = [START + packet.number * PERIOD for packet in packets]
    return [
        Recorded(TOPIC, kind, time_of(place), write(packet, stamp, **options), encoding)
        for place, (packet, stamp) in enumerate(zip(packets, stamps, strict=True))
    ]


def numbers(messages: Sequence[Message], codec: Codec) -> list[int]:
    """What the images show, which their stamps say too; -1 for a message with a problem."""
    found, decoder = [], ImageDecoder()
    for message in messages:
        if message.problem:
            with pytest.raises(BagError, match="cannot be|are lost"):
                codec.read(message)
            found.append(-1)
            continue
        content = codec.read(message)
        number = number_of(decoder.image(content).pixels)
        assert stamp_of(content, 0) == START + number * PERIOD
        assert content.header.frame_id == "eye" and content.encoding == "rgb8"
        found.append(number)
    return found


@pytest.mark.parametrize(
    ("form", "storage"), [*((form, "mcap") for form in FORMS), ("ffmpeg", "sqlite3")]
)
def test_every_form_is_read_without_its_definition(tmp_path: Path, form: str, storage: str) -> None:
    bag = Bag([write_bag(tmp_path / "bag", recorded(encode("h264", 8), form), storage)])
    assert choose_topics(bag, []) == [TOPIC]
    codec = Codec(bag.topics.values())
    found = list(images(bag, [TOPIC]))
    assert numbers(found, codec) == list(range(8))
    assert [message.time for message in found] == [time_of(place) for place in range(8)]
    assert codec.published(found[0]).startswith(b"\0\1")  # what a subscriber of ROS can read


@pytest.mark.parametrize("b_frames", [0, 2])
def test_parts_of_a_recording_have_each_image_once(tmp_path: Path, b_frames: int) -> None:
    packets = encode("h264", 14, b_frames=b_frames)
    bag = Bag([write_bag(tmp_path / "bag", recorded(packets))])
    codec = Codec(bag.topics.values())
    for edges in ([0, 5], [0, 1, 2, 3, 4], [0, 6, 7, 13], range(14)):
        times = [*map(time_of, edges), FOREVER]
        spans = zip(times, times[1:], strict=False)
        found = [message for span in spans for message in images(bag, [TOPIC], *span)]
        assert numbers(found, codec) == list(range(14))
        assert [message.time for message in found] == [time_of(place) for place in range(14)]


@pytest.mark.parametrize("begins", [0, 9])
def test_the_keyframe_of_a_part_may_be_minutes_away(tmp_path: Path, begins: int) -> None:
    """Also where there is none, and where another topic is all that the time before holds."""
    packets, apart = encode("h264", 24, gop=20), 7 * 10**9
    messages = [
        replace(message, time=START + place * apart)
        for place, message in enumerate(recorded(packets))
    ]
    other = image(draw_scene(1), 0, "/other", delay=0)
    bag = Bag([write_bag(tmp_path / "bag", [other, *messages[begins:]])])
    codec = Codec(bag.topics.values())
    whole = list(images(bag, [TOPIC]))
    assert numbers(whole, codec)[20 - begins :] == list(range(20, 24))
    assert numbers(whole, codec)[: 20 - begins] == [-1 if begins else n for n in range(20 - begins)]
    times = [*range(START, START + 24 * apart, apart), FOREVER]
    parts = [list(images(bag, [TOPIC], *span)) for span in zip(times, times[1:], strict=False)]
    assert [len(part) for part in parts] == [0] * begins + [1] * (24 - begins)
    assert [message for part in parts for message in part] == whole


@pytest.mark.parametrize(("codec", "encoder"), [("h264", "libx264"), ("hevc", "libx265")])
def test_the_parameters_of_a_video_may_be_at_its_beginning_only(
    tmp_path: Path, codec: str, encoder: str
) -> None:
    """As the encoders of some cameras and of Jetsons have them."""
    first, *others = encode(codec, 18)
    packets = [first, *(p._replace(data=without_parameters(p.data, codec)) for p in others)]
    bag = Bag([write_bag(tmp_path / "bag", recorded(packets, encoder=encoder))])
    times = [*map(time_of, range(18)), FOREVER]
    parts = [list(images(bag, [TOPIC], *span)) for span in zip(times, times[1:], strict=False)]
    found = [message for part in parts for message in part]
    assert numbers(found, Codec(bag.topics.values())) == list(range(18))


def test_pictures_of_a_part_may_need_those_before_its_keyframe(tmp_path: Path) -> None:
    """x265 makes such videos by default; what it begins with cannot be decoded where it is cut."""
    packets = encode("hevc", 18, b_frames=2, **OPEN_GOP)
    first = next(place for place, packet in enumerate(packets) if place and packet.is_key)
    assert packets[first].number > packets[first + 1].number  # which comes before it
    for begins in (0, first):
        messages = recorded(packets, encoder="libx265")[begins:]
        bag = Bag([write_bag(tmp_path / f"bag_{begins}", messages)])
        codec = Codec(bag.topics.values())
        whole = list(images(bag, [TOPIC]))
        assert [message.time for message in whole] == [message.time for message in messages]
        lost = packets[first].number - begins if begins else 0
        assert numbers(whole, codec) == [-1] * lost + list(range(begins + lost, 18))
        times = [*(message.time for message in messages), FOREVER]
        spans = zip(times, times[1:], strict=False)
        assert [message for span in spans for message in images(bag, [TOPIC], *span)] == whole


def test_what_cannot_be_decoded_is_told_in_its_place(tmp_path: Path) -> None:
    packets = encode("h264", 12)
    messages = recorded(packets)
    messages[9] = Recorded(TOPIC, FFMPEG, messages[9].time, b"\0\1\0\0junk")
    bag = Bag([write_bag(tmp_path / "bag", [*messages[2:7], *messages[8:]])])
    codec = Codec(bag.topics.values())
    found = list(images(bag, [TOPIC]))
    assert numbers(found, codec) == [-1, -1, -1, -1, 6, -1, -1, -1, -1]
    problems = [message.problem for message in found]
    assert "has no keyframe before it" in problems[0] and "packets of the video" in problems[5]
    assert "cannot be read" in problems[6]


def test_pictures_that_wait_when_packets_are_lost_are_told_too(tmp_path: Path) -> None:
    packets = encode("h264", 18, gop=9, b_frames=2)
    assert packets[9].number == 9 and packets[9].is_key
    messages = recorded(packets)
    bag = Bag([write_bag(tmp_path / "bag", [*messages[:3], *messages[5:]])])
    found = numbers(list(images(bag, [TOPIC])), Codec(bag.topics.values()))
    assert len(found) == 16 and found[-9:] == list(range(9, 18))
    good = [number for number in found[:-9] if number >= 0]
    assert good == list(range(len(good))) and -1 in found


def test_a_video_and_other_images_come_in_the_order_of_time(tmp_path: Path) -> None:
    scene = draw_scene(1)
    others = [image(scene, number, "/other", delay=0) for number in range(4)]
    both = sorted([*recorded(encode("h264", 4)), *others], key=lambda message: message.time)
    bag = Bag([write_bag(tmp_path / "bag", both)])
    found = list(images(bag, ["/other", TOPIC]))
    assert [message.topic for message in found] == ["/other", TOPIC] * 4
    codec = Codec(bag.topics.values())
    pixels = ImageDecoder().image(codec.read(found[0])).pixels
    np.testing.assert_array_equal(pixels, scene.pixels)


def test_without_pyav_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    packets = [Encoded(b"\0\0\1\x65", 0, True)]
    bag = Bag([write_bag(tmp_path / "bag", recorded(packets))])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BagError, match=f"{TOPIC}: video .* python3-av"):
        next(images(bag, [TOPIC]))
