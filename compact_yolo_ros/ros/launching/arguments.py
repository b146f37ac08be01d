# SPDX-License-Identifier: Apache-2.0
"""The arguments of ``launch/detector.launch.py``, and how their texts are understood.

They are apart from the launch file, so that the README's table needs no ``launch``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from compact_yolo_ros.model.sizes import check_side
from compact_yolo_ros.ros.detector.camera_names import check_camera_names
from compact_yolo_ros.ros.detector.parameters import DETECTOR_PARAMETERS
from compact_yolo_ros.ros.fast_dds import OLD_PROFILE_VARIABLE, PROFILE_VARIABLE, profile_variable
from compact_yolo_ros.ros.parameters import ParameterSpec, Value
from compact_yolo_ros.support.resources import resource_directory

USE_SIM_TIME = ParameterSpec(
    "use_sim_time", False, "Take the time from /clock, for simulation and recorded data."
)
_NAMES = "model", "backend", "precision", "input_size", "cameras", "image_transport", "autostart"
PARAMETERS: Mapping[str, ParameterSpec] = {
    **{spec.name: spec for spec in DETECTOR_PARAMETERS if spec.name in _NAMES},
    USE_SIM_TIME.name: USE_SIM_TIME,
}
"""Parameters of the node that are launch arguments too."""


class LaunchArgument(NamedTuple):
    """What ``ros2 launch --show-args`` tells about an argument.

    Attributes:
        name: argument name.
        default: the text it has if it is not given; an empty one cannot be given.
        description: one or two sentences.
        choices: the only texts allowed, checked by ``launch``; empty is any.
    """

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


def _of_parameter(spec: ParameterSpec) -> LaunchArgument:
    choices = f" One of {', '.join(spec.choices)}." if spec.choices else ""
    # The launch file starts the node unless it is told not to.
    default = "true" if spec.name == "autostart" else str(spec.default).lower()
    return LaunchArgument(
        spec.name, "", f"{spec.description}{choices} Not given: as in params_file, else {default}."
    )


LAUNCH_ARGUMENTS = (
    *map(_of_parameter, PARAMETERS.values()),
    LaunchArgument(
        "image_topic",
        "image",
        "The camera's topic; with cameras given here, it is below the name of each.",
    ),
    LaunchArgument("namespace", "", "Namespace of the node and of relative topic names."),
    LaunchArgument(
        "params_file",
        "",
        "YAML file with parameters, like config/detector.yaml; an argument given here goes first.",
    ),
    LaunchArgument("respawn", "false", "Start the node's process again if it ends unexpectedly."),
    LaunchArgument(
        "log_level",
        "info",
        "What the node and the middleware below it log.",
        ("debug", "info", "warn", "error", "fatal"),
    ),
    LaunchArgument(
        "dds_profile",
        "auto",
        "File with Fast DDS profiles for the node's process. auto takes config/fastdds_shm.xml "
        "(shared memory for large images), or what the environment names if it does; none leaves "
        "DDS as the machine has it.",
    ),
)


def declarations(arguments: Sequence[LaunchArgument]) -> list[Any]:
    """The arguments as actions of ``launch``, which is needed only for this."""
    from launch.actions import DeclareLaunchArgument

    return [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=argument.choices or None,
        )
        for argument in arguments
    ]


def given_parameters(texts: Mapping[str, str]) -> dict[str, Value]:
    """The parameters among the arguments, without those that were not given (empty).

    Raises:
        ValueError: a text cannot be used for its parameter.
    """
    values = {
        name: typed(name, texts[name], type(spec.default))
        for name, spec in PARAMETERS.items()
        if texts[name]
    }
    for name, value in values.items():
        if refusal := PARAMETERS[name].refusal(value):
            raise ValueError(refusal)
    if size := values.get("input_size"):
        check_side(size)
    check_camera_names(values.get("cameras", []))
    return values


def remappings(cameras: Sequence[str], image_topic: str) -> list[tuple[str, str]]:
    """Names of the node's image topics, and what they are called outside.

    Raises:
        ValueError: several cameras were given an absolute topic, which would be one for all.
    """
    if not any(cameras):
        return [("image", image_topic)]
    if image_topic.startswith(("/", "~")):
        raise ValueError(
            f"image_topic '{image_topic}' would be the same for all cameras: give the part below "
            f"the camera's name, as image_raw of /{cameras[0]}/image_raw"
        )
    return [(f"{camera}/image", f"{camera}/{image_topic}") for camera in cameras]


def typed(name: str, text: str, kind: type) -> Any:
    """The value of type ``kind`` that the text of argument ``name`` stands for.

    ``kind`` is bool, int, str or list.

    Raises:
        ValueError: it stands for none.
    """
    if kind is str:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if type(value) is not kind:
        wanted = {bool: "true or false", int: "a whole number", list: "a list as ['a', 'b']"}[kind]
        raise ValueError(f"{name} must be {wanted}, not '{text}'")
    return value


def dds_environment(profile: str) -> dict[str, str]:
    """Environment variables that make Fast DDS use ``profile``: a path, ``auto`` or ``none``.

    Raises:
        ValueError: there is no such file.
    """
    if profile == "none":
        return {}
    if profile == "auto":
        if os.environ.get(PROFILE_VARIABLE) or os.environ.get(OLD_PROFILE_VARIABLE):
            return {}
        profile = str(resource_directory("config") / "fastdds_shm.xml")
    return {profile_variable(os.environ): existing_file("dds_profile", profile)}


def existing_file(name: str, text: str) -> str:
    """The absolute path that argument ``name`` stands for.

    Raises:
        ValueError: there is no such file.
    """
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"{name}: there is no file {path}")
    return str(path)
