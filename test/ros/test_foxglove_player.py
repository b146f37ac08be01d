# SPDX-License-Identifier: Apache-2.0
"""Recordings of Foxglove, and videos, are played as images of ROS, by the package's own player."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_writer import PERIOD, START, Recorded, Scene, draw_scene, foxglove_image, write_bag
from encoded_video import encode, number_of
from harness import PATIENCE, Client
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from video_messages import FFMPEG, ffmpeg_packet

from compact_yolo_ros.ros.launching.evaluation import EVALUATION_ARGUMENTS, read_evaluation
from compact_yolo_ros.ros.players.bag_player import BagPlayerNode


def raw(scene: Scene, number: int, topic: str = "/eye") -> Recorded:
    return foxglove_image(scene, START + number * PERIOD, topic, frame_id="eye")


def player(client: Client, bag: Path) -> BagPlayerNode:
    given = [Parameter("bags", value=[str(bag)]), Parameter("rate", value=20.0)]
    return BagPlayerNode(context=client.context, parameter_overrides=given)


def test_images_of_foxglove_are_published_as_those_of_ros(client: Client, tmp_path: Path) -> None:
    scenes = [draw_scene(number) for number in range(3)]
    messages = [raw(scene, number) for number, scene in enumerate(scenes)]
    damaged = Recorded("/eye", "foxglove.RawImage", START + 10, b'{"width": 5', "json")
    images = client.collect(Image, "/eye")
    node = player(client, write_bag(tmp_path / "bag", [*messages, damaged]))
    client.host(node)
    client.wait_for(lambda: len(images) == 3, PATIENCE)
    client.release(node)
    for number, (message, scene) in enumerate(zip(images, scenes, strict=True)):
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        assert stamp == START + number * PERIOD
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        assert np.array_equal(pixels, scene.pixels)


def test_a_topic_that_ros_cannot_have_is_a_sentence(client: Client, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", [raw(draw_scene(0), 0, "front camera")])
    with pytest.raises(ValueError, match="'front camera' cannot be a topic of ROS: .+") as error:
        player(client, bag)
    assert "\n" not in str(error.value)


def test_a_launch_takes_the_player_that_can_publish_them(toy: str, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", [raw(draw_scene(0), 0)])
    texts = {argument.name: argument.default for argument in EVALUATION_ARGUMENTS}
    texts |= {"bag": str(bag), "out": str(tmp_path / "out"), "model": toy}
    assert read_evaluation(texts).player == "own"
    assert read_evaluation(texts).detector["image_transport"] == "raw"
    with pytest.raises(ValueError, match=r"/eye is foxglove.RawImage \(json\), which ros2 bag"):
        read_evaluation({**texts, "player": "rosbag2"})


def test_a_video_is_played_as_raw_images(client: Client, toy: str, tmp_path: Path) -> None:
    messages = [
        Recorded(
            "/eye/ffmpeg",
            FFMPEG,
            START + packet.number * PERIOD,
            ffmpeg_packet(packet, START + packet.number * PERIOD),
        )
        for packet in encode("h264", 4)
    ]
    bag = write_bag(tmp_path / "bag", messages)
    images = client.collect(Image, "/eye/ffmpeg")
    node = player(client, bag)
    client.host(node)
    client.wait_for(lambda: len(images) == 4, PATIENCE)
    client.release(node)
    for number, message in enumerate(images):
        assert number_of(np.frombuffer(message.data, np.uint8)) == number
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        assert stamp == START + number * PERIOD

    texts = {argument.name: argument.default for argument in EVALUATION_ARGUMENTS}
    texts |= {"bag": str(bag), "out": str(tmp_path / "out"), "model": toy}
    assert read_evaluation(texts).detector["image_transport"] == "raw"
    with pytest.raises(ValueError, match=r"FFMPEGPacket, which ros2 bag play cannot publish as"):
        read_evaluation({**texts, "player": "rosbag2"})
