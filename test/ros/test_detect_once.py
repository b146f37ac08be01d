# SPDX-License-Identifier: Apache-2.0
"""``~/detect_once``: what a caller gets, and what stays as it was."""

from __future__ import annotations

import json
import re
import time
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from harness import PATIENCE, ROOT, Client, Start, green_square, image_message, values_of
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

pytestmark = pytest.mark.ros
SERVICE = "/detector/detect_once"


class Calls:
    """Calls of the service that have not been waited for."""

    def __init__(self, client: Client, service: str = SERVICE) -> None:
        self._client = client
        self._service = client.node.create_client(Trigger, service)
        client.wait_for(self._service.service_is_ready)

    def begin(self) -> Any:
        return self._service.call_async(Trigger.Request())

    def result(self, future: Any) -> Any:
        self._client.wait_for(future.done)
        return future.result()

    def __call__(self) -> Any:
        return self.result(self.begin())


def stream(
    client: Client, seen: SimpleNamespace, image: Image, late: int = 0
) -> list[tuple[int, int]]:
    """Publish an image at 20 Hz from now on, seconds late; return the list of the stamps."""
    stamps: list[tuple[int, int]] = []

    def publish() -> None:
        image.header.stamp = client.node.get_clock().now().to_msg()
        image.header.stamp.sec -= late
        stamps.append((image.header.stamp.sec, image.header.stamp.nanosec))
        seen.camera.publish(image)

    client.node.create_timer(0.05, publish)
    return stamps


def stamp_of(content: dict[str, Any]) -> tuple[int, int]:
    return content["stamp"]["sec"], content["stamp"]["nanosec"]


def stamps_of(seen: SimpleNamespace) -> list[tuple[int, int]]:
    return [(m.header.stamp.sec, m.header.stamp.nanosec) for m in seen.results]


def test_a_disabled_stream_is_woken_for_one_image(client: Client, start_inside: Start) -> None:
    seen = start_inside(detect_once_timeout=PATIENCE)
    client.wait_for(lambda: client.node.count_subscribers("/detector/detections"))
    client.call(SetBool, "/detector/enable", data=False)
    client.wait_for(lambda: client.node.count_subscribers("/image") == 0)
    sent = stream(client, seen, green_square())
    call = Calls(client)
    client.spin(0.2)
    assert not seen.results
    answers = []
    for _ in range(3):
        before = len(sent)
        response = call()
        assert response.success and "\n" not in response.message
        content = json.loads(response.message)
        assert stamp_of(content) in sent[before - 1 :]  # no older one
        answers.append(stamp_of(content))
        client.wait_for(lambda: stamps_of(seen) == answers)
    assert (content["frame_id"], content["width"], content["height"]) == ("eye", 320, 240)
    (found,) = content["detections"]
    assert found["class_id"] == "green" and found["id"] == ""
    assert found["score"] == pytest.approx(0.8, abs=1e-4)
    np.testing.assert_allclose(found["box"], [48, 88, 64, 104], atol=0.01)
    client.spin(0.2)
    assert stamps_of(seen) == answers  # one array for each call, and no more
    client.wait_for(lambda: client.node.count_subscribers("/image") == 0)
    client.wait_for(lambda: seen.diagnostics[-1].status[0].message == "disabled by ~/enable")


def test_an_answer_that_is_there_is_not_lost_when_the_node_is_deactivated(
    client: Client, start_inside: Start
) -> None:
    """In the moment between the image's result, which was published, and the response."""
    seen = start_inside(detect_once_timeout=PATIENCE)
    calls = Calls(client)
    answer, (camera,) = calls.begin(), seen.node._session.cameras
    client.wait_for(lambda: camera.once.is_called and seen.camera.get_subscription_count())
    seen.camera.publish(green_square())
    end = time.monotonic() + PATIENCE
    while camera.once.is_called and time.monotonic() < end:
        time.sleep(0.01)  # the executor is busy with something else
    seen.node.trigger_deactivate()
    response = calls.result(answer)
    assert response.success, response.message


def test_the_newest_image_of_a_stream_is_answered_once(client: Client, start_inside: Start) -> None:
    """A slow camera: its last image counts, unless that is old; then the next one is waited for."""
    seen = start_inside(detect_once_timeout=PATIENCE)
    image = green_square()
    client.wait_for(lambda: client.node.count_subscribers("/image"))
    client.wait_for(lambda: seen.camera.publish(image) or client.spin(0.05) or seen.results)
    client.spin(0.1)
    seen.results.clear()
    image.header.stamp.sec = 77
    seen.camera.publish(image)
    client.wait_for(lambda: seen.results)
    call = Calls(client)
    assert stamp_of(json.loads(call().message)) == (77, 0)
    assert stamp_of(json.loads(call().message)) == (77, 0)
    assert stamps_of(seen) == [(77, 0)]

    seen.node.set_parameters([Parameter("detect_once_timeout", value=0.2)])
    client.spin(0.3)
    response = call()
    assert (response.success, response.message) == (False, "no image was answered within 0.2 s")
    seen.node.set_parameters([Parameter("detect_once_timeout", value=0.5)])
    client.spin(0.6)
    waiting = call.begin()
    client.spin(0.1)
    seen.camera.publish(image_message(np.zeros((64, 64, 3), np.uint8), encoding="smell8"))
    response = call.result(waiting)
    assert not response.success and "smell8" in response.message


