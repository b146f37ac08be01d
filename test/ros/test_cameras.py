# SPDX-License-Identifier: Apache-2.0
"""Several cameras of one detector node, over DDS."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from harness import LATCHED, Client, Start, image_message, values_of
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray, LabelInfo

pytestmark = pytest.mark.ros

COLOURS = {"front": ("red", 0), "rear": ("blue", 2)}
"""Class and channel of the square that each camera sees."""


class Cameras:
    """Cameras that send at their own rates, and what comes back."""

    def __init__(self, client: Client, **periods: float) -> None:
        self._client = client
        self._periods = periods
        self._next = dict.fromkeys(periods, 0.0)
        self.sent = dict.fromkeys(periods, 0)
        self.results = {
            name: client.collect(Detection2DArray, f"/detector/{name}/detections")
            for name in COLOURS
        }
        self._publishers = {
            name: client.node.create_publisher(Image, f"/{name}/image", 5) for name in periods
        }

    def send_until(self, happened: Callable[[], Any]) -> Any:
        """Send images until something is so."""
        return self._client.wait_for(lambda: self._send() or happened())

    def _send(self) -> None:
        for name, publisher in self._publishers.items():
            if time.monotonic() >= self._next[name] and publisher.get_subscription_count():
                self._next[name] = time.monotonic() + self._periods[name]
                pixels = np.zeros((320, 320, 3), np.uint8)
                pixels[32:48, 64:80, COLOURS[name][1]] = 255
                stamp = self._client.node.get_clock().now().to_msg()
                publisher.publish(image_message(pixels, stamp, frame_id=name))
                self.sent[name] += 1


def status(seen: SimpleNamespace, name: str) -> tuple[DiagnosticStatus, dict[str, str]]:
    """The newest status of ``/detector: <name>``, and its key-value pairs."""
    message: DiagnosticArray = seen.diagnostics[-1]
    names = [each.name for each in message.status]
    place = names.index(f"/detector: {name}")
    return message.status[place], values_of(message, place)


def test_cameras_of_different_rates_are_processed_and_counted_each(
    client: Client, start: Start
) -> None:
    infos = client.collect(LabelInfo, "/detector/label_info", LATCHED)
    seen = start(cameras=["front", "rear"], diagnostics_period=0.2)
    cameras = Cameras(client, front=0.05, rear=0.3)
    cameras.send_until(lambda: len(cameras.results["rear"]) >= 4)
    for name, results in cameras.results.items():
        for result in results:
            assert result.header.frame_id == name
            ((found,),) = (detection.results for detection in result.detections)
            assert found.hypothesis.class_id == COLOURS[name][0]
    assert len(cameras.results["front"]) > len(cameras.results["rear"])

    def settled() -> bool:
        return all(
            int(status(seen, name)[1]["images_processed"]) == len(results)
            for name, results in cameras.results.items()
        )

    client.wait_for(settled)  # nothing is sent any more
    received = {}
    for name, results in cameras.results.items():
        values = status(seen, name)[1]
        received[name] = int(values["images_received"])
        assert received[name] == len(results) + int(values["images_dropped"])
        assert received[name] <= cameras.sent[name]
        assert float(values["inference_ms p99"]) >= float(values["inference_ms p50"]) > 0
        assert values["image_topic"] == f"/{name}/image"
    values = status(seen, "detections")[1]
    assert int(values["images_received"]) == sum(received.values())
    assert values["backend"] == "onnxruntime"
    assert not seen.results  # on /detector/detections
    assert len(infos) == 1
    assert "Waiting for images on /front/image, /rear/image" in seen.process.output()


def test_a_silent_camera_is_stale_while_another_works(client: Client, start: Start) -> None:
    seen = start(cameras=["front", "rear"], diagnostics_period=0.2)
    cameras = Cameras(client, front=0.1)

    def levels() -> list[bytes]:
        return [each.level for each in seen.diagnostics[-1].status[1:]]

    cameras.send_until(lambda: levels() == [DiagnosticStatus.OK, DiagnosticStatus.STALE])
    node = status(seen, "detections")[0]
    assert node.level == DiagnosticStatus.ERROR
    assert node.message.startswith("rear: /rear/image has no publisher")
    client.wait_for(lambda: "rear: /rear/image has no publisher" in seen.process.output())
    assert seen.process.output().count("/rear/image has no publisher") == 1


def test_enable_is_for_all_cameras(client: Client, start: Start) -> None:
    seen = start(cameras=["front", "rear"])

    def subscribed() -> list[int]:
        return [client.node.count_subscribers(f"/{name}/image") for name in ("front", "rear")]

    client.wait_for(lambda: all(subscribed()))
    assert client.call(SetBool, "/detector/enable", data=False).success
    client.wait_for(lambda: subscribed() == [0, 0])
    client.wait_for(
        lambda: {s.message for s in seen.diagnostics[-1].status} == {"disabled by ~/enable"}
    )
    assert client.call(SetBool, "/detector/enable", data=True).success
    cameras = Cameras(client, front=0.1, rear=0.1)
    cameras.send_until(lambda: all(cameras.results.values()))


def test_a_change_that_one_camera_cannot_make_is_made_by_none(client: Client, start: Start) -> None:
    """The remap rules contradict each other for the rear camera's depth images."""
    rules = ("-r", "rear/depth:=tof", "-r", "tof/compressedDepth:=packed")
    start(*rules, cameras=list(COLOURS), depth_transport="compressedDepth")
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="depth")
    given = [Parameter(name="positions", value=value)]
    (result,) = client.call(SetParameters, "/detector/set_parameters", parameters=given).results
    assert not result.successful and "remap rear/depth/compressedDepth instead" in result.reason
    client.spin(0.5)
    heard = client.heard()
    assert heard >= {"/front/image", "/rear/image"}
    assert not [name for name in heard if "camera_info" in name or "depth" in name]


