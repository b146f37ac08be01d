# SPDX-License-Identifier: Apache-2.0
"""The arguments of ``launch/detector.launch.py``, and what their texts mean.

They are not in the launch file: the table in docs/node.md is written without ``launch``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from compact_yolo_ros.ros.detector.parameter_table import SPECS
from compact_yolo_ros.ros.detector.parameters import check_value
from compact_yolo_ros.ros.fast_dds import (
    DETECTOR_PROFILE,
    profile_environment,
    profile_variable,
)
from compact_yolo_ros.ros.parameters import ALIKE, ParameterSpec, Value
from compact_yolo_ros.ros.transports import camera_info_topic
from compact_yolo_ros.support.document import DocumentError
from compact_yolo_ros.support.files import in_home
from compact_yolo_ros.support.resources import resource_directory
from compact_yolo_ros.support.yaml_files import parse_yaml

USE_SIM_TIME = ParameterSpec(
    "use_sim_time", False, "Take the time from /clock, for simulation and recorded data."
)
_NAMES = (
    *("model", "backend", "precision", "input_size", "tracking", "positions", "annotations"),
    *("cameras", "image_transport", "autostart"),
)
PARAMETERS: Mapping[str, ParameterSpec] = {
    **{name: SPECS[name] for name in _NAMES},
    USE_SIM_TIME.name: USE_SIM_TIME,
}
"""Parameters of the node that are launch arguments too."""


NAMES_OF_LAUNCH = frozenset(
    {"anon", "emulate_tty", "global_params", "ros_namespace", "ros_remaps"}
    | {"sigkill_timeout", "sigterm_timeout"}
)
"""What ``launch`` itself keeps among the arguments."""


class LaunchArgument(NamedTuple):
    """What ``ros2 launch --show-args`` shows of an argument.

    Attributes:
        name: argument name.
        default: its text if it is not given. An empty one stands for "not given".
        description: one or two sentences.
        choices: the only texts allowed, checked by ``launch``; empty is any.
    """

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


def argument_of(spec: ParameterSpec) -> LaunchArgument:
    """The argument that overrides a parameter."""
    choices = f" One of {', '.join(spec.choices)}." if spec.choices else ""
    # The launch file starts the node by default.
    default = "true" if spec.name == "autostart" else _shown(spec.default)
    return LaunchArgument(
        spec.name, "", f"{spec.description}{choices} Default: as in params_file, else {default}."
    )


def _shown(default: object) -> str:
    """A default as a user would write it; an empty list of texts is [''] to ROS."""
    return "none" if default == [""] else str(default).lower()


LAUNCH_ARGUMENTS = (
    *map(argument_of, PARAMETERS.values()),
    LaunchArgument(
        "image_topic",
        "image",
        "The camera's topic; with cameras given here, it is below the name of each camera.",
    ),
    LaunchArgument(
        "depth_topic",
        "depth",
        "With positions depth: the depth images that are aligned to the camera's; with cameras "
        "given here, below the name of each camera, as the next one.",
    ),
    LaunchArgument(
        "camera_info_topic",
        "",
        "With positions: the camera's calibration. Default: camera_info beside image_topic; that "
        "of /camera/image_raw/compressed is /camera/camera_info.",
    ),
    LaunchArgument("namespace", "", "Namespace of the node and of relative topic names."),
    LaunchArgument(
        "params_file",
        "",
        "YAML file with parameters, like config/detector.yaml; arguments given here override it.",
    ),
    LaunchArgument("respawn", "false", "Restart the node's process if it ends unexpectedly."),
    LaunchArgument(
        "log_level",
        "info",
        "Lowest level that the node and its middleware log.",
        ("debug", "info", "warn", "error", "fatal"),
    ),
    LaunchArgument(
        "dds_profile",
        "auto",
        "File with Fast DDS profiles for the node's process. auto is config/fastdds_detector.xml "
        "(shared memory for a debug image of the usual size; config/fastdds_shm.xml has it for "
        "larger ones), unless an environment variable names another one; none leaves DDS as the "
        "machine has it.",
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


def misunderstandings(given: Iterable[str], arguments: Sequence[LaunchArgument]) -> list[str]:
    """A sentence for each text that was given under a name that this launch file does not read.

    ``launch`` passes on any name without a word. One that resembles nothing here is left alone: it
    may be for another launch file, which includes this one.

    Args:
        given: names of all that was given.
        arguments: those of the launch file.
    """
    names = [argument.name for argument in arguments]
    found = []
    for name in given:
        if name in names or name in NAMES_OF_LAUNCH:
            continue
        close = get_close_matches(name.lower().replace("-", "_"), [*names, *SPECS], 1, ALIKE)
        if close and close[0] in names:
            found.append(f"{name} is not an argument and has no effect: {close[0]} is one")
        elif close:
            found.append(
                f"{name} is not an argument and has no effect: {close[0]} is a parameter of the "
                "node, for a YAML file that params_file names"
            )
    return found


def given_parameters(texts: Mapping[str, str]) -> dict[str, Value]:
    """Values of the parameters among the arguments, without those that are empty: not given.

    Raises:
        ValueError: a text cannot be used for its parameter.
    """
    values = {
        name: typed_parameter(spec, texts[name]) for name, spec in PARAMETERS.items() if texts[name]
    }
    for name, value in values.items():
        if name in SPECS:
            check_value(name, value)
    return values


def camera_topics(texts: Mapping[str, str]) -> dict[str, str]:
    """The topics that arguments give, by the node's own names for them.

    Args:
        texts: of the arguments, by name.
    """
    image = texts["image_topic"]
    return {
        "image": image,
        "depth": texts["depth_topic"],
        "camera_info": texts["camera_info_topic"] or camera_info_topic(image),
    }


def remappings(cameras: Sequence[str], topics: Mapping[str, str]) -> list[tuple[str, str]]:
    """Remappings of the node's topics of cameras: its own name, and the name of the camera's topic.

    Args:
        cameras: names of several cameras; none, or an empty one, is a single camera.
        topics: of one camera, by the node's names for them.

    Raises:
        ValueError: a topic is absolute, and there are several cameras.
    """
    if not any(cameras):
        return list(topics.items())
    for name, topic in topics.items():
        if topic.startswith(("/", "~")):
            raise ValueError(
                f"{name}_topic '{topic}' would be the same for all cameras: give the part below "
                f"the camera's name, as image_raw of /{cameras[0]}/image_raw"
            )
    return [
        (f"{camera}/{name}", f"{camera}/{topic}")
        for camera in cameras
        for name, topic in topics.items()
    ]


def typed_parameter(spec: ParameterSpec, text: str) -> Any:
    """The value of a parameter that a text stands for; one that may be a number is one.

    Raises:
        ValueError: the text does not stand for such a value.
    """
    is_number = spec.untyped and text.isdecimal()
    return typed(spec.name, text, int if is_number else type(spec.default))


def typed(name: str, text: str, kind: type) -> Any:
    """The value of type ``kind`` that the text of argument ``name`` stands for.

    ``kind`` is bool, int, float, str or list.

    Raises:
        ValueError: the text does not stand for such a value.
    """
    if kind is str:
        return text
    try:
        value = parse_yaml(text)
    except DocumentError:
        value = None
    if type(value) not in ((int, float) if kind is float else (kind,)):
        kinds = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            list: "a list as ['a', 'b']",
        }
        raise ValueError(f"{name} must be {kinds[kind]}, not '{text}'")
    return kind(value)


def dds_environment(profile: str, own: str = DETECTOR_PROFILE) -> dict[str, str]:
    """Environment variables for a Fast DDS profile: a path, ``auto`` or ``none``.

    Args:
        profile: the argument ``dds_profile``.
        own: the file in ``config/`` that ``auto`` stands for.

    Raises:
        ValueError: there is no such file.
    """
    if profile == "none":
        return {}
    if profile == "auto":
        return profile_environment(os.environ, str(resource_directory("config") / own))
    return {profile_variable(os.environ): existing_file("dds_profile", profile)}


def existing_file(name: str, text: str) -> str:
    """The absolute path that argument ``name`` stands for.

    Raises:
        ValueError: there is no such file.
    """
    path = in_home(text).absolute()
    if not path.is_file():
        raise ValueError(f"{name}: there is no file {path}")
    return str(path)
