# SPDX-License-Identifier: Apache-2.0
"""What the launch files would start, with a double of ``launch``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import ROOT
from launching import entities_of, warnings_of
from runtime_fixtures import DOUBLES

from compact_yolo_ros.ros.fast_dds import PROFILE_VARIABLES
from compact_yolo_ros.ros.launching.arguments import LAUNCH_ARGUMENTS

PROFILE = str(ROOT / "config" / "fastdds_detector.xml")
SENDER_PROFILE = str(ROOT / "config" / "fastdds_shm.xml")


@pytest.fixture(autouse=True)
def launch_api(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The double in place of ``launch``, in a shell without choices for DDS."""
    for name in (*PROFILE_VARIABLES, "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.syspath_prepend(str(DOUBLES))
    import launch_api

    launch_api.install(monkeypatch)
    return launch_api


def detector(**arguments: object) -> Any:
    """The only node of detector.launch.py."""
    (node,), _ = entities_of("detector.launch.py", arguments)
    return node


def write_parameters(path: Path, **parameters: object) -> str:
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    return str(path)


def test_the_node_starts_by_itself_and_is_left_as_it_is() -> None:
    node = detector()
    assert (node.executable, node.full_name) == ("compact_yolo_ros/detector_node", "/detector")
    # Before every source of parameters, so that each of them can say otherwise.
    assert node.ros_arguments == ["-p", "autostart:=true", "--log-level", "info"]
    assert node.parameters == []
    own = "image", "depth", "camera_info"
    assert node.remappings == [(name, name) for name in own]
    assert node.environment == {PROFILE_VARIABLES[0]: PROFILE}
    assert (node.respawn, node.output) == (False, "screen")


def test_every_argument_reaches_the_node(tmp_path: Path) -> None:
    profile = tmp_path / "mine.xml"
    profile.touch()
    node = detector(
        model="1",
        backend="onnxruntime",
        precision="fp32",
        input_size="352",
        image_transport="compressed",
        autostart="false",
        use_sim_time="true",
        image_topic="camera/image_raw",
        depth_topic="/depth/aligned",
        positions="depth",
        annotations="true",
        namespace="robot",
        respawn="true",
        log_level="warn",
        dds_profile=str(profile),
    )
    assert node.full_name == "/robot/detector"
    assert node.parameters == [
        {
            "model": "1",
            "backend": "onnxruntime",
            "precision": "fp32",
            "input_size": 352,
            "positions": "depth",
            "annotations": True,
            "image_transport": "compressed",
            "autostart": False,
            "use_sim_time": True,
        }
    ]
    assert node.remappings == [
        ("image", "camera/image_raw"),
        ("depth", "/depth/aligned"),
        ("camera_info", "camera/camera_info"),
    ]
    assert node.ros_arguments[-2:] == ["--log-level", "warn"]
    assert node.environment == {PROFILE_VARIABLES[0]: str(profile)}
    assert node.respawn is True and node.respawn_delay > 0


def test_an_argument_overrides_the_file_and_what_is_not_given_does_not(tmp_path: Path) -> None:
    file = write_parameters(tmp_path / "own.yaml", input_size=416, autostart=False)
    node = detector(params_file=file, input_size="320")
    assert node.parameters == [{"input_size": 416, "autostart": False}, {"input_size": 320}]


def test_images_of_cameras_are_below_their_names() -> None:
    node = detector(
        cameras="['front', 'rear']", image_topic="color/image_raw", camera_info_topic="info"
    )
    assert node.parameters == [{"cameras": ["front", "rear"]}]
    assert node.remappings == [
        ("front/image", "front/color/image_raw"),
        ("front/depth", "front/depth"),
        ("front/camera_info", "front/info"),
        ("rear/image", "rear/color/image_raw"),
        ("rear/depth", "rear/depth"),
        ("rear/camera_info", "rear/info"),
    ]


def test_dds_can_be_left_alone() -> None:
    assert detector(dds_profile="none").environment == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"image_topic": "my camera"}, "Invalid topic name"),
        ({"depth_topic": ""}, "Invalid topic name"),
        ({"positions": "gps"}, "positions 'gps' is not known: give one of off, depth, bearing"),
        ({"log_level": "loud"}, "Valid options are"),
        ({"namespace": "my robot"}, "Invalid namespace"),
        ({"params_file": "/nowhere.yaml"}, "params_file: there is no file /nowhere.yaml"),
        ({"dds_profile": "/nowhere.xml"}, "dds_profile: there is no file /nowhere.xml"),
        ({"respawn": "["}, "respawn must be true or false"),
        ({"input_size": "300"}, "give a multiple of 32"),
        ({"cameras": "['a']", "image_topic": "/x"}, "image_topic '/x' would be the same"),
    ],
)
def test_a_wrong_argument_is_refused_with_a_sentence(
    arguments: dict[str, str], sentence: str
) -> None:
    with pytest.raises(Exception, match=sentence):
        detector(**arguments)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("modle", "model is one"), ("score_threshold", "score_threshold is a parameter of the node")],
)
def test_a_name_that_has_no_effect_is_told(name: str, sentence: str) -> None:
    with warnings_of("detector.launch.py") as sentences:
        assert detector(**{name: "x"}).parameters == []
    assert len(sentences) == 1 and sentence in sentences[0]


def test_the_arguments_are_declared_as_they_are_listed(launch_api: Any) -> None:
    from compact_yolo_ros.ros.launching.arguments import declarations

    declared = {each.name: each for each in declarations(LAUNCH_ARGUMENTS)}
    assert list(declared) == [argument.name for argument in LAUNCH_ARGUMENTS]
    for argument in LAUNCH_ARGUMENTS:
        action = declared[argument.name]
        assert (action.default_value, action.description) == (
            argument.default,
            argument.description,
        )
        assert tuple(action.choices or ()) == argument.choices