def test_unusable_names_are_refused_with_a_sentence(client: Client, start: Start) -> None:
    start(autostart=False)
    for value, sentence in (
        (["front", "rear camera"], "'rear camera' cannot be a camera's name: give letters"),
        (["front", ""], "'' cannot be a camera's name"),
        (["2nd"], "'2nd' cannot be a camera's name"),
        (["a__b"], "'a__b' cannot be a camera's name"),
        (["/front"], "'/front' cannot be a camera's name"),
        (["rear", "rear"], "'rear' is given twice"),
        (["detections"], "'detections' is taken by the node itself"),
        (["front_1", "rear"], ""),
        ([""], ""),
    ):
        kind = ParameterType.PARAMETER_STRING_ARRAY
        parameter = ParameterValue(type=kind, string_array_value=value)
        request = {"parameters": [Parameter(name="cameras", value=parameter)]}
        (result,) = client.call(SetParameters, "/detector/set_parameters", **request).results
        assert sentence in result.reason
        assert result.successful is (sentence == ""), value


def test_images_of_cameras_go_together_on_a_gpu(
    client: Client, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On doubles of TensorRT 10 and pycuda, which refuse a batch that the engine does not have."""
    monkeypatch.setenv("TENSORRT_DOUBLE_VERSION", "10.3.0")
    seen = start(
        module="gpu_detector_node",
        cameras=["front", "rear"],
        max_batch=2,
        diagnostics_period=0.2,
        engine_cache=str(tmp_path / "engines"),
    )
    cameras = Cameras(client, front=0.02, rear=0.02)
    cameras.send_until(lambda: status(seen, "detections")[1]["backend"] == "tensorrt")
    assert list((tmp_path / "engines").glob("toy-320x320-b2-*.engine"))
    assert status(seen, "detections")[1]["cuda_graph"] == "yes"
    before = {name: len(results) for name, results in cameras.results.items()}
    cameras.send_until(
        lambda: all(len(results) > before[name] + 5 for name, results in cameras.results.items())
    )
    for name, results in cameras.results.items():
        for result in results[before[name] :]:
            assert result.header.frame_id == name
            ((found,),) = (detection.results for detection in result.detections)
            assert found.hypothesis.class_id == COLOURS[name][0]
            (detection,) = result.detections
            assert detection.bbox.center.position.x == pytest.approx(72, abs=0.1)
