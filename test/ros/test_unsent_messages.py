# SPDX-License-Identifier: Apache-2.0
"""Messages that DDS does not take, as of a viewer that hangs: they cost no other topic its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from harness import PATIENCE, Client, Start, green_square, values_of
from rclpy._rclpy_pybind11 import RCLError
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray

pytestmark = pytest.mark.ros


@pytest.fixture
def node(client: Client, start_inside: Start) -> SimpleNamespace:
    """A node that is sent images, with a subscriber of each of its topics that are told here."""
    seen = start_inside(tracking="bytetrack", debug_image_rate=0.0, detect_once_timeout=PATIENCE)
    seen.pictures = client.collect(Image, "/detector/debug_image")
    seen.files = client.collect(CompressedImage, "/detector/debug_image/compressed")
    seen.tracks = client.collect(Detection2DArray, "/detector/tracks")
    seen.figures = client.collect(DiagnosticArray, "/detector/performance")
    seen.all = seen.results, seen.pictures, seen.files, seen.tracks, seen.figures
    image = green_square()

    def send() -> None:
        image.header.stamp = client.node.get_clock().now().to_msg()
        seen.camera.publish(image)

    client.node.create_timer(0.05, send)
    client.wait_for(lambda: all(seen.all))
    return seen


def fill_up(publisher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> NoReturn:
        raise RCLError("Failed to publish: the queues are full")

    monkeypatch.setattr(publisher, "publish", refuse)


def output(seen: SimpleNamespace, name: str) -> Any:
    (camera,) = seen.node._session.cameras
    return camera._publisher._outputs[name].publisher


def values_when(client: Client, seen: SimpleNamespace, key: str) -> dict[str, str]:
    """What /diagnostics says once it counts failures under a key."""
    return client.wait_for(
        lambda: (values := values_of(seen.diagnostics[-1])).get(key, "0") != "0" and values
    )


def test_a_debug_image_that_is_not_taken_costs_nothing_else(
    client: Client, node: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_up(output(node, "~/debug_image"), monkeypatch)
    client.spin(0.2)
    for received in node.all:
        received.clear()
    others = node.results, node.files, node.tracks, node.figures
    client.wait_for(lambda: all(len(received) > 2 for received in others))
    assert client.call(Trigger, "/detector/detect_once").success
    assert values_when(client, node, "messages_failed")["errors"] == "0"
    status = node.diagnostics[-1].status[0]
    assert (status.level, status.message) == (
        b"\1",
        "/detector/debug_image was not sent for every image (RCLError: Failed to publish: the "
        "queues are full)",
    )
    assert not node.pictures
    monkeypatch.undo()
    client.wait_for(lambda: node.pictures and node.diagnostics[-1].status[0].level == b"\0")


def test_detections_that_are_not_taken_are_errors_and_tracks_go_on(
    client: Client, node: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_up(output(node, "~/detections"), monkeypatch)
    client.spin(0.2)
    node.tracks.clear()
    client.wait_for(lambda: len(node.tracks) > 2)
    assert "the queues are full" in values_when(client, node, "errors")["last_error"]


def test_figures_that_are_not_taken_cost_no_image(
    client: Client, node: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that was counted as processed counted as an error as well."""
    fill_up(node.node._session.performance._publisher, monkeypatch)
    node.results.clear()
    client.wait_for(lambda: len(node.results) > 2)
    values = values_when(client, node, "figures_failed")
    assert values["errors"] == "0"
    assert "/detector/performance was not sent" in node.diagnostics[-1].status[0].message
