# SPDX-License-Identifier: Apache-2.0
"""The arguments of ``launch/evaluate_bag.launch.py``, and what they mean for each process.

They are apart from the launch file, so that they can be tested without ``launch``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compact_yolo_ros.model.sizes import check_side
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.recordings.codec import COMPRESSED_IMAGE
from compact_yolo_ros.recordings.reader import Bag, choose_topics
from compact_yolo_ros.ros.launching.arguments import LaunchArgument, existing_file

LOADING = 8.0
"""Seconds that ``ros2 bag play`` waits before it begins: it does not look for subscribers."""

PATIENCE = 120.0
"""Most seconds that the package's own player waits until detector and recorder listen."""

EVALUATION_ARGUMENTS = (
    LaunchArgument("bag", "", "The recording: a folder, or a .mcap or .db3 file. Needed."),
    LaunchArgument("out", "", "Folder for the results. Needed."),
    LaunchArgument("topic", "", "Topic of the images; not needed where there is only one."),
    LaunchArgument("model", "yolo_ret_m075", "Name of a model, or path of an .onnx file."),
    LaunchArgument("backend", "auto", "See the detector's parameter."),
    LaunchArgument("precision", "auto", "See the detector's parameter."),
    LaunchArgument("input_size", "0", "See the detector's parameter; 0 is the model's own."),
    LaunchArgument("score_threshold", "0.3", "Least score of a detection, of all figures too."),
    LaunchArgument(
        "params_file", "", "YAML file with other parameters of the detector; those above go first."
    ),
    LaunchArgument("rate", "1.0", "Seconds of the recording in a second."),
    LaunchArgument("start", "0.0", "Seconds of the recording to leave out."),
    LaunchArgument("duration", "0.0", "Seconds to play; 0 is up to the end."),
    LaunchArgument("ground_truth", "", "Labels, as for evaluate_bag --ground-truth."),
    LaunchArgument(
        "player",
        "auto",
        "Who plays: ros2 bag play, the package's own node, or the first where it is installed.",
        ("auto", "rosbag2", "own"),
    ),
)


@dataclass(frozen=True)
class Evaluation:
    """What each process is told.

    Attributes:
        topic: of the images.
        player: ``auto``, ``rosbag2`` or ``own``.
        params_file: of the detector; empty for none.
        detector: parameters of the detector node.
        bag_player: parameters of the package's own player.
        recorder: parameters of the recorder.
        ros2_bag_play: arguments of that command.
        evaluate_bag: arguments of that command.
    """

    topic: str
    player: str
    params_file: str
    detector: dict[str, Any]
    bag_player: dict[str, Any]
    recorder: dict[str, Any]
    ros2_bag_play: list[str]
    evaluate_bag: list[str]


def read_evaluation(texts: Mapping[str, str]) -> Evaluation:
    """Understand the texts of all ``EVALUATION_ARGUMENTS``; look at recording and model.

    Raises:
        ValueError: one cannot be used; the sentence says why.
    """
    for name in ("bag", "out"):
        if not texts[name]:
            raise ValueError(f"{name} is missing: give {name}:=PATH")
    bag = Bag([Path(texts["bag"]).expanduser()])
    (topic,) = choose_topics(bag, [texts["topic"]] if texts["topic"] else [])
    find_model(texts["model"])
    numbers = {name: _number(name, texts[name]) for name in ("rate", "start", "duration")}
    side = int(_number("input_size", texts["input_size"]))
    if side:
        check_side(side)
    out = Path(texts["out"]).expanduser()
    recorded = out / "node"
    if recorded.exists():
        raise ValueError(f"out: {recorded} is there already: give another folder")
    common = {name: texts[name] for name in ("model", "backend", "precision")}
    score = _number("score_threshold", texts["score_threshold"])
    compressed = bag.topics[topic].type == COMPRESSED_IMAGE
    play = {"bags": [str(bag.paths[0])], "topics": [topic], **numbers}
    play |= {"wait_for": ["detector/detections"], "patience": PATIENCE}
    params_file = texts["params_file"] and existing_file("params_file", texts["params_file"])
    evaluate = ["--bag", str(bag.paths[0]), "--topic", topic, "--out", str(out)]
    evaluate += ["--recorded", str(recorded), "--score", str(score)]
    evaluate += ["--input-size", str(side)] if side else []
    for name, value in common.items():
        evaluate += [f"--{name}", value]
    if texts["ground_truth"]:
        evaluate += ["--ground-truth", texts["ground_truth"]]
    for name in ("start", "duration"):
        evaluate += [f"--{name}", str(numbers[name])] if numbers[name] else []
    return Evaluation(
        topic=topic,
        player=texts["player"],
        params_file=params_file,
        detector={
            **common,
            "input_size": side,
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


def _rosbag2(bag: str, topic: str, numbers: Mapping[str, float]) -> list[str]:
    arguments = [bag, "--clock", "100", "--topics", topic, "--delay", str(LOADING)]
    arguments += ["--rate", str(numbers["rate"])]
    arguments += ["--start-offset", str(numbers["start"])] if numbers["start"] else []
    arguments += ["--playback-duration", str(numbers["duration"])] if numbers["duration"] else []
    return arguments


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6 or (name == "rate" and not 0.01 <= value <= 100):
        raise ValueError(f"{name} is '{text}': give a number in its range")
    return value
