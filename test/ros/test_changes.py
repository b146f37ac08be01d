# SPDX-License-Identifier: Apache-2.0
"""What a change of a parameter or of the lifecycle state does to what users receive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from harness import LATCHED, PATIENCE, Client, Start, image_message, values_of
from rclpy._rclpy_pybind11 import RCLError
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger
from toy_model import CARD, write_toy_model
from vision_msgs.msg import Detection2DArray, LabelInfo

from compact_yolo_ros.backends.onnxruntime import OnnxRuntimeBackend

pytestmark = pytest.mark.ros
SUCCESS = TransitionCallbackReturn.SUCCESS


def coloured_squares() -> np.ndarray:
    """A red, a green and a blue square; the network is sure of each."""
    pixels = np.zeros((320, 320, 3), np.uint8)
    for place, channel in ((32, 0), (96, 1), (160, 2)):
        pixels[place : place + 16, place : place + 16, channel] = 250
    return pixels


def answer(client: Client, seen: SimpleNamespace, image: Image) -> Detection2DArray:
    """Send an image until it is answered; no other one has its stamp."""
    image.header.stamp = client.node.get_clock().now().to_msg()

    def answered() -> Any:
        seen.camera.publish(image)
        client.spin(0.03)
        return [result for result in seen.results if result.header.stamp == image.header.stamp]

    return client.wait_for(answered)[-1]


def classes(result: Detection2DArray) -> list[str]:
    return sorted(found.results[0].hypothesis.class_id for found in result.detections)


def refuse(monkeypatch: pytest.MonkeyPatch, node: Any, create: str, refused: str = "") -> None:
    """Let ROS refuse a topic, or every one, to a method of a node: SROS2 has no permission."""
    made = getattr(node, create)

    def refusing(kind: Any, topic: str, *args: Any, **options: Any) -> Any:
        if refused in ("", topic):
            raise RCLError(f"{create} failed: permission denied")
        return made(kind, topic, *args, **options)

    monkeypatch.setattr(node, create, refusing)


def change(seen: SimpleNamespace, **values: Any) -> None:
    given = [Parameter(name, value=value) for name, value in values.items()]
    result = seen.node.set_parameters_atomically(given)
    assert result.successful, result.reason


def test_several_classes_are_kept_and_only_those(client: Client, start_inside: Start) -> None:
    seen = start_inside(classes=["red", "blue"])
    image = image_message(coloured_squares())
    assert classes(answer(client, seen, image)) == ["blue", "red"]
    change(seen, classes=["green", "blue"])
    assert classes(answer(client, seen, image)) == ["blue", "green"]
    change(seen, classes=[""])
    assert classes(answer(client, seen, image)) == ["blue", "green", "red"]


def test_thresholds_of_classes_and_sizes_of_boxes_can_change(
    client: Client, start_inside: Start
) -> None:
    """All scores are 0.98, and boxes 16 x 16."""
    seen = start_inside(class_thresholds=["red:0.99"])
    image = image_message(coloured_squares())
    assert classes(answer(client, seen, image)) == ["blue", "green"]
    change(seen, class_thresholds=["blue:0.99", "red:0.1"], score_threshold=0.9)
    assert classes(answer(client, seen, image)) == ["green", "red"]
    change(seen, tracking="bytetrack", class_thresholds=["green:1", "blue:0.5", "red:0.99"])
    assert classes(answer(client, seen, image)) == ["blue"]
    change(seen, class_thresholds=[""], min_box_size=[15, 17])
    assert classes(answer(client, seen, image)) == []
    change(seen, min_box_size=[15, 15], max_box_size=[0, 17])
    assert classes(answer(client, seen, image)) == ["blue", "green", "red"]
    for values, reason in (
        ({"class_thresholds": ["pink:0.5"]}, "no class 'pink'"),
        ({"class_thresholds": ["red"]}, "not of the form person:0.6"),
        ({"min_box_size": [1]}, "not width and height"),
        ({"min_box_size": [1, 18]}, "no box can have a height of at least 18"),
    ):
        (result,) = seen.node.set_parameters([Parameter(n, value=v) for n, v in values.items()])
        assert not result.successful and reason in result.reason


def test_a_camera_can_be_turned_and_cut_while_it_runs(client: Client, start_inside: Start) -> None:
    """Boxes stay in the pixels of the published image."""
    seen = start_inside()
    image = image_message(coloured_squares())

    def found() -> dict[str, tuple[int, int]]:
        return {
            one.results[0].hypothesis.class_id: (
                round(one.bbox.center.position.x),
                round(one.bbox.center.position.y),
            )
            for one in answer(client, seen, image).detections
        }

    places = {"red": (40, 40), "green": (104, 104), "blue": (168, 168)}
    assert found() == places
    for rotation in (90, [180], 270):
        change(seen, rotation=rotation)
        assert found() == places
    change(seen, roi=[0, 0, 128, 128])
    assert set(found()) == {"red", "green"}
    change(seen, rotation=0, roi=[0, 0, 0, 0], tiles="2x2")
    assert found().keys() == places.keys()
    change(seen, roi=[400, 0, 10, 10])
    client.wait_for(
        lambda: (
            seen.camera.publish(image)
            or "none of them in the roi" in values_of(seen.diagnostics[-1])["last_error"]
        )
    )
    for values, reason in (
        ({"rotation": 45}, "give 0, 90, 180 or 270"),
        ({"rotation": [0, 90]}, "given for 2 cameras, and there are 1"),
        ({"roi": [1, 2, 3]}, "roi has 3 numbers"),
        ({"tiles": "2x"}, "not like 3x2"),
        ({"tile_overlap": 0.6}, ""),
    ):
        (result,) = seen.node.set_parameters([Parameter(n, value=v) for n, v in values.items()])
        assert not result.successful and reason in result.reason


def test_a_change_whose_topic_cannot_be_created_changes_nothing(
    client: Client, start_inside: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The permissions of SROS2 may have no ~/tracks."""
    seen = start_inside()
    image = image_message(coloured_squares())
    refuse(monkeypatch, seen.node, "create_lifecycle_publisher", "~/tracks")
    for name, value in (("tracking", "bytetrack"), ("class_id_format", "name")):
        given = Parameter("classes", value=["red"]), Parameter(name, value=value)
        result = seen.node.set_parameters_atomically(given)
        assert result.successful == (name != "tracking")
        if not result.successful:
            assert "permission denied" in result.reason
            assert classes(answer(client, seen, image)) == ["blue", "green", "red"]
    assert classes(answer(client, seen, image)) == ["red"]