def test_no_answer_is_from_before_a_parameter_was_set(client: Client, start_inside: Start) -> None:
    seen = start_inside(detect_once_timeout=PATIENCE)
    client.wait_for(lambda: seen.camera.get_subscription_count())
    seen.camera.publish(green_square())
    client.wait_for(lambda: seen.results)
    call = Calls(client)
    assert json.loads(call().message)["detections"]
    assert seen.node.set_parameters([Parameter("classes", value=["red"])])[0].successful
    waiting = call.begin()
    client.spin(0.3)
    assert not waiting.done()
    seen.camera.publish(green_square())
    assert json.loads(call.result(waiting).message)["detections"] == []


def test_those_who_wait_get_their_image_though_the_node_is_disabled(
    client: Client, start_inside: Start
) -> None:
    seen = start_inside(detect_once_timeout=PATIENCE)
    client.wait_for(lambda: client.node.count_subscribers("/image"))
    call = Calls(client)
    for _ in range(2):  # enabled at first, then disabled already
        waiting = call.begin()
        client.spin(0.1)
        assert client.call(SetBool, "/detector/enable", data=False).success
        timer = client.node.create_timer(0.05, lambda: seen.camera.publish(green_square()))
        assert call.result(waiting).success
        client.node.destroy_timer(timer)
        client.wait_for(lambda: client.node.count_subscribers("/image") == 0)


UNANSWERED = "no image was answered within 0.5 s: "


@pytest.mark.parametrize(
    ("late", "words"),
    [(5, " s old on arrival: check the camera's driver"), (-60, " s in the future: synchronise")],
)
def test_those_who_wait_learn_that_images_are_too_old(
    client: Client, start_inside: Start, late: int, words: str
) -> None:
    seen = start_inside(detect_once_timeout=0.5, max_age=1.0)
    stream(client, seen, green_square(), late)
    call = Calls(client)
    response = client.wait_for(lambda: (r := call()).message.startswith(UNANSWERED) and r)
    assert not response.success and "\n" not in response.message
    assert response.message.startswith(f"{UNANSWERED}max_age refuses images: the last one ")
    assert words in response.message
    assert not seen.results


def test_those_who_wait_learn_that_the_governor_skips(client: Client, start_inside: Start) -> None:
    seen = start_inside(detect_once_timeout=0.5)
    seen.node._session.control.admits = lambda camera: False
    stream(client, seen, green_square())
    call = Calls(client)
    client.wait_for(lambda: call().message.startswith(f"{UNANSWERED}the governor skips images"))


def test_those_who_wait_are_told_when_the_node_stops(client: Client, start_inside: Start) -> None:
    seen = start_inside(detect_once_timeout=PATIENCE)
    call = Calls(client)
    waiting = [call.begin(), call.begin()]
    client.wait_for(lambda: seen.node._session.cameras[0].once.is_called)
    client.spin(0.1)
    seen.node.trigger_deactivate()
    seen.node.trigger_cleanup()
    for each in waiting:
        response = call.result(each)
        assert (response.success, response.message) == (False, "the node was deactivated")
    by_node = client.node.get_service_names_and_types_by_node
    client.wait_for(lambda: SERVICE not in dict(by_node("detector", "/")))
    heard = len(seen.diagnostics)
    client.wait_for(lambda: len(seen.diagnostics) > heard)
    assert values_of(seen.diagnostics[-1])["state"] == "unconfigured"
    seen.node.trigger_configure()
    response = Calls(client)()
    assert not response.success and "activate it first" in response.message


def test_the_example_of_the_manual_works(
    client: Client, start_inside: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = start_inside(detect_once_timeout=PATIENCE)
    stream(client, seen, green_square())
    manual = (ROOT / "docs" / "node.md").read_text().split("## Detections on demand")[1]
    (code,) = re.findall(r"```python\n(.*?)```", manual.split("\n## ")[0], re.DOTALL)
    example = Thread(target=exec, args=(code, {}))
    example.start()
    client.wait_for(lambda: not example.is_alive())
    rclpy.try_shutdown()
    assert capsys.readouterr().out == "green 0.8 [48.0, 88.0, 64.0, 104.0]\n"


def test_each_of_several_cameras_has_its_own(client: Client, start_inside: Start) -> None:
    start_inside(cameras=["front", "rear"], detect_once_timeout=PATIENCE)
    cameras = {
        name: client.node.create_publisher(Image, f"/{name}/image", 5) for name in ("front", "rear")
    }
    calls = {name: Calls(client, f"/detector/{name}/detect_once") for name in cameras}
    waiting = {name: call.begin() for name, call in calls.items()}
    image = green_square()
    client.wait_for(
        lambda: cameras["rear"].publish(image) or client.spin(0.05) or waiting["rear"].done()
    )
    assert waiting["rear"].result().success and not waiting["front"].done()
