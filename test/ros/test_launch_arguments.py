# SPDX-License-Identifier: Apache-2.0
"""What the texts of launch arguments mean; needs no ``launch``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import ROOT

from compact_yolo_ros.ros.detector.parameter_table import SPECS
from compact_yolo_ros.ros.detector.topics import CAMERA_INFO, DEPTH, IMAGE
from compact_yolo_ros.ros.fast_dds import PROFILE_VARIABLES
from compact_yolo_ros.ros.launching.arguments import (
    LAUNCH_ARGUMENTS,
    PARAMETERS,
    camera_topics,
    dds_environment,
    existing_file,
    given_parameters,
    misunderstandings,
    remappings,
    typed,
)
from compact_yolo_ros.ros.launching.evaluation import EVALUATION_ARGUMENTS

PROFILE = str(ROOT / "config" / "fastdds_detector.xml")
NEW, OLD = PROFILE_VARIABLES
NOTHING = dict.fromkeys(PARAMETERS, "")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROFILE_VARIABLES, "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_not_given_does_not_reach_the_node() -> None:
    assert given_parameters(NOTHING) == {}


def test_given_texts_become_values_of_the_parameters_types() -> None:
    given = NOTHING | {
        "model": "1",
        "input_size": "416",
        "cameras": "['front', 'yes']",
        "autostart": "false",
        "use_sim_time": "True",
    }
    assert given_parameters(given) == {
        "model": "1",
        "input_size": 416,
        "cameras": ["front", "yes"],
        "autostart": False,
        "use_sim_time": True,
    }


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("backend", "abacus", "backend 'abacus' is not known"),
        ("image_transport", "pigeon", "give one of raw, compressed"),
        ("input_size", "300", "give a multiple of 32"),
        ("input_size", "320x100", "input size 100 is not usable"),
        ("input_size", "big", "'big' is not of the form 320 or WIDTHxHEIGHT"),
        ("autostart", "perhaps", "autostart must be true or false, not 'perhaps'"),
        ("use_sim_time", "1", "use_sim_time must be true or false, not '1'"),
        ("cameras", "front", r"cameras must be a list as \['a', 'b'\], not 'front'"),
        ("cameras", "[", "cameras must be a list"),
        ("cameras", "['front', 'front']", "'front' is given twice"),
    ],
)
def test_a_text_that_cannot_be_used_is_a_sentence(name: str, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        given_parameters(NOTHING | {name: text})


@pytest.mark.parametrize(
    ("image", "info", "expected"),
    [
        ("image", "", "camera_info"),
        ("camera/image_raw", "", "camera/camera_info"),
        ("/camera/color/image_raw", "", "/camera/color/camera_info"),
        ("/image", "", "/camera_info"),
        ("/camera/image_raw/compressed", "", "/camera/camera_info"),
        ("image_raw/ffmpeg", "", "camera_info"),
        ("/camera/depth/image/compressedDepth", "", "/camera/depth/camera_info"),
        ("a/image/foxglove", "", "a/camera_info"),
        ("compressed/image", "", "compressed/camera_info"),
        ("camera/image_raw", "/other/info", "/other/info"),
    ],
)
def test_the_calibration_is_beside_the_images_if_not_said_otherwise(
    image: str, info: str, expected: str
) -> None:
    texts = {"image_topic": image, "depth_topic": "depth", "camera_info_topic": info}
    topics = {IMAGE.name: image, DEPTH.name: "depth", CAMERA_INFO.name: expected}
    assert camera_topics(texts) == topics
    assert remappings([], topics) == remappings([""], topics) == list(topics.items())


def test_topics_of_cameras_are_below_their_names() -> None:
    topics = {"image": "color/image_raw", "depth": "depth"}
    assert remappings(["front", "rear"], topics) == [
        ("front/image", "front/color/image_raw"),
        ("front/depth", "front/depth"),
        ("rear/image", "rear/color/image_raw"),
        ("rear/depth", "rear/depth"),
    ]


@pytest.mark.parametrize("topic", ["/camera", "~/camera"])
@pytest.mark.parametrize("name", ["image", "depth"])
def test_cameras_cannot_share_one_topic(name: str, topic: str) -> None:
    with pytest.raises(ValueError, match=f"{name}_topic '{topic}' would be the same"):
        remappings(["front", "rear"], {name: topic})


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("true", bool, True),
        ("1", str, "1"),
        ("1", int, 1),
        ("[a, b]", list, ["a", "b"]),
        ("1", float, 1.0),
        ("0.5", float, 0.5),
    ],
)
def test_texts_have_types(text: str, kind: type, value: object) -> None:
    assert typed("some", text, kind) == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [("1", bool), ("true", int), ("1.0", int), ("a", list), ("nan", float), ("true", float)],
)
def test_a_text_of_another_type_is_refused(text: str, kind: type) -> None:
    with pytest.raises(ValueError, match=f"some must be .*, not '{text}'"):
        typed("some", text, kind)


def test_a_file_becomes_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("own.yaml", "~/own.yaml", str(tmp_path / "own.yaml")):
        assert existing_file("params_file", text) == str(tmp_path / "own.yaml")
    with pytest.raises(ValueError, match=f"params_file: there is no file {tmp_path}/other.yaml"):
        existing_file("params_file", "other.yaml")
    with pytest.raises(ValueError, match="there is no file"):
        existing_file("params_file", str(tmp_path))
    with pytest.raises(ValueError, match="the home folder of '~no_user/x.yaml' is not known"):
        existing_file("params_file", "~no_user/x.yaml")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {NEW: PROFILE}),
        ({"ROS_DISTRO": "kilted"}, {NEW: PROFILE}),
        ({"ROS_DISTRO": "humble"}, {OLD: PROFILE}),
        ({"ROS_DISTRO": "jazzy"}, {OLD: PROFILE}),
        # what the machine has chosen stays
        ({NEW: "/own.xml"}, {}),
        ({OLD: "/own.xml"}, {}),
        ({"ROS_DISTRO": "humble", OLD: "/own.xml"}, {}),
        # no choice where it is not read
        ({"ROS_DISTRO": "humble", NEW: "/own.xml"}, {OLD: PROFILE}),
        ({NEW: ""}, {NEW: PROFILE}),
    ],
)
def test_the_profile_is_given_in_the_variable_that_is_read(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert dds_environment("auto") == expected


def test_a_profile_can_be_given_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NEW, "/own.xml")
    (tmp_path / "mine.xml").touch()
    assert dds_environment(str(tmp_path / "mine.xml")) == {NEW: str(tmp_path / "mine.xml")}
    assert dds_environment("none") == {}
    with pytest.raises(ValueError, match="dds_profile: there is no file /nowhere.xml"):
        dds_environment("/nowhere.xml")


def test_every_argument_describes_itself() -> None:
    arguments = {argument.name: argument for argument in LAUNCH_ARGUMENTS}
    assert len(arguments) == len(LAUNCH_ARGUMENTS)
    assert all(argument.description for argument in LAUNCH_ARGUMENTS)
    assert all(arguments[name].default == "" for name in PARAMETERS)
    assert "else true." in arguments["autostart"].description
    assert "One of raw, compressed, ffmpeg, foxglove." in arguments["image_transport"].description
    assert arguments["log_level"].choices == ("debug", "info", "warn", "error", "fatal")


@pytest.mark.parametrize("name", sorted(SPECS.keys() - PARAMETERS.keys()))
def test_a_parameter_that_is_no_argument_is_told(name: str) -> None:
    (sentence,) = misunderstandings([name], LAUNCH_ARGUMENTS)
    assert f"{name} is a parameter" in sentence and "params_file" in sentence


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("modle", "model"),
        ("Model", "model"),
        ("image-topic", "image_topic"),
        ("imagetopic", "image_topic"),
        ("camera", "cameras"),
        ("name_space", "namespace"),
        ("param_file", "params_file"),
        ("input_sizes", "input_size"),
        ("loglevel", "log_level"),
    ],
)
def test_the_argument_that_was_meant_is_named(given: str, meant: str) -> None:
    (sentence,) = misunderstandings([given, "model"], LAUNCH_ARGUMENTS)
    assert sentence == f"{given} is not an argument and has no effect: {meant} is one"


def test_a_misspelt_parameter_is_told() -> None:
    (sentence,) = misunderstandings(["score_treshold"], LAUNCH_ARGUMENTS)
    assert "score_threshold is a parameter" in sentence
    (sentence,) = misunderstandings(["score_treshold"], EVALUATION_ARGUMENTS)
    assert sentence.endswith("score_threshold is one")


def test_what_is_right_or_not_for_this_file_is_left_alone() -> None:
    for arguments in (LAUNCH_ARGUMENTS, EVALUATION_ARGUMENTS):
        own = [argument.name for argument in arguments]
        assert misunderstandings([*own, "map", "robot_name", "ros_namespace"], arguments) == []


def test_no_text_advises_a_launch_argument_that_there_is_not() -> None:
    """``name:=value`` of another parameter only gets a warning: it is ``name: value`` in YAML."""
    arguments = {each.name for each in (*LAUNCH_ARGUMENTS, *EVALUATION_ARGUMENTS)}
    patterns = ("compact_yolo_ros/**/*.py", "launch/*.py", "*.md", "docs/*.md")
    for path in [path for pattern in patterns for path in ROOT.glob(pattern)]:
        for line in path.read_text().splitlines():
            named = set(re.findall(r"(?<!-p )\b(\w+):=", line)) & set(SPECS)
            assert named <= arguments, f"{path}: {line}"


def test_defaults_are_told_as_a_user_would_write_them() -> None:
    told = {argument.name: argument.description for argument in LAUNCH_ARGUMENTS}
    assert told["cameras"].endswith("Default: as in params_file, else none.")
    assert told["autostart"].endswith("else true.") and told["tracking"].endswith("else off.")
