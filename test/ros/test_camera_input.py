# SPDX-License-Identifier: Apache-2.0
"""Which images of a camera arrive while its quality of service is found out."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import numpy as np
import pytest
import rclpy
from harness import BEST_EFFORT, LATCHED, Client, image_message
from rclpy._rclpy_pybind11 import RCLError
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String

from compact_yolo_ros.ros.detector import camera_input
from compact_yolo_ros.ros.detector.camera_input import CameraInput
from compact_yolo_ros.ros.receiver import Receiver
from compact_yolo_ros.ros.transports import RAW

pytestmark = pytest.mark.ros
RELIABLE = QoSProfile(depth=5)
TOPIC = "/eye"


class OpenInput:
    """An input in a node of its own, and the numbers of the images that it passed on."""

    def __init__(self, client: Client, reliability: str) -> None:
        self._client = client
        self.node = client.host(Node("receiver", context=client.context))
        self.input = CameraInput(Receiver(self.node), TOPIC, RAW, reliability)
        self.numbers: list[int] = []
        self.input.open(self.note)

    def note(self, data: bytes) -> None:
        self.numbers.append(self.input.unpack(data).data[0])

    def follow_until(self, reliability: str) -> None:
        self._client.wait_for(lambda: self.input.reliability == reliability, 10)

    def close(self) -> None:
        self.input.close()
        self._client.release(self.node)


@pytest.fixture(params=["told", "looks"])
def tells(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the middleware tells of publishers; on Humble and Iron it does not."""
    told = request.param == "told" and camera_input.TELLS_OF_PUBLISHERS
    monkeypatch.setattr(camera_input, "TELLS_OF_PUBLISHERS", told)
    return bool(told)


@pytest.fixture
def receiver(client: Client, tells: bool) -> Iterator[OpenInput]:
    opened = OpenInput(client, "auto")
    yield opened
    opened.close()


def numbered(number: int) -> Image:
    """All images are equal but for their number."""
    return image_message(np.full((8, 8, 3), number, np.uint8))


def new_camera(client: Client, qos: QoSProfile) -> Any:
    """A publisher that has just found somebody who listens, as a camera that then begins."""
    camera = client.node.create_publisher(Image, TOPIC, qos)
    client.wait_for(camera.get_subscription_count, 10)
    return camera


@pytest.mark.parametrize("qos", [RELIABLE, BEST_EFFORT])
def test_every_image_of_a_new_camera_arrives_once(
    client: Client, receiver: OpenInput, qos: QoSProfile
) -> None:
    expected: list[int] = []
    for start in (0, 10, 20):  # the camera is replaced twice
        camera = new_camera(client, qos)
        camera.publish(numbered(start))
        receiver.follow_until(qos.reliability.name.lower())
        client.wait_for(lambda start=start: start in receiver.numbers, 10)
        camera.publish(numbered(start + 1))
        client.wait_for(lambda start=start: start + 1 in receiver.numbers, 10)
        expected += [start, start + 1]
        client.node.destroy_publisher(camera)
        receiver.follow_until("auto")
    client.spin(0.1)
    assert receiver.numbers == expected


def test_images_that_both_subscriptions_bring_are_passed_on_once(
    client: Client, receiver: OpenInput
) -> None:
    camera = new_camera(client, RELIABLE)
    client.wait_for(lambda: camera.get_subscription_count() == 2, 10)
    for number in range(4):
        camera.publish(numbered(number))
        client.wait_for(lambda number=number: number in receiver.numbers, 10)
        client.spin(0.05)
    receiver.follow_until("reliable")
    client.spin(0.05)
    assert receiver.numbers == [0, 1, 2, 3]


def test_only_the_newest_image_waits_for_a_busy_node(client: Client) -> None:
    receiver = OpenInput(client, "reliable")
    is_idle = Event()
    receiver.input.close()
    receiver.input.open(lambda data: (receiver.note(data), is_idle.wait(10)))
    camera = new_camera(client, RELIABLE)
    for number in range(5):
        camera.publish(numbered(number))
        client.wait_for(lambda: receiver.numbers, 10)
    is_idle.set()
    client.wait_for(lambda: 4 in receiver.numbers, 10)
    receiver.close()
    assert receiver.numbers == [0, 4]