def test_classes_that_were_refused_are_not_used_when_a_model_cannot_be_opened(
    client: Client, start_inside: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parameters name classes of that model then, and the old one goes on with its own."""
    seen = start_inside()
    image = image_message(coloured_squares())
    with monkeypatch.context() as patch:
        refuse(patch, seen.node, "create_lifecycle_publisher")
        given = Parameter("classes", value=["red"]), Parameter("tracking", value="bytetrack")
        assert not seen.node.set_parameters_atomically(given).successful
    other = write_toy_model(tmp_path / "other.onnx", replace(CARD, classes=("ant", "bee", "cat")))
    change(seen, model=str(other), backend="onnxruntime", precision="int8", classes=["bee"])
    client.wait_for(lambda: seen.node._session.backends.refused)
    assert classes(answer(client, seen, image)) == ["blue", "green", "red"]


def test_a_topic_that_ros_refuses_leaves_the_node_disabled_and_alive(
    client: Client, start_inside: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for while nothing was subscribed to, so that nobody could tell."""
    seen = start_inside()
    client.call(SetBool, "/detector/enable", data=False)
    refuse(monkeypatch, seen.node, "create_subscription", "depth")
    change(seen, positions="depth")
    for kind, service, fields in (
        (SetBool, "/detector/enable", {"data": True}),
        (Trigger, "/detector/detect_once", {}),
    ):
        response = client.call(kind, service, **fields)
        assert not response.success and "permission denied" in response.message
        client.wait_for(lambda: not client.heard() & {"/image", "/camera_info"})
        seen.diagnostics.clear()
        client.wait_for(lambda: seen.diagnostics)
        assert seen.diagnostics[-1].status[0].message == "disabled by ~/enable"
    change(seen, positions="off")
    assert client.call(SetBool, "/detector/enable", data=True).success
    assert classes(answer(client, seen, image_message(coloured_squares())))


def test_the_overlap_that_one_object_may_have_and_its_box_voting_can_change(
    client: Client, start_inside: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two boxes of one class whose intersection over union is 0.6."""
    boxes = np.array([[[0, 0, 100, 100], [0, 0, 100, 60]]], np.float32)
    scores, labels = np.array([[0.9, 0.8]], np.float32), np.zeros((1, 2), np.int32)
    monkeypatch.setattr(OnnxRuntimeBackend, "run", lambda self, images=1: (boxes, scores, labels))
    seen = start_inside(iou_threshold=0.65)
    image = image_message(coloured_squares())
    assert len(answer(client, seen, image).detections) == 2
    change(seen, iou_threshold=0.55)
    (mean,) = answer(client, seen, image).detections
    vote = 0.8 * 0.6
    assert mean.bbox.size_y == pytest.approx((100 * 0.9 + 60 * vote) / (0.9 + vote))
    change(seen, box_voting=False)
    (best,) = answer(client, seen, image).detections
    assert best.bbox.size_y == pytest.approx(100)


def test_label_info_has_the_threshold_in_use_and_only_that(
    client: Client, start_inside: Start
) -> None:
    seen = start_inside(score_threshold=0.25)
    early = client.collect(LabelInfo, "/detector/label_info", LATCHED)
    client.wait_for(lambda: early)
    change(seen, score_threshold=0.75)
    client.wait_for(lambda: len(early) == 2)
    assert [info.threshold for info in early] == [0.25, 0.75]
    many = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    late = client.collect(LabelInfo, "/detector/label_info", many)
    client.wait_for(lambda: late)
    client.spin(0.1)
    assert [info.threshold for info in late] == [0.75]
    assert [each.class_name for each in late[0].class_map] == ["red", "green", "blue"]


def test_the_debug_image_can_be_switched_off_and_on(client: Client, start_inside: Start) -> None:
    seen = start_inside(debug_image=False)
    pictures = client.collect(Image, "/detector/debug_image")
    image = image_message(coloured_squares())
    client.wait_for(lambda: client.node.count_publishers("/detector/debug_image"))

    def answers() -> None:
        for _ in range(3):
            answer(client, seen, image)

    answers()
    assert not pictures
    change(seen, debug_image=True)
    client.wait_for(lambda: answers() or pictures)
    change(seen, debug_image=False)
    answers()
    drawn = len(pictures)
    answers()
    assert len(pictures) == drawn


def test_a_node_that_is_disabled_is_activated_without_a_subscription(
    client: Client, start_inside: Start
) -> None:
    seen = start_inside()
    image = image_message(coloured_squares())
    answer(client, seen, image)
    assert seen.node.trigger_deactivate() == SUCCESS
    assert client.call(SetBool, "/detector/enable", data=False).message == "disabled"
    assert seen.node.trigger_activate() == SUCCESS
    seen.diagnostics.clear()
    client.wait_for(lambda: seen.diagnostics)
    assert seen.diagnostics[-1].status[0].message == "disabled by ~/enable"
    assert values_of(seen.diagnostics[-1])["images_received"] == "0"
    assert client.node.count_subscribers("/image") == 0
    assert client.call(SetBool, "/detector/enable", data=True).message == "enabled"
    answer(client, seen, image)


def test_images_that_wait_while_the_node_is_disabled_count_once(
    client: Client, start_inside: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A player waits until something has become of every image that was received."""
    seen = start_inside()
    (camera,), detector = seen.node._session.cameras, seen.node._session.detector
    detect, go = detector.detect_decoded, Event()
    monkeypatch.setattr(detector, "detect_decoded", lambda *a: go.wait(PATIENCE) and detect(*a))
    client.wait_for(lambda: seen.camera.get_subscription_count())
    for number in (1, 2):  # one is in work then, and one waits
        seen.camera.publish(image_message(coloured_squares()))
        client.wait_for(lambda n=number: camera.counters.snapshot().received == n)
        client.spin(0.2)
    for data in (False, True):
        assert client.call(SetBool, "/detector/enable", data=data).success
    go.set()
    client.wait_for(lambda: len(seen.results) == 2)
    answer(client, seen, image_message(coloured_squares()))
    client.spin(0.2)
    seen_now = camera.counters.snapshot()
    assert seen_now.received == seen_now.processed + seen_now.dropped >= 3


def test_counts_start_at_activation(client: Client, start_inside: Start) -> None:
    seen = start_inside()
    image = image_message(coloured_squares())
    bad = image_message(coloured_squares(), encoding="smell8")

    def counts() -> dict[str, str | None]:
        names = ("received", "processed", "dropped", "skipped", "too_old")
        values = values_of(seen.diagnostics[-1])
        return {n: values.get(n) for n in (*(f"images_{name}" for name in names), "errors")}

    answer(client, seen, image)

    def failed() -> bool:
        seen.camera.publish(bad)
        client.spin(0.03)
        return counts()["errors"] != "0"

    client.wait_for(failed)
    assert seen.node.trigger_deactivate() == SUCCESS
    assert seen.node.trigger_activate() == SUCCESS
    # a message of before may still be on its way; without a fresh count there is none of zeros
    client.wait_for(lambda: set(counts().values()) == {"0"})
    assert values_of(seen.diagnostics[-1])["last_error"] == "none"


OWN = ("detections", "debug_image", "performance", "label_info", "vision_info")


def test_cleanup_takes_the_publishers_away_and_nothing_grows(
    client: Client, start_inside: Start
) -> None:
    seen = start_inside(autostart=False)

    def published() -> set[str]:
        return {name for name in OWN if client.node.count_publishers(f"/detector/{name}")}

    managed = []
    for _ in range(3):
        assert seen.node.trigger_configure() == SUCCESS
        client.wait_for(lambda: published() == set(OWN))
        assert seen.node.trigger_activate() == SUCCESS
        answer(client, seen, image_message(coloured_squares()))
        assert seen.node.trigger_deactivate() == SUCCESS
        assert seen.node.trigger_cleanup() == SUCCESS
        client.wait_for(lambda: not published())
        managed.append(len(seen.node._managed_entities))
    assert managed == [0, 0, 0]
    heard = len(seen.diagnostics)
    client.wait_for(lambda: len(seen.diagnostics) > heard + 1)
    assert values_of(seen.diagnostics[-1])["state"] == "unconfigured"
