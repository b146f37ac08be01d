# SPDX-License-Identifier: Apache-2.0
"""Evaluates a live detector node on a recording, and ends by itself.

    ros2 launch compact_yolo_ros evaluate_bag.launch.py bag:=drive out:=out/drive

The recording is played with its own time on /clock, the node's messages are recorded, and
``evaluate_bag --recorded`` evaluates them at the end.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    EmitEvent,
    ExecuteProcess,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown, matches_action
from launch.events.process import ProcessExited, SignalProcess
from launch.logging import get_logger
from launch_ros.actions import Node

from compact_yolo_ros.ros.fast_dds import SENDER_PROFILE
from compact_yolo_ros.ros.launching.arguments import (
    dds_environment,
    declarations,
    misunderstandings,
)
from compact_yolo_ros.ros.launching.evaluation import (
    EVALUATION_ARGUMENTS,
    ROSBAG2,
    SETTLING,
    Evaluation,
    read_evaluation,
)

PACKAGE = "compact_yolo_ros"

OnExit = Callable[[ProcessExited, LaunchContext], "list[LaunchDescriptionEntity]"]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the nodes."""
    return LaunchDescription([*declarations(EVALUATION_ARGUMENTS), OpaqueFunction(function=_nodes)])


def _nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    texts = {name: context.launch_configurations[name] for name, *_ in EVALUATION_ARGUMENTS}
    for sentence in misunderstandings(context.launch_configurations, EVALUATION_ARGUMENTS):
        get_logger("evaluate_bag.launch.py").warning(sentence)
    run = read_evaluation(texts)
    detector = Node(
        package=PACKAGE,
        executable="detector_node",
        name="detector",
        parameters=[*([run.params_file] if run.params_file else []), run.detector],
        remappings=[(run.image, run.topic)],
        additional_env=dds_environment("auto"),
        output="screen",
    )
    recorder = Node(
        package=PACKAGE,
        executable="bag_recorder_node",
        name="bag_recorder",
        parameters=[run.recorder],
        output="screen",
        sigkill_timeout="30",  # a slow disk may take so long to close the recording
    )
    player = _player(run, dds_environment("auto", SENDER_PROFILE))
    evaluation = ExecuteProcess(
        cmd=[sys.executable, "-m", "compact_yolo_ros.apps.evaluate_bag.command", *run.evaluate_bag],
        output="screen",
    )
    stop_recorder: LaunchDescriptionEntity = EmitEvent(
        event=SignalProcess(signal_number=signal.SIGINT, process_matcher=matches_action(recorder))
    )
    if run.player == ROSBAG2:
        stop_recorder = TimerAction(period=SETTLING, actions=[stop_recorder])
    end = EmitEvent(event=Shutdown(reason="the evaluation has ended"))
    return [
        detector,
        recorder,
        player,
        _when(player, _then("the playback", stop_recorder)),
        # The recording can be read once its recorder has closed it.
        _when(recorder, _then("the recorder", evaluation)),
        _when(evaluation, _then("the evaluation", end)),
        _when(detector, _too_early),
    ]


def _player(run: Evaluation, environment: dict[str, str]) -> ExecuteProcess:
    if run.player == ROSBAG2:
        command = ["ros2", "bag", "play", *run.ros2_bag_play]
        return ExecuteProcess(cmd=command, additional_env=environment, output="screen")
    return Node(
        package=PACKAGE,
        executable="bag_player_node",
        name="bag_player",
        parameters=[run.bag_player],
        additional_env=environment,
        output="screen",
    )


def _when(process: ExecuteProcess, on_exit: OnExit) -> RegisterEventHandler:
    return RegisterEventHandler(OnProcessExit(target_action=process, on_exit=on_exit))


def _then(what: str, action: LaunchDescriptionEntity) -> OnExit:
    """Go on with ``action``; a failure ends everything with exit code 1."""

    def on_exit(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        if context.is_shutdown:
            return []
        if event.returncode:
            raise RuntimeError(f"{what} failed: see its message above")
        return [action]

    return on_exit


def _too_early(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """End with exit code 1 if the detector is not stopped by the end of everything."""
    if context.is_shutdown:
        return []
    raise RuntimeError("the detector has ended before the playback: see its message above")