def test_two_equal_images_of_a_known_camera_both_arrive(
    client: Client, receiver: OpenInput
) -> None:
    camera = new_camera(client, RELIABLE)
    receiver.follow_until("reliable")
    for count in (1, 2, 3):
        camera.publish(numbered(7))
        client.wait_for(lambda count=count: len(receiver.numbers) >= count, 10)
    assert receiver.numbers == [7, 7, 7]


def test_one_image_again_and_again_goes_on_arriving(client: Client, receiver: OpenInput) -> None:
    """As of ``ros2 topic pub``: with no stamp, all messages are equal, from the first one on."""
    camera = new_camera(client, RELIABLE)
    client.wait_for(lambda: camera.get_subscription_count() == 2, 10)
    camera.publish(numbered(7))
    client.wait_for(lambda: receiver.numbers, 10)
    receiver.follow_until("reliable")
    camera.publish(numbered(7))  # may be taken for the copy that another subscription brings
    client.spin(0.05)
    before = len(receiver.numbers)
    for count in (1, 2, 3):
        camera.publish(numbered(7))
        client.wait_for(lambda count=count: len(receiver.numbers) >= before + count, 10)
    assert len(receiver.numbers) == before + 3


def test_a_second_camera_with_best_effort_is_received_without_a_gap(
    client: Client, receiver: OpenInput
) -> None:
    first = new_camera(client, RELIABLE)
    receiver.follow_until("reliable")
    second = client.node.create_publisher(Image, TOPIC, BEST_EFFORT)
    receiver.follow_until("best_effort")
    client.wait_for(second.get_subscription_count, 10)
    for number, camera in enumerate((first, second, first, second)):
        camera.publish(numbered(number))
        client.wait_for(lambda number=number: number in receiver.numbers, 10)
    assert receiver.numbers == [0, 1, 2, 3]
    assert receiver.node.count_subscribers(TOPIC) == 1


@pytest.mark.parametrize("qos", [RELIABLE, BEST_EFFORT])
def test_a_known_camera_costs_one_subscription(
    client: Client, receiver: OpenInput, qos: QoSProfile
) -> None:
    assert receiver.node.count_subscribers(TOPIC) == 2
    new_camera(client, qos)
    receiver.follow_until(qos.reliability.name.lower())
    client.wait_for(lambda: receiver.node.count_subscribers(TOPIC) == 1, 10)
    receiver.input.open(receiver.numbers.append)  # enabled again: the camera is known
    assert receiver.node.count_subscribers(TOPIC) == 1
    assert not receiver.input.incompatible_qos


def test_an_image_that_is_latched_arrives_once_however_late(client: Client) -> None:
    camera = client.node.create_publisher(Image, TOPIC, LATCHED)
    camera.publish(numbered(1))
    receiver = OpenInput(client, "auto")
    receiver.follow_until("reliable")
    client.wait_for(lambda: receiver.numbers == [1], 10)
    camera.publish(numbered(2))
    client.wait_for(lambda: receiver.numbers == [1, 2], 10)
    # A second camera keeps nothing: one subscription must hear both.
    second = client.node.create_publisher(Image, TOPIC, RELIABLE)

    client.wait_for(second.get_subscription_count, 10)
    second.publish(numbered(3))
    client.wait_for(lambda: receiver.numbers == [1, 2, 3], 10)
    receiver.close()


def test_a_latched_image_that_arrived_already_is_not_passed_on_again(
    client: Client, receiver: OpenInput
) -> None:
    camera = new_camera(client, LATCHED)
    camera.publish(numbered(1))
    client.wait_for(lambda: receiver.numbers, 10)
    receiver.follow_until("reliable")
    client.spin(0.1)
    assert receiver.numbers == [1]