class Evaluation:
    """evaluate_bag.launch.py, whose processes end when a test says so."""

    def __init__(self, **arguments: object) -> None:
        self.entities, self.context = entities_of("evaluate_bag.launch.py", arguments)
        processes = [each for each in self.entities if hasattr(each, "environment")]
        self.detector, self.recorder, self.player = processes

    def exit(self, process: Any, returncode: int = 0) -> list[Any]:
        """What follows from the end of a process."""
        import launch.events.process

        event = launch.events.process.ProcessExited(action=process, returncode=returncode)
        handlers = [each.event_handler for each in self.entities if hasattr(each, "event_handler")]
        own = [handler for handler in handlers if handler.target_action is process]
        return [found for handler in own for found in handler.handle(event, self.context) or ()]


@pytest.fixture
def given(tmp_path: Path, toy: str) -> dict[str, object]:
    pytest.importorskip("rosbags", reason="recordings are read with rosbags")
    from bag_writer import draw_scene, image, write_bag

    bag = write_bag(tmp_path / "bag", [image(draw_scene(0), 0)])
    return {"bag": bag, "out": tmp_path / "out", "model": toy}


def test_the_evaluation_starts_three_nodes_on_the_recordings_clock(
    given: dict[str, object], tmp_path: Path
) -> None:
    file = write_parameters(tmp_path / "own.yaml", iou_threshold=0.6)
    run = Evaluation(**given, params_file=file, score_threshold="0.2")
    names = [node.full_name for node in (run.detector, run.recorder, run.player)]
    assert names == ["/detector", "/bag_recorder", "/bag_player"]
    first, own = run.detector.parameters
    assert first == {"iou_threshold": 0.6}
    assert (own["score_threshold"], own["autostart"], own["use_sim_time"]) == (0.2, True, True)
    assert own["model"] == given["model"]
    assert run.detector.remappings == [("image", "/camera/image_raw")]
    assert run.recorder.parameters == [{"out": str(tmp_path / "out/node"), "use_sim_time": True}]
    (player,) = run.player.parameters
    assert player["bags"] == [str(given["bag"])] and player["topics"] == ["/camera/image_raw"]
    assert player["wait_for"] == ["detector/detections"]
    # Whole images go through shared memory at both ends.
    assert run.detector.environment == {PROFILE_VARIABLES[0]: PROFILE}
    assert run.player.environment == {PROFILE_VARIABLES[0]: SENDER_PROFILE}


def test_one_thing_follows_from_another(given: dict[str, object]) -> None:
    run = Evaluation(**given)
    (stop,) = run.exit(run.player)
    assert stop.event.signal_number == signal.SIGINT
    matched = [p for p in (run.detector, run.recorder) if stop.event.process_matcher(p)]
    assert matched == [run.recorder]
    (evaluation,) = run.exit(run.recorder)
    assert evaluation.command[:2] == [sys.executable, "-m"]
    assert {"--recorded", str(given["bag"])} <= set(evaluation.command)
    (end,) = run.exit(evaluation)
    assert end.event.reason == "the evaluation has ended"
    run.context.is_shutdown = True
    assert run.exit(run.detector) == []


@pytest.mark.parametrize(
    ("which", "code", "sentence"),
    [
        ("player", 1, "the playback failed"),
        ("recorder", 1, "the recorder failed"),
        ("detector", 0, "the detector has ended before"),
        ("detector", 1, "the detector has ended before"),
    ],
)
def test_a_process_that_fails_makes_the_whole_fail(
    given: dict[str, object], which: str, code: int, sentence: str
) -> None:
    run = Evaluation(**given)
    with pytest.raises(RuntimeError, match=sentence):
        run.exit(getattr(run, which), code)
    run.context.is_shutdown = True  # then all of them end, as they must
    assert run.exit(getattr(run, which), code) == []


def test_a_failed_evaluation_makes_the_whole_fail(given: dict[str, object]) -> None:
    run = Evaluation(**given)
    (evaluation,) = run.exit(run.recorder)
    with pytest.raises(RuntimeError, match="the evaluation failed"):
        run.exit(evaluation, 1)


def test_rosbag2_plays_and_the_recorder_gets_time_for_the_last_answer(
    given: dict[str, object],
) -> None:
    run = Evaluation(**given, player="rosbag2", start="0.5", rate="2.0")
    assert run.player.command[:4] == ["ros2", "bag", "play", str(given["bag"])]
    assert run.player.environment == {PROFILE_VARIABLES[0]: SENDER_PROFILE}
    (later,) = run.exit(run.player)
    assert later.period > 0
    (stop,) = later.actions
    assert stop.event.process_matcher(run.recorder)
    (evaluation,) = run.exit(run.recorder)
    assert evaluation.command[evaluation.command.index("--rate") + 1] == "2.0"


def test_a_duration_needs_the_player_of_this_package(given: dict[str, object]) -> None:
    """ros2 bag play of Humble has no option for it."""
    run = Evaluation(**given, duration="0.5")
    assert run.player.parameters[0]["duration"] == 0.5
    with pytest.raises(ValueError, match="duration: .* give player:=own"):
        Evaluation(**given, duration="0.5", player="rosbag2")


def test_a_name_that_has_no_effect_on_the_evaluation_is_told(given: dict[str, object]) -> None:
    with warnings_of("evaluate_bag.launch.py") as sentences:
        Evaluation(**given, groundtruth="labels.json", classes="person")
    assert len(sentences) == 2
    assert "ground_truth is one" in sentences[0] and "classes is a parameter" in sentences[1]
