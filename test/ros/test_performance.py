# SPDX-License-Identifier: Apache-2.0
"""~/performance: the figures of every processed image, for subscribers."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from harness import Client, image_message, values_of
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.ros.detector import publishing
from compact_yolo_ros.ros.detector.node import DetectorNode
from compact_yolo_ros.ros.diagnostics.performance import PerformanceWriter

pytestmark = pytest.mark.ros


class CountingWriter(PerformanceWriter):
    """Counts the messages that were made, read or not."""

    made = 0

    def write(self, *args: Any, **values: Any) -> DiagnosticArray:
        CountingWriter.made += 1
        return super().write(*args, **values)


@pytest.fixture
def node(client: Client, toy: str, monkeypatch: pytest.MonkeyPatch) -> DetectorNode:
    """A node in the test's own process, whose inside can be watched."""
    monkeypatch.setattr(publishing, "PerformanceWriter", CountingWriter)
    given = {"model": toy, "autostart": True, "cpu_threads": 1, "cameras": ["front"]}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    node = client.host(DetectorNode(context=client.context, parameter_overrides=overrides))
    node.start()
    return node


def test_every_figure_is_in_the_unit_of_its_key() -> None:
    times = FrameTimes(*(n / 1000 for n in range(1, 10)))
    size = Size(width=416, height=320)
    backend: Any = SimpleNamespace(
        input=np.zeros((1, *size.shape, 3), np.uint8),
        device_times={"compute": 0.0105},
        name="tensorrt",
        precision="fp16",
    )
    header = Header(frame_id="eye")
    writer = PerformanceWriter()
    for watts in (7.256, None):
        message = writer.write(
            header, "front", times, detections=3, dropped=2, backend=backend, watts=watts
        )
        expected = {f"{name}_ms": f"{n}.000" for n, name in enumerate(FrameTimes._fields, 1)}
        expected |= {"compute_ms": "10.500", "detections": "3", "images_dropped": "2"}
        expected |= {"input_width": "416", "input_height": "320"}
        expected |= {"backend": "tensorrt", "precision": "fp16"}
        assert values_of(message) == expected | ({"power_w": "7.26"} if watts else {})
        assert (message.header, message.status[0].name) == (header, "front")


def test_it_matches_the_detections_and_is_made_for_subscribers_only(
    client: Client, node: DetectorNode
) -> None:
    camera = client.node.create_publisher(Image, "/front/image", 5)
    results = client.collect(Detection2DArray, "/detector/front/detections")
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[64:96, 64:96, 1] = 255

    def send_until(happened: Callable[[], Any]) -> None:
        sent = 0.0

        def check() -> Any:
            nonlocal sent
            if time.monotonic() - sent > 0.05:
                sent = time.monotonic()
                now = client.node.get_clock().now().to_msg()
                camera.publish(image_message(pixels, now, frame_id="eye"))
            return happened()

        client.wait_for(check)

    send_until(lambda: len(results) >= 3)
    assert CountingWriter.made == 0

    figures = client.collect(DiagnosticArray, "/detector/performance")
    send_until(  # the first images are answered in a square
        lambda: len(figures) >= 5 and values_of(figures[-1])["input_height"] == "256"
    )
    client.wait_for(lambda: len(figures) == CountingWriter.made)
    client.wait_for(lambda: results[-1].header == figures[-1].header)
    by_stamp = {(r.header.stamp.sec, r.header.stamp.nanosec): r for r in results}
    for message in figures:
        result = by_stamp[message.header.stamp.sec, message.header.stamp.nanosec]
        assert message.header == result.header
        assert message.status[0].name == "front"
        assert values_of(message)["detections"] == str(len(result.detections))
    # One for each result from the first on: plots have no gaps.
    stamps = [message.header.stamp for message in figures]
    assert stamps == [r.header.stamp for r in results][-len(figures) :]

    values = values_of(figures[-1])
    for name in FrameTimes._fields:
        assert float(values[f"{name}_ms"]) > 0
    assert (values["input_width"], values["input_height"]) == ("320", "256")
    assert values["images_dropped"].isdigit()
    assert (values["backend"], values["precision"]) == ("onnxruntime", "fp32")
