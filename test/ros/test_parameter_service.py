# SPDX-License-Identifier: Apache-2.0
"""Setting parameters from outside: nonsense ends no node, and what changes nothing is accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE, Client, ForkedNode
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue, SetParametersResult
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

from compact_yolo_ros.ros.detector.camera_names import check_camera_names
from compact_yolo_ros.ros.detector.node import DetectorNode
from compact_yolo_ros.ros.players.bag_player import BagPlayerNode
from compact_yolo_ros.ros.players.bag_recorder import BagRecorderNode
from compact_yolo_ros.ros.players.video_publisher import VideoPublisherNode

pytestmark = pytest.mark.ros
Nodes = Callable[..., Any]


@pytest.fixture
def nodes(client: Client) -> Nodes:
    """Make a node with parameters from a file; it works while the client waits."""

    def make(kind: type, file: Path) -> Any:
        arguments = ["--ros-args", "--params-file", str(file)]
        return client.host(kind(context=client.context, cli_args=arguments))

    return make


def parameter_file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "parameters.yaml"
    path.write_text("/**:\n  ros__parameters:\n" + "".join(f"    {line}\n" for line in lines))
    return path


@pytest.fixture
def detector(client: Client, nodes: Nodes, toy: str, tmp_path: Path) -> DetectorNode:
    """A node that has loaded a model."""
    lines = (f"model: {toy}", "autostart: true", "cpu_threads: 1", "power: none")
    node: DetectorNode = nodes(DetectorNode, parameter_file(tmp_path, *lines))
    node.start()
    return node


def set_each(client: Client, *parameters: ParameterMessage) -> list[SetParametersResult]:
    service = "/detector/set_parameters"
    return client.call(SetParameters, service, parameters=list(parameters)).results


def set_together(client: Client, *parameters: ParameterMessage) -> SetParametersResult:
    service = "/detector/set_parameters_atomically"
    return client.call(SetParametersAtomically, service, parameters=list(parameters)).result


def message(name: str, value: Any) -> ParameterMessage:
    return Parameter(name, value=value).to_parameter_msg()


def dump(client: Client) -> list[ParameterMessage]:
    """All parameters as they are, as `ros2 param dump` asks for them."""
    names = client.call(ListParameters, "/detector/list_parameters").result.names
    values = client.call(GetParameters, "/detector/get_parameters", names=names).values
    assert len(values) == len(names) >= 28
    return [ParameterMessage(name=n, value=v) for n, v in zip(names, values, strict=True)]


@pytest.mark.parametrize("name", ["score_threshold", "classes", "cameras", "unheard_of"])
@pytest.mark.parametrize("kind", [10, 77, 255])
def test_a_type_that_ros_does_not_know_is_refused_with_a_sentence(
    client: Client, detector: DetectorNode, name: str, kind: int
) -> None:
    odd = ParameterMessage(name=name, value=ParameterValue(type=kind))
    refused, accepted = set_each(client, odd, message("score_threshold", 0.6))
    assert f"{name} has the type {kind}, which ROS does not know" in refused.reason
    assert not refused.successful and accepted.successful
    both = set_together(client, message("score_threshold", 0.7), odd)
    assert f"the type {kind}" in both.reason and not both.successful
    assert detector.get_parameter("score_threshold").value == 0.6


def test_a_dump_of_a_loaded_node_can_be_loaded_again(
    client: Client, detector: DetectorNode
) -> None:
    values = dump(client)
    refused = {
        parameter.name: result.reason
        for parameter, result in zip(values, set_each(client, *values), strict=True)
        if not result.successful
    }
    assert refused == {}
    assert set_together(client, *values).successful
    assert dump(client) == values


def test_a_change_beside_unchanged_values_is_made(client: Client, detector: DetectorNode) -> None:
    same = [each for each in dump(client) if each.name != "score_threshold"]
    assert set_together(client, *same, message("score_threshold", 0.55)).successful
    assert detector.get_parameter("score_threshold").value == 0.55
    assert detector._session is not None
    assert detector._session.settings.selection.score_threshold == 0.55
    result = set_together(client, message("cpu_threads", 3), message("score_threshold", 0.9))
    assert "cpu_threads cannot change while a model is loaded" in result.reason
    assert detector.get_parameter("score_threshold").value == 0.55


def test_of_several_values_for_one_name_the_last_counts(
    client: Client, detector: DetectorNode
) -> None:
    """Also if it is the one that the node has: the one before it stayed in force then."""
    now = detector.get_parameter("score_threshold").value
    twice = message("score_threshold", 0.9), message("score_threshold", now)
    assert set_together(client, *twice).successful
    assert detector.get_parameter("score_threshold").value == now
    assert detector._session is not None
    assert detector._session.settings.selection.score_threshold == now


@pytest.mark.parametrize("name", ["autostart", "diagnostics_period"])
def test_what_is_fixed_at_start_cannot_be_changed(
    client: Client, detector: DetectorNode, name: str
) -> None:
    value = {"autostart": False, "diagnostics_period": 2.0}[name]
    (result,) = set_each(client, message(name, value))
    assert not result.successful and "read-only" in result.reason
    assert detector.get_parameter(name).value != value


@pytest.mark.parametrize(
    "empty",
    [
        ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY),
        ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=[""]),
        ParameterValue(type=ParameterType.PARAMETER_BOOL_ARRAY),  # as ros2 param set reads []
        ParameterValue(type=ParameterType.PARAMETER_INTEGER_ARRAY),
    ],
    ids=["texts", "one empty text", "of ros2 param set", "numbers"],
)
def test_an_empty_list_publishes_all_classes(
    client: Client, detector: DetectorNode, empty: ParameterValue
) -> None:
    session = detector._session
    assert session is not None
    assert set_together(client, message("classes", ["red"])).successful
    assert session.settings.selection.labels == {0}
    (result,) = set_each(client, ParameterMessage(name="classes", value=empty))
    assert result.successful, result.reason
    assert session.settings.selection.labels is None
    assert set_together(client, *dump(client)).successful


@pytest.mark.parametrize("name", ["score_threshold", "model", "debug_image", "governor_sizes"])
def test_no_parameter_can_be_removed(client: Client, detector: DetectorNode, name: str) -> None:
    (result,) = set_each(client, ParameterMessage(name=name))
    assert result.reason == f"{name} cannot be removed: give it a value"
    assert detector.get_parameter(name).value is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [("class_id_format", "x" * 10**6), ("classes", ["x" * 10**6]), ("classes", ["x"] * 10**5)],
)
def test_a_huge_value_is_refused_with_a_short_sentence(
    client: Client, detector: DetectorNode, name: str, value: Any
) -> None:
    (result,) = set_each(client, message(name, value))
    assert "has more than 4096 letters or items" in result.reason
    assert len(result.reason) < 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_age", ["x" * 4000]),
        ("tracking", "x" * 4000),
        ("positions", ["x" * 4000]),
        ("classes", ["x" * 4000]),
        ("class_thresholds", ["x" * 4000]),
        ("tiles", "x" * 4000),
        ("input_size", "x" * 4000),
        ("model", "x" * 4000),
    ],
)
def test_a_long_value_is_refused_with_a_short_sentence(
    client: Client, detector: DetectorNode, name: str, value: Any
) -> None:
    (result,) = set_each(client, message(name, value))
    assert not result.successful
    assert 0 < len(result.reason) < 600


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("-" * 4000, "cannot be a camera's name"),
        ("x" * 101, "is longer than 100 letters: give a shorter name"),  # topics have up to 247
    ],
)
def test_the_name_of_a_camera_is_refused_with_a_short_sentence(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refusal:
        check_camera_names([name])
    assert len(str(refusal.value)) < 250


def test_empty_lists_in_a_file_are_what_their_descriptions_say(
    client: Client, nodes: Nodes, toy: str, tmp_path: Path
) -> None:
    lists = ("classes: []", "cameras: []", "governor_sizes: []")
    file = parameter_file(tmp_path, f"model: {toy}", "cpu_threads: 1", "power: none", *lists)
    node = nodes(DetectorNode, file)
    assert node.trigger_configure().name == "SUCCESS"
    values = node._own_parameters.values()
    assert (values["classes"], values["cameras"], values["governor_sizes"]) == ([], [], [])
    assert [camera.name for camera in node._session.cameras] == [""]
    assert node._session.settings.selection.labels is None
    assert set_together(client, *dump(client)).successful
    assert set_together(client, message("cameras", []), message("classes", ["red"])).successful


def test_a_running_recorder_takes_no_other_topics(
    client: Client, nodes: Nodes, tmp_path: Path
) -> None:
    pytest.importorskip("rosbags", reason="recordings are written with rosbags")
    nodes(BagRecorderNode, parameter_file(tmp_path, f"out: {tmp_path / 'out'}"))
    service = "/bag_recorder/set_parameters"
    for changed in (message("out", "elsewhere"), message("detections", ["/other"])):
        (result,) = client.call(SetParameters, service, parameters=[changed]).results
        assert not result.successful and "read-only" in result.reason


def test_a_recorder_of_detections_alone_has_an_empty_list(
    client: Client, nodes: Nodes, tmp_path: Path
) -> None:
    pytest.importorskip("rosbags", reason="recordings are written with rosbags")
    file = parameter_file(tmp_path, f"out: {tmp_path / 'out'}", "diagnostics: []")
    nodes(BagRecorderNode, file)
    assert client.node.count_subscribers("/detector/detections") == 1
    assert client.node.count_subscribers("/detector/performance") == 0


@pytest.mark.parametrize(
    ("kind", "line", "sentence"),
    [
        (DetectorNode, "model: {}", "model has no value: give one"),
        (DetectorNode, "score_threshold: {}", "score_threshold has no value: give one"),
        (DetectorNode, "debug_image: {}", "debug_image has no value: give one"),
        (DetectorNode, "classes: [1, 2]", "classes must be a list of texts"),
        (DetectorNode, "governor_sizes: [a]", "must be a list of whole numbers"),
        (VideoPublisherNode, "frame_id: {}", "frame_id has no value: give one"),
        (BagPlayerNode, "bags: []", "bags names no recording"),
    ],
)
def test_a_file_with_a_wrong_value_is_one_sentence(
    nodes: Nodes, tmp_path: Path, kind: type, line: str, sentence: str
) -> None:
    with pytest.raises((ValueError, ParameterException)) as refusal:
        nodes(kind, parameter_file(tmp_path, line))
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "line", "meant"),
    [
        (DetectorNode, "score_treshold: 0.5", "score_threshold"),
        (DetectorNode, "class_heights: {person: 1.7}", "class_heights"),
        (DetectorNode, "Max_Age: 1.0", "max_age"),
        (VideoPublisherNode, "heigth: 480", "height"),
    ],
)
def test_a_misspelt_name_in_a_file_is_told(
    nodes: Nodes,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    kind: type,
    line: str,
    meant: str,
) -> None:
    """ROS passes over it without a word; what is for another node or ROS itself stays untold."""
    nodes(kind, parameter_file(tmp_path, line, "use_sim_time: false", "camera_info_url: x"))
    told = [line for line in capfd.readouterr().err.splitlines() if "has no effect" in line]
    assert len(told) == 1
    assert told[0].endswith(f"is not a parameter of this node and has no effect: {meant} is one")


def test_a_process_ends_with_that_sentence(tmp_path: Path) -> None:
    file = parameter_file(tmp_path, "model: {}")
    command = "compact_yolo_ros.ros.run detector_node"
    process = ForkedNode(command, tmp_path / "log", {}, "--params-file", str(file))
    assert process.process.wait(PATIENCE) == 1
    assert "model has no value: give one" in process.output()
    assert "Traceback" not in process.output()


def test_services_answer_whatever_is_asked(client: Client, detector: DetectorNode) -> None:
    odd = ["", "no/such", "ä" * 300, "\0", "a." * 500]
    home = "/detector/"
    client.call(DescribeParameters, home + "describe_parameters", names=odd)
    client.call(GetParameters, home + "get_parameters", names=odd)
    client.call(GetParameterTypes, home + "get_parameter_types", names=odd)
    client.call(ListParameters, home + "list_parameters", prefixes=odd, depth=2**63)
    results = set_each(client, *(message(name, 1) for name in odd))
    assert not [n[:9] for n, r in zip(odd, results, strict=True) if r.successful]
    assert all(result.reason for result in results)
    for transition in (Transition(id=255), Transition(label="fly"), Transition(id=99, label="no")):
        assert not client.call(ChangeState, home + "change_state", transition=transition).success
    assert client.call(GetState, home + "get_state").current_state.label == "active"
