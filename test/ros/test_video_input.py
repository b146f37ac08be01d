# SPDX-License-Identifier: Apache-2.0
"""A camera's video in the node: its pictures are detected in, and what is lost of it is told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from bag_writer import SIZE, draw_scene
from encoded_video import Encoded, encode
from harness import Client, Start, values_of
from sensor_msgs.msg import CompressedImage
from toy_model import CLASSES
from video_messages import compressed_video, ffmpeg_packet

from compact_yolo_ros.pixels.file_limits import USUAL_LIMITS
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.video_packets import VideoPacket
from compact_yolo_ros.pixels.video_stream import VideoPicture
from compact_yolo_ros.ros.detector import video_input
from compact_yolo_ros.ros.detector.video_input import VideoDecoding
from compact_yolo_ros.ros.received_images import (
    UNPACK,
    unpack_compressed_video,
    unpack_ffmpeg_packet,
)
from compact_yolo_ros.ros.transports import FFMPEG, FOXGLOVE

SECOND = 10**9
WRITE: dict[str, Callable[..., bytes]] = {
    FFMPEG.name: ffmpeg_packet,
    FOXGLOVE.name: compressed_video,
}
PACKET = Encoded(b"\0\0\1\x65 payload", 2**40 + 3, True)


@pytest.mark.parametrize("frame_id", ["", "e", "ey", "eye", "eyes", "eyes!"])
def test_messages_are_read_with_every_alignment(frame_id: str) -> None:
    stamp = 5 * SECOND + 7
    for encoder in ("h264", "hevc;yuv420p;bgr8;bgr8"):
        read = unpack_ffmpeg_packet(ffmpeg_packet(PACKET, stamp, encoder, frame_id))
        other = unpack_compressed_video(compressed_video(PACKET, stamp, encoder, frame_id))
        assert read[0] == other[0] == encoder and read[3:] == (2**40 + 3, True)
        assert bytes(read.data) == bytes(other.data) == PACKET.data
        assert other[3:] == (None, False)
        for each in (read, other):
            header = each.origin.header
            assert (header.stamp.sec, header.stamp.nanosec) == (5, 7)
            assert header.frame_id == frame_id


@pytest.mark.parametrize("name", WRITE)
def test_messages_that_end_early_are_malformed(name: str) -> None:
    whole = WRITE[name](PACKET, SECOND)
    for length in range(len(whole)):
        with pytest.raises(ImageError, match="message cannot be read"):
            UNPACK[name](whole[:length])


@pytest.mark.parametrize("transport", [FFMPEG, FOXGLOVE])
def test_a_missing_message_package_is_named(transport: Any, monkeypatch) -> None:
    package = transport.type_name.split("/")[0]
    monkeypatch.setitem(sys.modules, f"{package}.msg", None)
    with pytest.raises(ModuleNotFoundError, match=f"ros-.ROS_DISTRO-{package.replace('_', '-')}"):
        transport.message_class()


class Decoding:
    """A decoder without ROS: numbers of its pictures, and what it told."""

    def __init__(self, unpack: Callable[[bytes], VideoPacket] = unpack_ffmpeg_packet) -> None:
        pytest.importorskip("av", reason="PyAV is not installed")
        self.numbers: list[int] = []
        self.told: list[tuple[str, str]] = []
        self.decoding = VideoDecoding(
            unpack, USUAL_LIMITS, self._take, lambda *failure: self.told.append(failure)
        )

    def _take(self, picture: VideoPicture, arrived: float) -> None:
        assert arrived == picture.origin.arrived > 0
        self.numbers.append(picture.header.stamp.sec)

    def finish(self) -> None:
        """Wait until no packet waits, then end."""
        while self.decoding._packets:
            threading.Event().wait(0.01)
        self.decoding.close()


def test_what_cannot_be_decoded_is_told_and_the_video_goes_on() -> None:
    packets = encode("h264")
    seen = Decoding()

    def put(*places: int) -> None:
        for packet in (packets[place] for place in places):
            seen.decoding.put(ffmpeg_packet(packet, packet.number * SECOND))

    put(0, 1)
    seen.decoding.put(ffmpeg_packet(packets[2]._replace(data=b"junk"), 2 * SECOND))
    put(3)
    seen.decoding.put(ffmpeg_packet(packets[4], 4 * SECOND, "theora"))
    put(5, 6, 7)
    seen.decoding.put(b"no message")
    put(8, 9)
    seen.finish()
    assert seen.numbers == [0, 1, 6, 7]
    kinds = [kind for kind, _ in seen.told]
    assert kinds == ["image video", "image video", "image malformed"]
    assert seen.decoding.counts == {"video_packets": 11, "video_packets_left_out": 5}


def test_packets_that_come_too_fast_are_dropped_and_that_is_told(monkeypatch) -> None:
    monkeypatch.setattr(video_input, "MOST_PACKETS", 4)
    gate, packets = threading.Event(), encode("h264")

    def slow(message: bytes) -> VideoPacket:
        gate.wait()
        return unpack_ffmpeg_packet(message)

    seen = Decoding(slow)
    for packet in packets:
        seen.decoding.put(ffmpeg_packet(packet, packet.number * SECOND))
    assert len(seen.decoding._packets) <= 4
    gate.set()
    seen.finish()
    assert set(seen.numbers) <= {0, *range(6, 12)}
    assert any("faster than it can be decoded" in sentence for _, sentence in seen.told)
    assert seen.decoding.counts["video_packets_left_out"] >= 4


def test_a_video_without_keyframes_is_a_problem_after_a_while(monkeypatch) -> None:
    packets = encode("h264", 3)
    seen = Decoding()
    seen.decoding.put(ffmpeg_packet(packets[1], SECOND))
    assert seen.decoding.problem() == ""
    monkeypatch.setattr(video_input, "WITHOUT_PICTURE", 0.0)
    now = video_input.monotonic()
    monkeypatch.setattr(video_input, "monotonic", lambda: now)
    seen.decoding.put(ffmpeg_packet(packets[2], SECOND))
    assert "no keyframe for" in seen.decoding.problem()
    seen.finish()
    assert not seen.numbers and not seen.told


def test_a_closed_decoder_keeps_no_packets(monkeypatch) -> None:
    monkeypatch.setattr(video_input, "END_LIMIT", 0.0)
    gate, (packet,) = threading.Event(), encode("h264", 1)

    def stuck(message: bytes) -> VideoPacket:
        gate.wait()
        return unpack_ffmpeg_packet(message)

    seen = Decoding(stuck)
    for _ in range(3):
        seen.decoding.put(ffmpeg_packet(packet, SECOND))
    seen.decoding.close()
    assert not seen.decoding._packets
    gate.set()


def test_a_pause_of_the_camera_is_no_want_of_keyframes(monkeypatch) -> None:
    packets, clock = encode("h264", 3), [100.0]
    monkeypatch.setattr(video_input, "monotonic", lambda: clock[0])
    seen = Decoding()
    seen.decoding.put(ffmpeg_packet(packets[0], SECOND))
    while not seen.numbers:
        threading.Event().wait(0.01)
    clock[0] += 3600
    seen.decoding.put(ffmpeg_packet(packets[2], SECOND))
    assert seen.decoding.problem() == ""
    seen.finish()


@pytest.fixture
def stand_in(monkeypatch) -> None:
    """Another type of messages in place of the video's: its packets are sent as bytes."""
    for package, name in (
        ("ffmpeg_image_transport_msgs", "FFMPEGPacket"),
        ("foxglove_msgs", "CompressedVideo"),
    ):
        module = SimpleNamespace(**{name: CompressedImage})
        monkeypatch.setitem(sys.modules, f"{package}.msg", module)


