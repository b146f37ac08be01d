# SPDX-License-Identifier: Apache-2.0
"""The network's input fits the cameras of the running node, also when one is turned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from harness import Client, Start, image_message, values_of
from sensor_msgs.msg import Image

pytestmark = pytest.mark.ros
BLOCK = slice(160, 320)


def picture(width: int, height: int) -> Any:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[BLOCK, BLOCK, 0] = 255
    return pixels


def connect(client: Client, seen: Any) -> None:
    """Send images that fit a square until they are answered, then forget the answers."""
    image = image_message(picture(416, 416))

    def answered() -> bool:
        seen.camera.publish(image)
        client.spin(0.1)
        return bool(seen.results)

    client.wait_for(answered)
    client.spin(0.3)
    seen.results.clear()


def test_every_image_is_answered_while_inputs_change(client: Client, start_inside: Start) -> None:
    """Landscape, then portrait: the input follows, no image is lost, and boxes are right."""
    seen = start_inside(input_size=416)
    connect(client, seen)
    assert values_of(seen.diagnostics[-1])["input_size"] == "416x416"
    sent = 0
    for (width, height), expected in (((640, 360), "416x256"), ((360, 480), "320x416")):
        image = image_message(picture(width, height))
        while values_of(seen.diagnostics[-1])["input_size"] != expected:
            seen.camera.publish(image)
            sent += 1
            client.wait_for(lambda: len(seen.results) == sent)  # noqa: B023
    assert values_of(seen.diagnostics[-1])["errors"] == "0"
    for result in seen.results:
        found = [d for d in result.detections if d.results[0].hypothesis.score > 0.9]
        centre = np.mean([(d.bbox.center.position.x, d.bbox.center.position.y) for d in found], 0)
        np.testing.assert_allclose(centre, [240, 240], atol=40)


def test_cameras_of_two_shapes_have_an_input_each(client: Client, start: Start) -> None:
    start(input_size=416, cameras=["front", "rear"], reliability="reliable")
    shapes = {"front": (320, 180), "rear": (240, 320)}
    images = {name: image_message(picture(*shape)) for name, shape in shapes.items()}
    publishers = {name: client.node.create_publisher(Image, f"/{name}/image", 5) for name in shapes}
    performance = client.collect(DiagnosticArray, "/detector/performance")

    def sizes() -> set[tuple[str, str]]:
        values = [values_of(message) for message in performance[-6:]]
        return {(value["input_width"], value["input_height"]) for value in values}

    def publish() -> bool:
        for name, image in images.items():
            if publishers[name].get_subscription_count():
                publishers[name].publish(image)
            client.spin(0.05)
        return len(performance) >= 6 and sizes() == {("416", "256"), ("320", "416")}

    client.wait_for(publish)


def test_tiles_and_the_whole_have_an_input_each(client: Client, start_inside: Start) -> None:
    """Tiles that stand upright in a wide image: the whole was shown at half its usual size."""
    seen = start_inside(input_size=416, tiles=["3x1"])
    image = image_message(picture(640, 480))

    def opened() -> set[tuple[int, int]]:
        seen.camera.publish(image)
        client.spin(0.1)
        return set(seen.node._session.detector.backend.sizes)

    client.wait_for(lambda: opened() == {(224, 416), (416, 320)})


def test_a_square_stays_a_square_if_it_is_asked_for(client: Client, start_inside: Start) -> None:
    seen = start_inside(input_size="square")
    connect(client, seen)
    for sent in range(1, 4):
        seen.camera.publish(image_message(picture(640, 480)))
        client.wait_for(lambda: len(seen.results) == sent)  # noqa: B023
    client.spin(0.5)
    assert values_of(seen.diagnostics[-1])["input_size"] == "320x320"
