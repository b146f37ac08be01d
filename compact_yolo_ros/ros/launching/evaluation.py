# SPDX-License-Identifier: Apache-2.0
"""The arguments of ``launch/evaluate_bag.launch.py``, and what they mean for each process.

They are not in the launch file, so that they can be tested without ``launch``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compact_yolo_ros.backends.arguments import to_arguments
from compact_yolo_ros.detection.view import PLAIN
from compact_yolo_ros.recordings.image_types import COMPRESSED_IMAGE, VIDEO_TYPES
from compact_yolo_ros.recordings.reader import Bag, choose_topics, recording_and_topic
from compact_yolo_ros.recordings.storage import Topic
from compact_yolo_ros.ros.detector.parameter_table import SPECS
from compact_yolo_ros.ros.detector.parameters import (
    RUN_PARAMETERS,
    box_size,
    check_value,
    run_options,
    to_parameters,
)
from compact_yolo_ros.ros.detector.views import read_views
from compact_yolo_ros.ros.launching.arguments import (
    LaunchArgument,
    argument_of,
    existing_file,
    typed_parameter,
)
from compact_yolo_ros.ros.launching.params_file import parameters_of_file
from compact_yolo_ros.ros.parameters import ParameterSpec
from compact_yolo_ros.ros.transports import COMPRESSED
from compact_yolo_ros.support.files import in_home

OWN, ROSBAG2 = "own", "rosbag2"
"""The players: the node of this package, and ``ros2 bag play``."""

LOADING = 8.0
"""Seconds that ``ros2 bag play`` waits before it begins: it does not look for subscribers."""

SETTLING = 3.0
"""Seconds after ``ros2 bag play`` until the recorder ends: it does not wait for the last answer."""

PATIENCE = 120.0
"""Most seconds that the package's own player waits for detector and recorder to subscribe."""

RUN = "run.json"
"""What says in the folder of an evaluation which one it is."""

RANGES = {"rate": (0.01, 100.0), "start": (0.0, 1e6), "duration": (0.0, 1e6)}
"""Least and largest numbers of arguments: those of the package's own player."""

ARGUMENTS = (*RUN_PARAMETERS, "score_threshold")
"""Parameters of the detector that are arguments too."""

EVALUATION_ARGUMENTS = (
    LaunchArgument("bag", "", "The recording: a folder, or a .mcap or .db3 file. Needed."),
    LaunchArgument("out", "", "Folder for the results. Needed."),
    LaunchArgument("topic", "", "Topic of the images; not needed where there is only one."),
    *(argument_of(SPECS[name]) for name in ARGUMENTS),
    LaunchArgument(
        "params_file",
        "",
        "YAML file with parameters of the detector; arguments given here override it.",
    ),
    LaunchArgument("rate", "1.0", "Playback rate; 2.0 plays twice as fast as it was recorded."),
    LaunchArgument("start", "0.0", "Seconds of the recording to skip at its beginning."),
    LaunchArgument("duration", "0.0", "Seconds to play; 0 is up to the end."),
    LaunchArgument("ground_truth", "", "Labels, as for evaluate_bag --ground-truth."),
    LaunchArgument(
        "player",
        OWN,
        "own is the node of this package, which waits until detector and recorder are connected "
        "and until the last image is answered; rosbag2 is ros2 bag play, which does neither.",
        (OWN, ROSBAG2),
    ),
)


@dataclass(frozen=True)
class Evaluation:
    """What each process gets.

    Attributes:
        topic: topic of the images.
        image: name of the detector's topic that is remapped to it.
        player: ``OWN`` or ``ROSBAG2``.
        params_file: of the detector; may be empty.
        detector: parameters of the detector node.
        bag_player: parameters of the package's own player.
        recorder: parameters of the recorder.
        ros2_bag_play: arguments of that command.
        evaluate_bag: arguments of that command.
    """

    topic: str
    image: str
    player: str
    params_file: str
    detector: dict[str, Any]
    bag_player: dict[str, Any]
    recorder: dict[str, Any]
    ros2_bag_play: list[str]
    evaluate_bag: list[str]


