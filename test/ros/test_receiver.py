# SPDX-License-Identifier: Apache-2.0
"""Messages that come in a thread of their own while the executor does something else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import rclpy
from harness import BEST_EFFORT, Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from std_msgs.msg import String

from compact_yolo_ros.ros.detector.camera_input import SubscriptionEventCallbacks
from compact_yolo_ros.ros.receiver import Receiver

pytestmark = pytest.mark.ros
RELIABLE = QoSProfile(depth=5)


@pytest.fixture
def node(client: Client) -> Iterator[Node]:
    hosted = client.host(Node("listener", context=client.context))
    yield hosted
    client.release(hosted)


def without_spinning(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)


def receivers() -> int:
    return sum(thread.name == "receiver" for thread in threading.enumerate())


def test_messages_of_several_topics_come_in_order_while_nobody_spins(
    client: Client, node: Node
) -> None:
    receiver, heard = Receiver(node), {"a": [], "b": []}

    def note(topic: str) -> Callable[[bytes], None]:
        return lambda data: heard[topic].append(deserialize_message(data, String).data)

    subscriptions = [receiver.subscribe(String, name, note(name), RELIABLE) for name in heard]
    cameras = {name: client.node.create_publisher(String, name, RELIABLE) for name in heard}
    for camera in cameras.values():
        without_spinning(camera.get_subscription_count)
    for text in ("1", "2", "3"):
        for name, camera in cameras.items():
            camera.publish(String(data=name + text))
    without_spinning(lambda: sum(map(len, heard.values())) == 6)
    assert heard == {"a": ["a1", "a2", "a3"], "b": ["b1", "b2", "b3"]}
    assert receivers() == 1
    receiver.unsubscribe(subscriptions[0])
    without_spinning(lambda: not cameras["a"].get_subscription_count())
    cameras["a"].publish(String(data="lost"))
    cameras["b"].publish(String(data="b4"))
    without_spinning(lambda: len(heard["b"]) == 4)
    receiver.unsubscribe(subscriptions[1])
    assert receivers() == 0
    assert len(heard["a"]) == 3


def test_events_are_called_by_the_executor(client: Client, node: Node) -> None:
    receiver, events = Receiver(node), []
    subscription = receiver.subscribe(
        String,
        "topic",
        lambda _: None,
        RELIABLE,
        event_callbacks=SubscriptionEventCallbacks(
            incompatible_qos=lambda _: events.append(threading.current_thread())
        ),
    )
    client.node.create_publisher(String, "topic", BEST_EFFORT)  # offers too little
    client.wait_for(lambda: events, 10)
    receiver.unsubscribe(subscription)
    assert events == [threading.current_thread()]


def test_executor_sleeps_while_messages_come(client: Client) -> None:
    node, heard = Node("listener", context=client.context), []
    executor, receiver = SingleThreadedExecutor(context=client.context), Receiver(node)
    executor.add_node(node)
    subscription = receiver.subscribe(String, "topic", heard.append, RELIABLE)
    camera = client.node.create_publisher(String, "topic", RELIABLE)
    without_spinning(camera.get_subscription_count)
    asked = count_asked(node)

    def asked_in_one_turn() -> int:
        before = len(asked)
        executor.spin_once(0.2)
        return len(asked) - before

    executor.spin_once(0.2)
    alone = asked_in_one_turn()
    threading.Timer(0.05, lambda: [camera.publish(String()) for _ in range(3)]).start()
    assert asked_in_one_turn() == alone > 0
    receiver.unsubscribe(subscription)
    assert len(heard) == 3
    executor.shutdown()
    node.destroy_node()


def count_asked(node: Node) -> list[object]:
    """What the executor asks for whenever something wakes it."""
    asked: list[object] = []
    node.default_callback_group.can_execute = lambda entity: asked.append(entity) or True
    return asked


def test_bug_in_the_function_is_raised_by_the_executor(client: Client, node: Node) -> None:
    receiver = Receiver(node)

    def fail(_: bytes) -> None:
        raise KeyError("a bug")

    subscription = receiver.subscribe(String, "topic", fail, RELIABLE)
    camera = client.node.create_publisher(String, "topic", RELIABLE)
    client.wait_for(camera.get_subscription_count, 10)
    camera.publish(String())
    with pytest.raises(KeyError, match="a bug"):
        client.spin(10)
    receiver.unsubscribe(subscription)


def test_thread_ends_with_ros_or_with_its_node() -> None:
    for end in (lambda _, context: rclpy.shutdown(context=context), lambda node, _: None):
        context = Context()
        rclpy.init(context=context)
        node = Node("listener", context=context)
        receiver = Receiver(node)
        subscription = receiver.subscribe(String, "topic", lambda _: None, RELIABLE)
        end(node, context)
        if context.ok():
            receiver.unsubscribe(subscription)
        without_spinning(lambda: not receivers())
        node.destroy_node()
        if context.ok():
            rclpy.shutdown(context=context)
