# SPDX-License-Identifier: Apache-2.0
"""Running a launch file in a process of its own, or only seeing what it would start."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from harness import ROOT

LAUNCH = """
import signal
import sys
# A shell's background job ignores SIGINT, and then launch does, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

source = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [tuple(argument.split(":=", 1)) for argument in sys.argv[2:]]
service = LaunchService(noninteractive=True)
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""
"""What `ros2 launch` does, without its command line: Python for ``-c``."""


@contextmanager
def warnings_of(launch_file: str) -> Iterator[list[str]]:
    """Collect a launch file's warnings: the loggers of the real ``launch`` tell no others."""
    logger, sentences = import_module("launch.logging").get_logger(launch_file), []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: sentences.append(record.getMessage())
    logger.addHandler(handler)
    try:
        yield sentences
    finally:
        logger.removeHandler(handler)


def entities_of(launch_file: str, arguments: Mapping[str, object]) -> tuple[list[Any], Any]:
    """What a launch file would start with these arguments, and the context; nothing is started.

    With the packages or the double that ``launch`` is when it is called.
    """
    context = import_module("launch").LaunchContext()
    context.launch_configurations.update({name: str(v) for name, v in arguments.items()})
    spec = spec_from_file_location("launch_file", ROOT / "launch" / launch_file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    actions = import_module("launch.actions")
    waiting, found = list(module.generate_launch_description().entities), []
    while waiting:
        entity = waiting.pop(0)
        if isinstance(entity, actions.DeclareLaunchArgument | actions.OpaqueFunction):
            waiting = [*(entity.visit(context) or ()), *waiting]
        else:
            found.append(entity)
    return found, context
