# SPDX-License-Identifier: Apache-2.0
"""Starts the detector: ``ros2 launch compact_yolo_ros detector.launch.py image_topic:=...``.

A launch argument overrides ``params_file``, which overrides the node's default. So an argument that
was not given must not reach the node, and only a function can omit it.
"""

from __future__ import annotations

from typing import Any, List  # noqa: UP035

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction
from launch.logging import get_logger
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from rclpy.validate_topic_name import validate_topic_name

from compact_yolo_ros.ros.launching.arguments import (
    LAUNCH_ARGUMENTS,
    camera_topics,
    dds_environment,
    declarations,
    existing_file,
    given_parameters,
    misunderstandings,
    remappings,
    typed,
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the node."""
    return LaunchDescription([*declarations(LAUNCH_ARGUMENTS), OpaqueFunction(function=_detector)])


def _detector(context: LaunchContext) -> list[Node]:
    texts = {name: context.launch_configurations[name] for name, *_ in LAUNCH_ARGUMENTS}
    topics = camera_topics(texts)
    for topic in topics.values():
        validate_topic_name(topic)
    for sentence in misunderstandings(context.launch_configurations, LAUNCH_ARGUMENTS):
        get_logger("detector.launch.py").warning(sentence)
    given = given_parameters(texts)
    return [
        Node(
            package="compact_yolo_ros",
            executable="detector_node",
            name="detector",
            namespace=texts["namespace"],
            # Given before params_file, which may override it.
            ros_arguments=["-p", "autostart:=true", "--log-level", texts["log_level"]],
            parameters=_sources(texts["params_file"], given),
            remappings=remappings(given.get("cameras", []), topics),
            additional_env=dds_environment(texts["dds_profile"]),
            respawn=typed("respawn", texts["respawn"], bool),
            respawn_delay=2.0,
            output="screen",
        )
    ]


def _sources(params_file: str, given: dict[str, Any]) -> list[str | dict[str, ParameterValue]]:
    """Sources of parameters; a later one overrides an earlier one."""
    sources: list[str | dict[str, ParameterValue]] = []
    if params_file:
        sources.append(existing_file("params_file", params_file))
    if given:
        # With their types, because launch guesses the type of a bare text: a model may be named 1.
        sources.append({k: ParameterValue(v, value_type=_type(v)) for k, v in given.items()})
    return sources


def _type(value: Any) -> Any:
    # launch knows List[str], but not list[str]
    return List[str] if isinstance(value, list) else type(value)  # noqa: UP006
