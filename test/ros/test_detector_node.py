# SPDX-License-Identifier: Apache-2.0
"""The detector node as its users have it: a process of its own, over DDS."""

from __future__ import annotations

import socket
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from harness import (
    BEST_EFFORT,
    DETECTOR,
    LATCHED,
    PATIENCE,
    Client,
    NodeProcess,
    Start,
    forked,
    green_square,
    image_message,
    values_of,
)
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool
from toy_model import CLASSES
from vision_msgs.msg import Detection2DArray, LabelInfo, VisionInfo


def red_square(height: int = 480, width: int = 640) -> np.ndarray:
    """One red square that the toy detector finds at (160, 80)-(192, 112) of a 480 x 640 image."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[80:112, 160:192, 0] = 255
    return pixels


def result_of(client: Client, seen: SimpleNamespace, message: Image) -> Detection2DArray:
    """Publish an image until detections with its stamp arrive."""
    message.header.stamp = client.node.get_clock().now().to_msg()
    stamp = message.header.stamp
    sent = 0.0

    def arrived() -> Detection2DArray | None:
        nonlocal sent
        if time.monotonic() - sent > 0.3:
            seen.camera.publish(message)
            sent = time.monotonic()
        return next((r for r in seen.results if r.header.stamp == stamp), None)

    return client.wait_for(arrived)


def parameter(name: str, value: Any) -> Parameter:
    kinds = {
        bool: (ParameterType.PARAMETER_BOOL, "bool_value"),
        int: (ParameterType.PARAMETER_INTEGER, "integer_value"),
        float: (ParameterType.PARAMETER_DOUBLE, "double_value"),
        str: (ParameterType.PARAMETER_STRING, "string_value"),
        list: (ParameterType.PARAMETER_STRING_ARRAY, "string_array_value"),
    }
    kind, field = kinds[type(value)]
    return Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))


def set_parameter(client: Client, name: str, value: Any) -> Any:
    request = {"parameters": [parameter(name, value)]}
    return client.call(SetParameters, "/detector/set_parameters", **request).results[0]


def change_state(client: Client, transition: int) -> bool:
    request = {"transition": Transition(id=transition)}
    return client.call(ChangeState, "/detector/change_state", **request).success


def test_an_image_becomes_detections_with_its_own_header(client: Client, start: Start) -> None:
    seen = start(kind=NodeProcess)
    found = result_of(client, seen, image_message(red_square(), frame_id="left_eye"))
    assert found.header.frame_id == "left_eye"
    (detection,) = found.detections
    assert detection.header == found.header
    assert detection.id == ""
    (result,) = detection.results
    assert result.hypothesis.class_id == "red"
    assert result.hypothesis.score == pytest.approx(1.0, abs=1e-3)
    centre = detection.bbox.center
    assert (centre.position.x, centre.position.y) == pytest.approx((176, 96), abs=0.01)
    assert centre.theta == 0
    assert (detection.bbox.size_x, detection.bbox.size_y) == pytest.approx((32, 32), abs=0.01)


def test_an_empty_array_says_that_nothing_was_seen(client: Client, start: Start) -> None:
    seen = start()
    assert (
        result_of(client, seen, image_message(np.zeros((240, 320, 3), np.uint8))).detections == []
    )


@pytest.mark.parametrize("reliability", ["reliable", "best_effort", "auto"])
def test_it_receives_from_a_camera_of_either_reliability(
    client: Client, start: Start, reliability: str
) -> None:
    seen = start(reliability=reliability)
    if reliability != "reliable":
        client.node.destroy_publisher(seen.camera)
        seen.camera = client.node.create_publisher(Image, "/image", BEST_EFFORT)
    # Small, because a best-effort image larger than the default shared memory gets lost.
    assert result_of(client, seen, image_message(np.full((64, 64, 3), 255, np.uint8))).detections


def test_auto_reliability_becomes_reliable_with_a_reliable_camera(
    client: Client, start: Start
) -> None:
    seen = start()
    client.wait_for(lambda: values_of(seen.diagnostics[-1]).get("image_reliability") == "reliable")


def test_who_takes_the_detections_is_counted(client: Client, start: Start) -> None:
    seen = start(diagnostics_period=0.2)
    client.wait_for(lambda: values_of(seen.diagnostics[-1]).get("detection_subscribers") == "1")
    client.collect(Detection2DArray, "/detector/detections")
    client.wait_for(lambda: values_of(seen.diagnostics[-1])["detection_subscribers"] == "2")


def test_incompatible_qos_is_an_error_in_diagnostics(client: Client, start: Start) -> None:
    seen = start(reliability="reliable", diagnostics_period=0.2)
    client.node.destroy_publisher(seen.camera)
    client.node.create_publisher(Image, "/image", BEST_EFFORT)
    client.wait_for(lambda: "set reliability to auto" in seen.diagnostics[-1].status[0].message)
    assert seen.diagnostics[-1].status[0].level == DiagnosticStatus.ERROR
    # It is also logged, once, for those who do not watch /diagnostics.
    assert seen.process.output().count("set reliability to auto") == 1


def test_a_topic_without_publisher_is_stale_and_logged(client: Client, start: Start) -> None:
    seen = start("-r", "image:=/nobody/here", diagnostics_period=0.2)
    client.wait_for(lambda: seen.diagnostics[-1].status[0].level == DiagnosticStatus.STALE)
    assert "/nobody/here has no publisher" in seen.diagnostics[-1].status[0].message
    client.wait_for(lambda: "/nobody/here has no publisher" in seen.process.output())


def test_compressed_images_are_read_from_the_usual_topic(client: Client, start: Start) -> None:
    seen = start(
        "-r", "image:=/camera/image_raw", image_transport="compressed", score_threshold=0.8
    )
    seen.camera = client.node.create_publisher(CompressedImage, "/camera/image_raw/compressed", 5)
    _, png = cv2.imencode(".png", red_square()[..., ::-1])
    message = CompressedImage(format="png", data=png.tobytes())
    (detection,) = result_of(client, seen, message).detections
    assert detection.results[0].hypothesis.class_id == "red"


def test_latched_topics_give_a_late_subscriber_the_classes(client: Client, start: Start) -> None:
    start(score_threshold=0.25)
    infos = client.collect(LabelInfo, "/detector/label_info", LATCHED)
    visions = client.collect(VisionInfo, "/detector/vision_info", LATCHED)
    client.wait_for(lambda: infos and visions)
    assert [(c.class_id, c.class_name) for c in infos[0].class_map] == list(enumerate(CLASSES))
    assert infos[0].threshold == pytest.approx(0.25)
    assert visions[0].method == "toy"
    assert visions[0].database_location == "/detector/label_info"


def test_thresholds_and_classes_change_while_it_runs(client: Client, start: Start) -> None:
    seen = start(class_id_format="id")
    pixels = red_square()
    pixels[80:112, 320:352, 1] = 160  # green, score 0.63

    def ids() -> list[str]:
        found = result_of(client, seen, image_message(pixels))
        return [d.results[0].hypothesis.class_id for d in found.detections]

    assert ids() == ["0", "1"]
    assert set_parameter(client, "score_threshold", 0.8).successful
    assert ids() == ["0"]
    assert set_parameter(client, "max_age", 60).successful  # a whole number will do
    assert ids() == ["0"]
    assert set_parameter(client, "score_threshold", 0.5).successful
    assert set_parameter(client, "classes", ["green"]).successful
    assert ids() == ["1"]
    assert set_parameter(client, "classes", [""]).successful
    assert set_parameter(client, "class_id_format", "name").successful
    assert ids() == ["red", "green"]
    assert set_parameter(client, "max_detections", 1).successful
    assert ids() == ["red"]


def test_wrong_values_are_refused_with_a_reason(client: Client, start: Start) -> None:
    seen = start()
    for name, value, reason in (
        ("score_threshold", 1.5, ""),
        ("iou_threshold", -1, "iou_threshold is -1: give a number from 0 to 1"),
        ("max_age", "old", "max_age is old: give a number from 0 to 3600"),
        ("max_detections", 0, ""),
        ("classes", ["dragon"], "no class 'dragon': its classes are red, green, blue"),
        ("class_id_format", "emoji", "give one of name, id"),
        ("model", "other", "no model 'other'"),
        ("cpu_threads", 2, "cannot change while a model is loaded"),
        ("autostart", False, ""),
    ):
        result = set_parameter(client, name, value)
        assert not result.successful, name
        assert reason in result.reason
    assert seen.process.is_running()


def test_parameters_describe_themselves(client: Client, start: Start) -> None:
    start()
    names = client.call(ListParameters, "/detector/list_parameters").result.names
    own = [n for n in names if not n.startswith(("use_sim", "qos_", "start_type", "service_"))]
    described = client.call(DescribeParameters, "/detector/describe_parameters", names=own)
    by_name = {d.name: d for d in described.descriptors}
    assert all(d.description for d in by_name.values())
    assert by_name["score_threshold"].floating_point_range[0].to_value == 1.0
    assert by_name["max_detections"].integer_range[0].from_value == 1
    assert by_name["autostart"].read_only


def test_a_disabled_node_unsubscribes_and_comes_back(client: Client, start: Start) -> None:
    seen = start()
    image = image_message(red_square())
    result_of(client, seen, image)
    assert client.call(SetBool, "/detector/enable", data=False).success
    client.wait_for(lambda: client.node.count_subscribers("/image") == 0)
    client.wait_for(lambda: "disabled" in seen.diagnostics[-1].status[0].message)
    assert client.call(SetBool, "/detector/enable", data=True).success
    result_of(client, seen, image)


def test_to_enable_an_enabled_node_changes_nothing(client: Client, start_inside: Start) -> None:
    """A behaviour tree may do so in every cycle: counts and tracks go on."""
    seen = start_inside(tracking="bytetrack")
    result_of(client, seen, green_square())
    before = result_of(client, seen, green_square())
    assert client.call(SetBool, "/detector/enable", data=True).success
    after = result_of(client, seen, green_square())
    assert [found.id for found in after.detections] == [found.id for found in before.detections]
    assert seen.node._session.cameras[0].counters.snapshot().processed == 3


def test_the_lifecycle_loads_subscribes_and_releases(client: Client, start: Start) -> None:
    seen = start(autostart=False)

    def state() -> int:
        return client.call(GetState, "/detector/get_state").current_state.id

    assert state() == State.PRIMARY_STATE_UNCONFIGURED
    assert set_parameter(client, "input_size", 416).successful
    assert change_state(client, Transition.TRANSITION_CONFIGURE)
    assert state() == State.PRIMARY_STATE_INACTIVE
    assert client.node.count_subscribers("/image") == 0
    for _ in range(2):
        assert change_state(client, Transition.TRANSITION_ACTIVATE)
        result_of(client, seen, image_message(red_square()))
        assert change_state(client, Transition.TRANSITION_DEACTIVATE)
        client.wait_for(lambda: client.node.count_subscribers("/image") == 0)
    assert change_state(client, Transition.TRANSITION_CLEANUP)
    client.wait_for(lambda: client.node.count_publishers("/detector/detections") == 0)
    assert set_parameter(client, "input_size", 320).successful
    assert change_state(client, Transition.TRANSITION_CONFIGURE)
    assert change_state(client, Transition.TRANSITION_ACTIVATE)
    result_of(client, seen, image_message(red_square()))
    client.wait_for(lambda: values_of(seen.diagnostics[-1]).get("input_size") == "320x320")


def test_a_model_that_does_not_exist_leaves_a_node_that_can_be_corrected(
    client: Client, start: Start, toy: str
) -> None:
    seen = start(model="yolo_what")
    client.wait_for(lambda: "no model 'yolo_what'" in seen.diagnostics[-1].status[0].message)
    assert seen.diagnostics[-1].status[0].level == DiagnosticStatus.ERROR
    assert set_parameter(client, "model", toy).successful
    assert change_state(client, Transition.TRANSITION_CONFIGURE)
    assert change_state(client, Transition.TRANSITION_ACTIVATE)
    assert result_of(client, seen, image_message(red_square())).detections


def test_a_warning_is_logged_once_and_stays_in_diagnostics(client: Client, start: Start) -> None:
    seen = start(precision="fp16", diagnostics_period=0.1)
    result_of(client, seen, image_message(red_square()))
    sentence = "running fp32 on the CPU instead of what was requested"
    client.wait_for(lambda: sentence in seen.diagnostics[-1].status[0].message)
    count = len(seen.diagnostics)
    client.wait_for(lambda: len(seen.diagnostics) > count + 3)
    assert seen.process.output().count(sentence) == 1


def test_an_unexpected_error_is_reported_and_leaves_a_node_that_can_be_started(
    client: Client, start: Start
) -> None:
    seen = start(module="clumsy_detector_node")
    sentence = "RuntimeError: can't start new thread"
    client.wait_for(lambda: seen.diagnostics[-1].status[0].message == sentence)
    assert seen.diagnostics[-1].status[0].level == DiagnosticStatus.ERROR
    # a report may come between the error and what rclpy does about it
    client.wait_for(lambda: values_of(seen.diagnostics[-1])["state"] == "unconfigured")
    assert seen.diagnostics[-1].status[0].message == sentence
    assert seen.process.output().count(sentence) == 1
    assert change_state(client, Transition.TRANSITION_CONFIGURE)
    assert change_state(client, Transition.TRANSITION_ACTIVATE)
    assert result_of(client, seen, image_message(red_square())).detections


@pytest.mark.skipif(find_spec("cv_bridge") is not None, reason="cv_bridge is installed")
def test_a_decoder_that_is_not_installed_leaves_a_node_that_can_be_corrected(
    client: Client, start: Start
) -> None:
    seen = start(image_decoder="cv_bridge")
    client.wait_for(lambda: "install" in seen.diagnostics[-1].status[0].message)
    assert seen.diagnostics[-1].status[0].level == DiagnosticStatus.ERROR
    assert set_parameter(client, "image_decoder", "builtin").successful
    assert change_state(client, Transition.TRANSITION_CONFIGURE)


def test_a_bad_image_is_logged_once_a_cause_counted_and_survived(
    client: Client, start: Start
) -> None:
    seen = start(diagnostics_period=0.2)
    bad = image_message(red_square(), encoding="smell8")
    client.wait_for(lambda: seen.camera.get_subscription_count())

    def three_errors() -> bool:
        seen.camera.publish(bad)
        client.spin(0.05)
        values = values_of(seen.diagnostics[-1])
        return int(values["errors"]) >= 3 and "smell8" in values["last_error"]

    client.wait_for(three_errors)
    assert seen.process.output().count("smell8") == 1
    other = image_message(red_square(), encoding="taste8")  # another cause of the same kind

    def logged() -> bool:
        seen.camera.publish(other)
        client.spin(0.05)
        return "taste8" in seen.process.output()

    client.wait_for(logged)
    assert seen.process.output().count("taste8") == 1
    assert result_of(client, seen, image_message(red_square())).detections


def test_images_older_than_max_age_are_not_processed(client: Client, start: Start) -> None:
    seen = start(max_age=0.5, diagnostics_period=0.2)
    client.wait_for(lambda: seen.camera.get_subscription_count())
    now = client.node.get_clock().now().to_msg()
    old = image_message(red_square(), stamp=type(now)(sec=now.sec - 10, nanosec=0))

    def counted() -> bool:
        seen.camera.publish(old)
        client.spin(0.05)
        return int(values_of(seen.diagnostics[-1])["images_too_old"]) >= 3

    client.wait_for(counted)
    assert not seen.results
    assert result_of(client, seen, image_message(red_square()))


def test_the_debug_image_is_drawn_for_a_subscriber_in_the_source_size(
    client: Client, start: Start
) -> None:
    seen = start(debug_image_rate=0, debug_image_size=0)
    result_of(client, seen, image_message(red_square()))
    pictures = client.collect(Image, "/detector/debug_image", 1)
    client.wait_for(lambda: client.node.count_publishers("/detector/debug_image"))
    for _ in range(3):
        found = result_of(client, seen, image_message(red_square()))
    client.wait_for(lambda: pictures)
    picture = pictures[-1]
    assert (picture.height, picture.width, picture.encoding) == (480, 640, "bgr8")
    assert picture.header.frame_id == found.header.frame_id
    pixels = np.frombuffer(picture.data, np.uint8).reshape(480, 640, 3)
    assert (pixels[..., ::-1] != red_square()).any()


def test_diagnostics_hold_what_an_operator_needs(client: Client, start: Start) -> None:
    seen = start(diagnostics_period=0.3)
    image = image_message(red_square())
    for _ in range(3):
        result_of(client, seen, image)

    def complete() -> DiagnosticArray | None:
        message = seen.diagnostics[-1]
        values = values_of(message)
        counted = int(values["images_processed"]) >= 3 and "age_ms p50" in values
        return message if counted else None

    message = client.wait_for(complete)
    assert message.status[0].name == "/detector: detections"
    assert message.status[0].hardware_id == f"{socket.gethostname()}: CPU"
    values = values_of(message)
    expected = {"state": "active", "backend": "onnxruntime", "precision": "fp32", "threads": "1"}
    assert expected.items() <= values.items()
    for stage in ("age", "decode", "preprocess", "inference", "postprocess", "publish", "total"):
        assert float(values[f"{stage}_ms p99"]) >= float(values[f"{stage}_ms p50"]) > 0
    assert float(values["fps_out"]) > 0


def test_the_log_says_which_file_runs(client: Client, start: Start, toy: str) -> None:
    seen = start()
    assert f"Model toy ({toy}), fp32, input " in seen.process.output()


def test_torch_is_never_imported(client: Client, start: Start) -> None:
    seen = start(kind=NodeProcess)
    result_of(client, seen, image_message(red_square()))
    maps = Path(f"/proc/{seen.process.process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "torch" not in maps


def test_a_parameter_file_of_nonsense_is_one_sentence(tmp_path: Path, toy: str) -> None:
    log = tmp_path / "node.log"
    with forked(DETECTOR, log, {"model": toy, "backend": "abacus"}) as process:
        assert process.process.wait(PATIENCE) == 1
    assert "give one of auto, tensorrt, onnxruntime" in process.output()
    assert "Traceback" not in process.output()
