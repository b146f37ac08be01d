# SPDX-License-Identifier: Apache-2.0
"""Playback begins when everybody who must hear the first image is connected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from harness import BEST_EFFORT, Client, values_of
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

pytest.importorskip("rosbags", reason="recordings are read with rosbags")
from bag_writer import TOPIC, write_labelled_bag

from compact_yolo_ros.ros.players.bag_player import LINGER, BagPlayerNode
from compact_yolo_ros.ros.players.readiness import DONE, is_idle, what_is_missing

COUNT = 3
READY = {
    "state": "active",
    "image_topic": TOPIC,
    "image_publishers": "1",
    "detection_subscribers": "1",
}


def statuses(**values: str) -> list[DiagnosticStatus]:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return [DiagnosticStatus(name="/detector: detections", message="how it is", values=pairs)]


class Stage:
    """A player in this process, and what it is heard to play."""

    def __init__(self, client: Client, bag: Path) -> None:
        self.client = client
        self._bag = bag
        self.clock = client.collect(Clock, "/clock", 1000)
        self.detector = client.host(Node("detector", context=client.context))
        self.detector.create_publisher(Detection2DArray, "~/detections", 10)
        self.diagnostics: Publisher[Any] = self.detector.create_publisher(
            DiagnosticArray, "/diagnostics", 10
        )

    def play(self, **values: Any) -> None:
        given = {"bags": [str(self._bag)], "rate": 10.0, **values}
        player = BagPlayerNode(
            context=self.client.context,
            parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
        )
        self.client.host(player)

    def let_the_clock_tick(self, times: int = 5) -> None:
        """Wait for further messages on /clock, with which playback would have begun."""
        seen = len(self.clock)
        self.client.wait_for(lambda: len(self.clock) >= seen + times)

    def report(self, **values: str) -> None:
        self.diagnostics.publish(DiagnosticArray(status=statuses(**values)))
        self.let_the_clock_tick()


@pytest.fixture
def stage(client: Client, tmp_path: Path) -> Stage:
    return Stage(client, write_labelled_bag(tmp_path / "bag", COUNT))


def test_it_waits_until_the_detector_says_that_it_is_connected(stage: Stage) -> None:
    images = stage.client.collect(Image, TOPIC)
    stage.play(wait_for=["detector/detections"])
    stage.let_the_clock_tick()
    stage.report(**READY | {"image_publishers": "0"})
    stage.report(**READY | {"detection_subscribers": "0"})
    stage.report(**READY | {"state": "inactive"})
    assert not images and len({c.clock.nanosec for c in stage.clock}) == 1
    stage.report(**READY)
    stage.client.wait_for(lambda: len(images) == COUNT)


def test_it_says_what_it_waits_for(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    reports = stage.client.collect(DiagnosticArray, "/diagnostics")
    stage.play(wait_for=["detector/detections"], patience=1000.0)
    stage.client.wait_for(lambda: len(reports) >= 2)
    (status,) = reports[-1].status
    assert status.level == DiagnosticStatus.WARN
    waits = f"waiting to play: {TOPIC} has not all of its subscribers; /detector is silent on"
    assert status.message.startswith(waits)
    assert capfd.readouterr().err.count(waits) == 1
    stage.client.collect(Image, TOPIC)
    stage.client.wait_for(lambda: stage.client.node.count_subscribers(TOPIC))
    stage.report(**READY)
    stage.client.wait_for(lambda: values_of(reports[-1]).get("images_published") == str(COUNT))
    assert reports[-1].status[0].level == DiagnosticStatus.OK


def test_it_waits_until_every_subscriber_is_connected(stage: Stage) -> None:
    stage.play(reliability="best_effort", patience=1000.0)
    # This one is found, but a reliable subscription is never connected to such a publisher.
    stage.client.collect(Image, TOPIC)
    images = stage.client.collect(Image, TOPIC, BEST_EFFORT)
    stage.let_the_clock_tick(20)
    assert not images


def test_a_detector_that_is_never_ready_ends_it_with_a_sentence(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    images = stage.client.collect(Image, TOPIC)
    stage.play(wait_for=["/detector/detections", "/robot/detections"], patience=0.0)
    with pytest.raises(SystemExit) as end:
        stage.let_the_clock_tick()
    assert end.value.code == 1 and not images
    sentence = str(capfd.readouterr())
    assert "Nothing was played: /detector is silent on /diagnostics; " in sentence
    assert "no node publishes /robot/detections" in sentence


def test_without_subscribers_it_begins_when_patience_ends(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    stage.play(patience=0.0)
    stage.client.wait_for(lambda: len({c.clock.nanosec for c in stage.clock}) > 1)
    assert f"{TOPIC} is played without all of its subscribers" in str(capfd.readouterr())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, ""),
        ({"state": "inactive"}, "is not active: how it is"),
        ({"image_topic": "/other"}, f"does not subscribe to {TOPIC}"),
        ({"image_publishers": "0"}, f"has not found the publisher of {TOPIC}"),
        ({"image_publishers": "many"}, f"has not found the publisher of {TOPIC}"),
        ({"detection_subscribers": "0"}, "has no subscriber of its detections"),
    ],
)
def test_what_a_detector_waits_for_is_named(values: dict[str, str], sentence: str) -> None:
    assert what_is_missing([READY | values], "how it is", {TOPIC: 1}) == sentence


def test_every_camera_that_is_played_must_be_connected() -> None:
    counts = {"image_publishers": "1", "detection_subscribers": "1"}
    reports = [
        {"state": "active"},
        {"image_topic": "/l", **counts},
        {"image_topic": "/r", **counts},
    ]
    assert what_is_missing(reports, "", {"/l": 1}) == ""
    assert "publisher of /r" in what_is_missing(reports, "", {"/l": 1, "/r": 2})


def test_a_publisher_of_another_node_is_not_taken_for_the_player() -> None:
    assert "has not found" in what_is_missing([READY], "", {TOPIC: 2})


def test_it_goes_on_until_the_detector_has_finished(stage: Stage) -> None:
    images = stage.client.collect(Image, TOPIC)
    stage.play(wait_for=["detector/detections"], rate=100.0)
    stage.let_the_clock_tick()
    stage.report(**READY)
    stage.client.wait_for(lambda: len(images) == COUNT)
    stage.client.spin(LINGER)
    busy = READY | {"images_received": "3", "images_processed": "1", "images_dropped": "1"}
    for _ in range(3):
        stage.report(**busy)
    stage.report(**busy | {"images_processed": "2"})
    with pytest.raises(SystemExit) as end:
        stage.report(**busy | {"errors": "1"})
    assert end.value.code == 0


@pytest.mark.parametrize("key", DONE)
def test_a_detector_is_idle_when_something_became_of_every_image(key: str) -> None:
    assert not is_idle({"images_received": "3", key: "2"})
    assert is_idle({"images_received": "3", key: "3"})


def test_it_does_not_wait_for_a_detector_that_has_ended(stage: Stage) -> None:
    images = stage.client.collect(Image, TOPIC)
    stage.play(wait_for=["detector/detections"], rate=100.0)
    stage.let_the_clock_tick()
    stage.report(**READY)
    stage.client.wait_for(lambda: len(images) == COUNT)
    stage.client.release(stage.detector)
    with pytest.raises(SystemExit) as end:
        stage.let_the_clock_tick(1000)
    assert end.value.code == 0


def test_the_player_reports_its_rate(stage: Stage) -> None:
    reports = stage.client.collect(DiagnosticArray, "/diagnostics")
    stage.play()
    stage.client.wait_for(lambda: reports)
    (status,) = reports[0].status
    assert status.name == "/bag_player: playback"
    assert values_of(reports[0])["playback_rate"] == "10.0"