def read_evaluation(texts: Mapping[str, str]) -> Evaluation:
    """Read the texts of all ``EVALUATION_ARGUMENTS``, and check the recording and the model.

    Raises:
        ValueError: one cannot be used; the sentence says why.
    """
    for name in ("bag", "out"):
        if not texts[name]:
            raise ValueError(f"{name} is missing: give {name}:=PATH")
    bag = Bag([in_home(texts["bag"])])
    (topic,) = choose_topics(bag, [texts["topic"]] if texts["topic"] else [])
    numbers = {name: _number(name, texts[name]) for name in RANGES}
    if texts["player"] == ROSBAG2 and numbers["duration"]:
        raise ValueError(
            "duration: ros2 bag play of ROS 2 Humble has no such option: give player:=own"
        )
    params_file = texts["params_file"] and existing_file("params_file", texts["params_file"])
    values = _detector_values(texts, params_file)
    options = run_options(values)
    parameters = to_parameters(options)
    out = in_home(texts["out"])
    recorded = out / "node"
    if recorded.exists():
        raise ValueError(f"out: {recorded} is there already: give another folder")
    if (out / RUN).exists():  # evaluate_bag would refuse it when all has been played
        raise ValueError(f"out: {out} holds another evaluation: give another folder")
    score = values["score_threshold"]
    compressed = bag.topics[topic].type == COMPRESSED_IMAGE
    play = {"bags": [str(bag.paths[0])], "topics": [topic], **numbers}
    play |= {"wait_for": ["detector/detections"], "patience": PATIENCE}
    evaluate = ["--bag", str(bag.paths[0]), "--topic", topic, "--out", str(out)]
    evaluate += ["--recorded", str(recorded), "--score", str(score)]
    evaluate += ["--model", options.model, *to_arguments(options, leave_out=("model",))]
    evaluate += _view_and_selection(values)
    if texts["ground_truth"]:
        evaluate += ["--ground-truth", _labels(texts["ground_truth"], bag, topic)]
    if texts["player"] == ROSBAG2:  # the other one reports its rate itself
        evaluate += ["--rate", str(numbers["rate"])]
    for name in ("start", "duration"):
        evaluate += [f"--{name}", str(numbers[name])] if numbers[name] else []
    return Evaluation(
        topic=topic,
        image="image" + (COMPRESSED.suffix if compressed else ""),
        player=_player(texts["player"], bag.topics[topic]),
        params_file=params_file,
        detector={
            # No others: params_file sets them.
            **{name: parameters[name] for name in RUN_PARAMETERS},
            "score_threshold": score,
            "image_transport": "compressed" if compressed else "raw",
            "autostart": True,
            "use_sim_time": True,
        },
        bag_player=play,
        recorder={"out": str(recorded), "use_sim_time": True},
        ros2_bag_play=_rosbag2(str(bag.paths[0]), topic, numbers),
        evaluate_bag=evaluate,
    )


def _labels(text: str, bag: Bag, topic: str) -> str:
    """Where the labels are, without ``~``.

    Raises:
        ValueError: nothing is there; ``evaluate_bag`` would say so when all has been played.
    """
    source = text.removeprefix(f"{topic}=")
    if source in bag.topics:
        return source
    place, _ = recording_and_topic(source) or (source, "")
    path = in_home(place)
    if not path.exists():
        raise ValueError(f"ground_truth: {path} is neither there nor a topic of the recording")
    return f"{path}{source.removeprefix(place)}"


def _player(player: str, topic: Topic) -> str:
    """The player, which is the package's own for what rosbag2 cannot publish."""
    if not topic.recorded_as and topic.type not in VIDEO_TYPES:
        return player
    if player == "rosbag2":
        raise ValueError(
            f"{topic.name} is {topic.shown_type}, which ros2 bag play cannot publish as images: "
            "give player:=own"
        )
    return "own"


def _detector_values(texts: Mapping[str, str], params_file: str) -> dict[str, Any]:
    """The detector's parameters: as an argument says, else the file, else by default."""
    in_file = parameters_of_file(Path(params_file), "detector") if params_file else {}
    given = {name: value for name, value in in_file.items() if name in SPECS}
    for name, value in given.items():
        _check_type(SPECS[name], value)
    given |= {name: typed_parameter(SPECS[name], texts[name]) for name in ARGUMENTS if texts[name]}
    for name, value in given.items():
        check_value(name, value)
    if any(given.get("cameras", ())):
        raise ValueError(
            f"params_file: {params_file} is of several cameras, and one topic is evaluated: leave "
            "out cameras"
        )
    defaults = {name: spec.default for name, spec in SPECS.items()}
    return defaults | {name: SPECS[name].read(value) for name, value in given.items()}


def _check_type(spec: ParameterSpec, value: Any) -> None:
    """Raise ValueError for a value that ROS would refuse for its type when the node reads it."""
    kind = type(spec.default)
    if kind in (bool, int, str) and not spec.untyped and type(spec.read(value)) is not kind:
        raise ValueError(
            f"params_file: {spec.name} is {value!r}, of another type than {spec.default!r}"
        )


def _view_and_selection(values: Mapping[str, Any]) -> list[str]:
    """Arguments of ``evaluate_bag`` for what the node saw, and for what it published.

    Raises:
        ValueError: there are several values of a view, as for several cameras.
    """
    found = []
    view = read_views(values).get("", PLAIN)
    if not view.is_plain:
        found += ["--rotation", str(view.rotation)]
        found += [] if view.roi == PLAIN.roi else ["--roi", *map(str, view.roi)]
    if view.has_tiles:
        found += ["--tiles", "x".join(map(str, view.tiles)), "--tile-overlap", str(view.overlap)]
    if thresholds := [text for text in values["class_thresholds"] if text]:
        found += ["--class-threshold", *thresholds]
    for name in ("min_box_size", "max_box_size"):
        width, height = box_size(values[name], name)
        if width or height:
            found += [f"--{name.replace('_', '-')}", f"{width}x{height}"]
    return found


def _rosbag2(bag: str, topic: str, numbers: Mapping[str, float]) -> list[str]:
    arguments = [bag, "--clock", "100", "--topics", topic, "--delay", str(LOADING)]
    arguments += ["--rate", str(numbers["rate"])]
    arguments += ["--start-offset", str(numbers["start"])] if numbers["start"] else []
    return arguments


def _number(name: str, text: str) -> float:
    least, most = RANGES[name]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ValueError(f"{name} is '{text}': give a number from {least:g} to {most:g}")
    return value
