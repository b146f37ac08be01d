# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics says of cameras, clocks and nodes around the detector that do not fit it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from harness import LATCHED, Client, Start, image_message, values_of
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from compact_yolo_ros.ros.detector.graph import announced
from compact_yolo_ros.ros.detector.node import DetectorNode
from compact_yolo_ros.ros.diagnostics import camera_health

pytestmark = pytest.mark.ros
RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
PIXELS = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture
def other() -> Iterator[Node]:
    """A node as in another process: in one, DDS refuses a second type on a topic."""
    context = Context()
    rclpy.init(context=context)
    node = Node("driver", namespace="/front", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize(
    ("published", "subscribed", "mistake"),
    [
        (("/cam", Image), ("/cam", RAW), ""),
        (("/cam/compressed", CompressedImage), ("/cam/compressed", COMPRESSED), ""),
        (
            ("/cam/compressed", CompressedImage),
            ("/cam/compressed", RAW),
            f"/cam/compressed is of type {COMPRESSED}, not {RAW}: set image_transport to "
            "compressed",
        ),
        (
            ("/cam/jpeg", CompressedImage),
            ("/cam/jpeg", RAW),
            f"/cam/jpeg is of type {COMPRESSED}, not {RAW}: set image_transport to compressed, and "
            "remap image/compressed to it",
        ),
        (
            ("/cam/compressed", Image),
            ("/cam/compressed", COMPRESSED),
            f"/cam/compressed is of type {RAW}, not {COMPRESSED}: set image_transport to raw, and "
            "image_topic to this topic",
        ),
        (
            ("/chatter", String),
            ("/chatter", RAW),
            f"/chatter is of type std_msgs/msg/String, not {RAW}: check image_topic",
        ),
        (
            ("/cam/compressed", CompressedImage),
            ("/cam", RAW),
            "only /cam/compressed has a publisher, not /cam: set image_transport to compressed",
        ),
        (
            ("/cam", Image),
            ("/cam/compressed", COMPRESSED),
            "only /cam has a publisher, not /cam/compressed: set image_transport to raw",
        ),
        (
            ("/cam", CompressedImage),
            ("/cam/compressed", COMPRESSED),
            "only /cam has a publisher, not /cam/compressed: remap image/compressed to it",
        ),
        (
            ("/cam/compressed", CompressedImage),
            ("/cam", COMPRESSED),
            "only /cam/compressed has a publisher, not /cam: remap image/compressed to it",
        ),
        (("/cam", String), ("/cam/compressed", COMPRESSED), ""),
        (("/elsewhere", Image), ("/cam", RAW), ""),
        (("/cam", Image), ("/cam_2", COMPRESSED), ""),
    ],
)
def test_the_graph_explains_a_topic_that_brings_no_images(
    client: Client,
    other: Node,
    published: tuple[str, type],
    subscribed: tuple[str, str],
    mistake: str,
) -> None:
    topic, kind = published
    other.create_publisher(kind, topic, 1)
    client.wait_for(lambda: client.node.count_publishers(topic))
    nodes = ("/front/driver",) if topic == subscribed[0] else ()
    client.wait_for(lambda: announced(client.node, *subscribed).nodes == nodes)
    assert announced(client.node, *subscribed)[1:] == (nodes, False, mistake)


def test_one_publisher_of_the_right_type_is_enough(client: Client, other: Node) -> None:
    other.create_publisher(CompressedImage, "/cam", 1)
    client.node.create_publisher(Image, "/cam", LATCHED)
    client.wait_for(lambda: len(announced(client.node, "/cam", RAW).nodes) == 2)
    assert announced(client.node, "/cam", RAW) == (2, ("/client", "/front/driver"), True, "")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera is silent after a moment."""
    monkeypatch.setattr(camera_health, "SILENCE", 0.3)


def status(seen: SimpleNamespace) -> DiagnosticStatus:
    return seen.diagnostics[-1].status[0]


def test_a_compressed_topic_with_raw_transport_is_an_error_in_diagnostics(
    client: Client, other: Node, start_inside: Start, soon: None
) -> None:
    seen = start_inside()
    client.node.destroy_publisher(seen.camera)
    other.create_publisher(CompressedImage, "/image", 1)
    client.wait_for(lambda: "set image_transport to compressed" in status(seen).message)
    assert status(seen).level == DiagnosticStatus.ERROR


def test_a_second_node_of_the_same_name_is_a_warning(client: Client, start_inside: Start) -> None:
    seen = start_inside(autostart=False)
    assert status(seen).level == DiagnosticStatus.OK
    second = Node("detector", context=client.context)
    client.wait_for(lambda: "another node is called /detector too" in status(seen).message)
    assert status(seen).level == DiagnosticStatus.WARN
    second.destroy_node()
    client.wait_for(lambda: status(seen).level == DiagnosticStatus.OK)
    elsewhere = Node("detector", namespace="/rear", context=client.context)
    client.wait_for(lambda: ("detector", "/rear") in seen.node.get_node_names_and_namespaces())
    heard = len(seen.diagnostics)
    client.wait_for(lambda: len(seen.diagnostics) > heard + 1)
    assert status(seen).level == DiagnosticStatus.OK
    elsewhere.destroy_node()


def test_a_node_in_the_process_leaves_the_graph_with_its_client(toy: str) -> None:
    """Otherwise the nodes of later tests have a namesake."""
    first = Client()
    model = Parameter("model", value=toy)
    node = first.host(DetectorNode(context=first.context, parameter_overrides=[model]))
    first.close()
    second = Client()
    second.spin(0.5)
    assert second.node.get_node_names() == ["client"]
    second.close()
    del node  # until here, as a fixture of pytest holds it until all of them are closed


def test_a_node_that_was_shut_down_says_so(client: Client, start_inside: Start) -> None:
    seen = start_inside(model="yolo_what")
    assert status(seen).level == DiagnosticStatus.ERROR
    assert seen.node.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    client.wait_for(lambda: status(seen).message.startswith("finalized: the node was shut down"))
    assert status(seen).level == DiagnosticStatus.WARN
    assert values_of(seen.diagnostics[-1])["state"] == "finalized"


def test_diagnostics_need_no_executor_and_wait_for_what_changes_the_node(client: Client) -> None:
    period = Parameter("diagnostics_period", value=0.1)
    node = DetectorNode(context=client.context, parameter_overrides=[period])
    reports = client.collect(DiagnosticArray, "/diagnostics")
    client.wait_for(lambda: reports)
    with node._changes:
        client.spin(0.05)  # what was on its way
        reports.clear()
        client.spin(0.25)
        assert not reports
    client.wait_for(lambda: reports)
    node.destroy_node()
    assert "diagnostics" not in {thread.name for thread in threading.enumerate()}
    vars(node).pop("_state_machine")  # it keeps the node in the graph


def send_until(
    client: Client, seen: SimpleNamespace, stamp: Callable[[], Time], happened: Callable[[], Any]
) -> None:
    def send() -> Any:
        seen.camera.publish(image_message(PIXELS, stamp()))
        client.spin(0.03)
        return happened()

    client.wait_for(send)


def test_simulated_time_without_a_clock_is_a_warning(client: Client, start_inside: Start) -> None:
    seen = start_inside(use_sim_time=True)

    def has(sentence: str) -> Callable[[], bool]:
        return lambda: sentence in status(seen).message

    send_until(client, seen, lambda: Time(sec=100), has("no clock runs on /clock"))
    send_until(client, seen, lambda: Time(sec=100), has("s cannot be: synchronise the clocks"))
    assert status(seen).level == DiagnosticStatus.WARN
    clock = client.node.create_publisher(Clock, "/clock", 1)

    def ticking() -> Time:
        clock.publish(Clock(clock=Time(sec=100)))
        return Time(sec=100)

    send_until(client, seen, ticking, lambda: not has("/clock")())
    seen.node.set_parameters([Parameter("use_sim_time", value=False)])  # or it cannot be destroyed


def test_max_age_refuses_the_future_too(client: Client, start_inside: Start) -> None:
    seen = start_inside(max_age=0.5)

    def ahead() -> Time:
        now = client.node.get_clock().now().to_msg()
        return Time(sec=now.sec + 37, nanosec=now.nanosec)

    refused = "max_age refuses every image: the last one has a stamp 3"
    send_until(client, seen, ahead, lambda: status(seen).message.startswith(refused))
    assert status(seen).level == DiagnosticStatus.WARN
    assert "synchronise the clocks" in status(seen).message
    assert not seen.results
    now = client.node.get_clock().now
    send_until(client, seen, lambda: now().to_msg(), lambda: seen.results)