@pytest.mark.ros
def test_the_node_answers_the_pictures_of_a_video(
    client: Client, start_inside: Start, stand_in: None
) -> None:
    scenes = [draw_scene(number) for number in range(12)]
    pictures = [scene.pixels for scene in scenes]
    packets = encode("h264", size=(SIZE, SIZE), pictures=pictures, crf="5")
    seen = start_inside(image_transport="ffmpeg", diagnostics_period=0.2)
    camera = client.node.create_publisher(CompressedImage, "/image/ffmpeg", 20)

    def play(*numbers: int) -> None:
        """Send packets, and wait for the answer to the last picture."""
        client.wait_for(lambda: camera.get_subscription_count() == 1)
        for number in numbers:
            packet = packets[number]
            camera.publish(ffmpeg_packet(packet, (packet.number + 1) * SECOND))
            client.spin(0.02)
        last = packets[numbers[-1]].number + 1
        client.wait_for(lambda: seen.results and seen.results[-1].header.stamp.sec == last)

    def facts(text: str) -> dict[str, str]:
        seen.diagnostics.clear()
        return client.wait_for(
            lambda: next(
                (values_of(m) for m in seen.diagnostics if text in m.status[0].message), None
            )
        )

    play(*range(2, 12))  # joined late
    for result in seen.results:
        number = result.header.stamp.sec - 1
        assert 6 <= number < 12 and result.header.frame_id == "eye"
        scene = scenes[number]
        found = {
            (d.results[0].hypothesis.class_id, round(d.bbox.center.position.x))
            for d in result.detections
        }
        wanted = zip(scene.labels, scene.boxes, strict=True)
        assert found == {(CLASSES[label], round((box[0] + box[2]) / 2)) for label, box in wanted}
    assert facts("")["video_packets_left_out"] == "4"

    seen.results.clear()
    play(0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    values = facts("packets of the video are lost")
    assert values["errors (image video)"] == "1"
    stamps = [result.header.stamp.sec for result in seen.results]
    assert stamps == sorted(stamps)

    assert any(thread.name == "video" for thread in threading.enumerate())
    seen.node.trigger_deactivate()
    assert not any(thread.name == "video" for thread in threading.enumerate())
    seen.node.trigger_activate()
    seen.results.clear()
    play(0, 1)
