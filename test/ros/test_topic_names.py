# SPDX-License-Identifier: Apache-2.0
"""Remap rules are applied once, by every node that takes or gives images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from harness import Client, image_message, values_of
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from compact_yolo_ros.ros.detector.camera_input import CameraInput
from compact_yolo_ros.ros.detector.node import DetectorNode
from compact_yolo_ros.ros.players.bag_player import BagPlayerNode
from compact_yolo_ros.ros.players.bag_recorder import BagRecorderNode
from compact_yolo_ros.ros.players.readiness import DetectorReadiness
from compact_yolo_ros.ros.players.video_publisher import VideoPublisherNode
from compact_yolo_ros.ros.receiver import Receiver
from compact_yolo_ros.ros.transports import COMPRESSED, RAW

pytestmark = pytest.mark.ros

SWAP = ("left/image:=/right/image", "right/image:=/left/image")
SHIFT = ("left/image:=/right/image", "right/image:=/rear/image")
Spin = Callable[..., Any]


@pytest.fixture
def spin(client: Client) -> Spin:
    """Make a node with remap rules and parameters, and let it work while the client waits."""

    def begin(kind: type, *rules: str, name: str = "", **parameters: Any) -> Any:
        arguments = [part for rule in rules for part in ("-r", rule)]
        return client.host(
            kind(
                *([name] if name else []),
                context=client.context,
                cli_args=["--ros-args", *arguments],
                parameter_overrides=[
                    Parameter(key, value=value) for key, value in parameters.items()
                ],
            )
        )

    return begin


def source_of(client: Client, camera: CameraInput, kind: type, *others: str) -> str:
    """The topic whose image arrives; each image says in its frame_id where it was published."""
    received: list[Any] = []
    publishers = {
        topic: client.node.create_publisher(kind, topic, 5) for topic in {camera.topic, *others}
    }
    camera.open(received.append)
    client.wait_for(publishers[camera.topic].get_subscription_count, 10)
    for topic, publisher in publishers.items():
        message = kind()
        message.header.frame_id = topic
        publisher.publish(message)
    client.wait_for(lambda: received, 10)
    client.spin(0.1)
    camera.close()
    (image,) = map(camera.unpack, received)
    return image.header.frame_id


@pytest.mark.parametrize(
    ("rules", "name", "topic"),
    [
        (SWAP, "left/image", "/right/image"),
        (SWAP, "right/image", "/left/image"),
        (SHIFT, "left/image", "/right/image"),
        (SHIFT, "right/image", "/rear/image"),
        ((), "left/image", "/left/image"),
    ],
)
def test_a_camera_is_received_from_the_topic_that_is_reported(
    client: Client, spin: Spin, rules: tuple[str, ...], name: str, topic: str
) -> None:
    node = spin(Node, *rules, name="detector")
    camera = CameraInput(Receiver(node), name, RAW, "auto")
    assert camera.topic == topic
    publisher = node.create_publisher(Image, name, 1)
    assert camera.announced().publishers == 1  # those of the remapped topic are counted
    node.destroy_publisher(publisher)
    others = ("/left/image", "/right/image", "/rear/image")
    assert source_of(client, camera, Image, *others) == topic


@pytest.mark.parametrize(
    ("rules", "topic"),
    [
        ((), "/image/compressed"),
        (("image:=/cam/image_raw",), "/cam/image_raw/compressed"),
        (("image:=/cam/image/compressed",), "/cam/image/compressed"),
        (("image/compressed:=/cam/jpeg",), "/cam/jpeg"),
        (("image/compressed:=/cam/jpeg", "image:=/cam/image_raw"), "/cam/jpeg"),
        (("image/compressed:=/b/compressed", "b/compressed:=/c"), "/b/compressed"),
        (("image:=/b/compressed", "b/compressed:=/c"), "/b/compressed"),
    ],
)
def test_compressed_images_follow_either_rule(
    client: Client, spin: Spin, rules: tuple[str, ...], topic: str
) -> None:
    node = spin(Node, *rules, name="detector")
    camera = CameraInput(Receiver(node), "image", COMPRESSED, "reliable")
    assert camera.topic == topic
    others = ("/image/compressed", "/cam/image_raw/compressed", "/cam/jpeg", "/c")
    assert source_of(client, camera, CompressedImage, *others) == topic


def test_a_second_rule_for_compressed_images_is_refused(spin: Spin) -> None:
    node = spin(Node, "left:=/right", "right/compressed:=/rear", name="detector")
    with pytest.raises(ValueError, match="remap left/compressed instead"):
        CameraInput(Receiver(node), "left", COMPRESSED, "auto")


@pytest.mark.parametrize(
    ("transport", "rules", "topic"),
    [
        ("raw", ("image:=/a", "a:=/b"), "/a"),
        ("compressed", ("image:=/a", "a:=/b"), "/a/compressed"),
        ("compressed", ("image/compressed:=/jpeg",), "/jpeg"),
        ("compressed", ("image:=/a/compressed", "a/compressed:=/b"), "/a/compressed"),
    ],
)
def test_the_video_publisher_publishes_where_it_says(
    client: Client,
    spin: Spin,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    transport: str,
    rules: tuple[str, ...],
    topic: str,
) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((4, 4, 3), np.uint8))
    images = client.collect(CompressedImage if transport == "compressed" else Image, topic)
    spin(VideoPublisherNode, *rules, source=str(tmp_path), rate=100.0, image_transport=transport)
    client.wait_for(lambda: images, 10)
    assert f"images per second on {topic}\n" in capfd.readouterr().err


def test_recordings_are_played_and_made_on_remapped_topics(
    client: Client, spin: Spin, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rosbags", reason="recordings are read with rosbags")
    from bag_writer import TOPIC, draw_scene, image, write_bag

    from compact_yolo_ros.recordings.reader import Bag

    bag = write_bag(tmp_path / "bag", [image(draw_scene(number), number) for number in range(2)])
    images = client.collect(Image, "/a")
    rules = (f"{TOPIC}:=/a", "a:=/b", "found:=/c", "c:=/d", "health:=/e", "e:=/f")
    player = spin(BagPlayerNode, *rules, bags=[str(bag)], patience=10.0)
    client.wait_for(lambda: len(images) == 2, 20)
    assert "Playing /a at" in capfd.readouterr().err
    player.close()

    topics = {"detections": ["found"], "diagnostics": ["health"]}
    recorder = spin(BagRecorderNode, *rules, out=str(tmp_path / "out"), **topics)
    publisher = client.node.create_publisher(Detection2DArray, "/c", 5)
    client.wait_for(publisher.get_subscription_count, 10)
    assert client.node.count_subscribers("/e") == 1
    publisher.publish(Detection2DArray())
    client.spin(0.2)
    client.release(recorder)
    assert set(Bag([tmp_path / "out"]).topics) == {"/c", "/e"}


def test_playback_waits_for_the_detector_on_the_remapped_topic(client: Client, spin: Spin) -> None:
    node = spin(Node, "found:=/c", "c:=/d", name="bag_player")
    readiness = DetectorReadiness(node, ["found"], [])
    assert readiness.problems() == ["no node publishes /c"]
    client.node.create_publisher(Detection2DArray, "/c", 5)
    client.wait_for(lambda: readiness.problems() == ["/client is silent on /diagnostics"], 10)


def test_a_node_of_swapped_cameras_answers_and_reports_what_it_receives(
    client: Client, spin: Spin, toy: str
) -> None:
    found = {
        name: client.collect(Detection2DArray, f"/detector/{name}/detections")
        for name in ("left", "right")
    }
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    cameras = {
        name: client.node.create_publisher(Image, f"/{name}/image", 5) for name in ("left", "right")
    }
    node = spin(
        DetectorNode,
        *SWAP,
        model=toy,
        cameras=["left", "right"],
        cpu_threads=1,
        power="none",
        diagnostics_period=0.2,
    )
    node.trigger_configure()
    node.trigger_activate()

    def answered() -> bool:
        for name, camera in cameras.items():
            camera.publish(image_message(np.zeros((32, 32, 3), np.uint8), frame_id=name))
        client.spin(0.1)
        return all(found.values()) and len(diagnostics[-1].status if diagnostics else ()) == 3

    client.wait_for(answered, 20)
    assert {message.header.frame_id for message in found["left"]} == {"right"}
    assert {message.header.frame_id for message in found["right"]} == {"left"}
    for place, (name, topic) in enumerate((("left", "/right/image"), ("right", "/left/image")), 1):
        assert diagnostics[-1].status[place].name == f"/detector: {name}"
        values = values_of(diagnostics[-1], place)
        assert (values["image_topic"], values["image_publishers"]) == (topic, "1")
    node.close()