def test_nothing_is_left_of_two_subscriptions_of_which_ros_refuses_one(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first would go on bringing images of which nobody knows where they come from."""
    node = client.host(Node("receiver", context=client.context))
    opened, create = CameraInput(Receiver(node), TOPIC, RAW, "auto"), node.create_subscription
    made: list[Any] = []

    def once(*args: Any, **options: Any) -> Any:
        if made:
            raise RCLError("Failed to create subscription: out of resources")
        made.append(create(*args, **options))
        return made[0]

    monkeypatch.setattr(node, "create_subscription", once)
    with pytest.raises(RCLError):
        opened.open(lambda _: None)
    opened.close()
    client.wait_for(lambda: client.node.count_subscribers(TOPIC) == 0, 10)


def test_a_publisher_of_another_type_changes_nothing(client: Client, receiver: OpenInput) -> None:
    context = Context()  # in one process DDS refuses a second type on a topic
    rclpy.init(context=context)
    other = Node("other", context=context)
    other.create_publisher(String, TOPIC, BEST_EFFORT)
    client.wait_for(lambda: receiver.input.announced().publishers == 1, 10)
    new_camera(client, RELIABLE)
    receiver.follow_until("reliable")
    other.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_a_given_reliability_is_kept(client: Client, reliability: str) -> None:
    receiver = OpenInput(client, reliability)
    client.node.create_publisher(Image, TOPIC, BEST_EFFORT)
    client.wait_for(lambda: receiver.input.announced().publishers == 1, 10)
    client.spin(0.1)
    assert receiver.input.reliability == reliability
    assert receiver.input.incompatible_qos is (reliability == "reliable")
    receiver.close()


def test_a_publisher_that_offered_too_little_is_forgotten_when_it_has_gone(client: Client) -> None:
    """A camera that was started again as it should be may be unplugged later."""
    receiver = OpenInput(client, "reliable")
    for qos, offers_too_little in ((BEST_EFFORT, True), (RELIABLE, False)):
        camera = client.node.create_publisher(Image, TOPIC, qos)
        client.wait_for(lambda: receiver.input.announced().publishers == 1, 10)
        if offers_too_little:
            client.wait_for(lambda: receiver.input.incompatible_qos, 10)
        client.spin(0.1)
        assert receiver.input.incompatible_qos is offers_too_little
        client.node.destroy_publisher(camera)
        client.wait_for(lambda: receiver.input.announced().publishers == 0, 10)
        assert not receiver.input.incompatible_qos
    receiver.close()


def test_a_camera_is_noticed_without_looking_all_the_time(
    client: Client, receiver: OpenInput, tells: bool
) -> None:
    """An idle node is not woken; one whose middleware tells nothing goes on looking."""

    def looks() -> int:
        return len(list(receiver.node.timers))

    assert looks() == 1  # something may change just now
    client.spin(camera_input.FOLLOW_PERIOD * (camera_input.LOOKS + 2))
    client.wait_for(lambda: looks() == (0 if tells else 1), 10)
    camera = new_camera(client, RELIABLE)
    receiver.follow_until("reliable")
    client.node.destroy_publisher(camera)
    receiver.follow_until("auto")
    receiver.input.close()
    assert looks() == 0


def test_a_middleware_that_cannot_tell_of_publishers_is_asked(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Node.create_subscription

    def refuse(self: Node, *args: Any, event_callbacks: Any, **options: Any) -> Any:
        if getattr(event_callbacks, "matched", None):
            raise camera_input.UnsupportedEventTypeError("not here")
        return create(self, *args, event_callbacks=event_callbacks, **options)

    monkeypatch.setattr(Node, "create_subscription", refuse)
    receiver = OpenInput(client, "auto")
    client.spin(camera_input.FOLLOW_PERIOD * (camera_input.LOOKS + 2))
    new_camera(client, BEST_EFFORT)
    receiver.follow_until("best_effort")
    receiver.close()
