# SPDX-License-Identifier: Apache-2.0
"""A double of the part of ``launch`` and ``launch_ros`` that this package's launch files use.

It starts nothing. Its signatures are those of ROS 2 Humble or narrower, and a ``Node`` knows what
its process would get. ``test/ros/test_launch_double.py`` compares it with the real packages.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml


class LaunchContext:
    """The arguments given, and whether everything is ending."""

    def __init__(self) -> None:
        self.launch_configurations: dict[str, str] = {}
        self.is_shutdown = False


class LaunchDescriptionEntity:
    """What can be in a description."""

    def visit(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        raise NotImplementedError(f"the double does not execute a {type(self).__name__}")


class LaunchDescription:
    """A list of entities."""

    def __init__(self, initial_entities: Sequence[LaunchDescriptionEntity] | None = None) -> None:
        self.entities = list(initial_entities or ())


class DeclareLaunchArgument(LaunchDescriptionEntity):
    """Gives an argument its default, and checks its choices."""

    def __init__(
        self,
        name: str,
        *,
        default_value: str | None = None,
        description: str | None = None,
        choices: Sequence[str] | None = None,
    ) -> None:
        if choices is not None and default_value is not None and default_value not in choices:
            raise ValueError(f"the default '{default_value}' is none of {choices}")
        self.name, self.default_value, self.choices = name, default_value, choices
        self.description = description

    def visit(self, context: LaunchContext) -> None:
        texts = context.launch_configurations
        if self.name not in texts and self.default_value is None:
            raise RuntimeError(f'Required launch argument "{self.name}" was not provided.')
        text = texts.setdefault(self.name, str(self.default_value))
        if self.choices is not None and text not in self.choices:
            raise RuntimeError(
                f'Argument "{self.name}" provided value "{text}" is not valid. Valid options are: '
                f"{self.choices}"
            )


class OpaqueFunction(LaunchDescriptionEntity):
    """Entities that a function makes."""

    def __init__(self, *, function: Callable[..., Any]) -> None:
        self._function = function

    def visit(self, context: LaunchContext) -> list[LaunchDescriptionEntity] | None:
        entities: list[LaunchDescriptionEntity] | None = self._function(context)
        return entities


class EmitEvent(LaunchDescriptionEntity):
    """Sends an event to the handlers."""

    def __init__(self, *, event: Any) -> None:
        self.event = event


class TimerAction(LaunchDescriptionEntity):
    """Does something later."""

    def __init__(self, *, period: float, actions: Sequence[LaunchDescriptionEntity]) -> None:
        self.period, self.actions = period, list(actions)


class ExecuteProcess(LaunchDescriptionEntity):
    """A process."""

    def __init__(
        self,
        *,
        cmd: Sequence[str],
        additional_env: Mapping[str, str] | None = None,
        respawn: bool = False,
        respawn_delay: float | None = None,
        output: str = "log",
        sigkill_timeout: str = "5",
    ) -> None:
        if not all(isinstance(part, str) for part in cmd):
            raise TypeError(f"a command consists of texts, not {cmd}")
        self.command = list(cmd)
        self.environment = dict(additional_env or {})
        self.respawn, self.respawn_delay, self.output = respawn, respawn_delay, output
        self.sigkill_timeout = float(sigkill_timeout)


class ParameterValue:
    """A value with the type that it shall have."""

    def __init__(self, value: Any, *, value_type: Any = None) -> None:
        kinds = value_type.__args__[0] if hasattr(value_type, "__args__") else value_type
        parts = value if isinstance(value, list) else [value]
        if not all(type(part) is kinds for part in parts):
            raise TypeError(f"{value!r} is not of type {value_type}")
        self.value = value


class Node(ExecuteProcess):
    """A node's process."""

    def __init__(
        self,
        *,
        package: str,
        executable: str,
        name: str,
        namespace: str | None = None,
        parameters: Sequence[str | Mapping[str, Any]] = (),
        remappings: Sequence[tuple[str, str]] = (),
        ros_arguments: Sequence[str] = (),
        **process: Any,
    ) -> None:
        super().__init__(cmd=[], **process)
        self.executable = f"{package}/{executable}"
        space = (namespace or "").strip("/")
        if " " in space:
            raise ValueError(f"Invalid namespace '{namespace}'")
        self.full_name = f"/{space}/{name}" if space else f"/{name}"
        self.ros_arguments, self.remappings = list(ros_arguments), list(remappings)
        self.parameters = [_values(source) for source in parameters]


def _values(source: str | Mapping[str, Any]) -> dict[str, Any]:
    """What a source of parameters holds, whatever node it names."""
    if isinstance(source, str):
        (content,) = yaml.safe_load(Path(source).read_text()).values()
        return dict(content["ros__parameters"])
    return {k: v.value if isinstance(v, ParameterValue) else v for k, v in source.items()}


class OnProcessExit:
    """Handles the end of a process."""

    def __init__(self, *, target_action: ExecuteProcess, on_exit: Any) -> None:
        self.target_action, self.on_exit = target_action, on_exit

    def handle(self, event: ProcessExited, context: LaunchContext) -> list[Any] | None:
        found: list[Any] | None = self.on_exit(event, context)
        return found


class RegisterEventHandler(LaunchDescriptionEntity):
    """Sets a handler."""

    def __init__(self, event_handler: OnProcessExit) -> None:
        self.event_handler = event_handler


@dataclass(frozen=True, kw_only=True)
class Shutdown:
    """Everything ends."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class SignalProcess:
    """Those processes that the matcher accepts get a signal."""

    signal_number: int
    process_matcher: Callable[[ExecuteProcess], bool]


@dataclass(frozen=True, kw_only=True)
class ProcessExited:
    """The end of a process."""

    action: ExecuteProcess
    returncode: int


def matches_action(target_action: ExecuteProcess) -> Callable[[ExecuteProcess], bool]:
    return lambda action: action is target_action


MODULES: Mapping[str, Sequence[Any]] = {
    "launch": (LaunchContext, LaunchDescription, LaunchDescriptionEntity),
    "launch.actions": (
        DeclareLaunchArgument,
        EmitEvent,
        ExecuteProcess,
        OpaqueFunction,
        RegisterEventHandler,
        TimerAction,
    ),
    "launch.event_handlers": (OnProcessExit,),
    "launch.events": (Shutdown, matches_action),
    "launch.events.process": (ProcessExited, SignalProcess),
    "launch.logging": (),
    "launch_ros": (),
    "launch_ros.actions": (Node,),
    "launch_ros.parameter_descriptions": (ParameterValue,),
}
"""What is where."""


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``launch`` and ``launch_ros`` be the doubles during a test."""
    for name, content in MODULES.items():
        module = ModuleType(name)
        vars(module).update({each.__name__: each for each in content})
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
    sys.modules["launch.logging"].get_logger = logging.getLogger  # type: ignore[attr-defined]
