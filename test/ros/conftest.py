# SPDX-License-Identifier: Apache-2.0
"""A client, and detector nodes as processes of their own, connected by DDS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from harness import DETECTOR, Client, ForkedNode, NodeProcess, Start
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from compact_yolo_ros.ros.detector.node import DetectorNode

USUAL = {"autostart": True, "cpu_threads": 1, "diagnostics_period": 0.1}
"""Parameters of the nodes of tests: these wait for /diagnostics again and again."""


@pytest.fixture
def client() -> Iterator[Client]:
    opened = Client()
    yield opened
    opened.close()


@pytest.fixture
def start_inside(toy: str, client: Client) -> Start:
    """Start a detector node in the test's own process, where its parts can be replaced.

    It is spun by the client. ``node`` is the node, the rest is as with ``start``.
    """

    def begin(**parameters: Any) -> SimpleNamespace:
        given = {**USUAL, "model": toy, **parameters}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        node = DetectorNode(context=client.context, parameter_overrides=overrides)
        client.host(node)
        node.start()
        seen = SimpleNamespace(
            node=node,
            results=client.collect(Detection2DArray, "/detector/detections"),
            diagnostics=client.collect(DiagnosticArray, "/diagnostics"),
            camera=client.node.create_publisher(Image, "/image", 5),
        )
        client.wait_for(lambda: seen.diagnostics)
        return seen

    return begin


@pytest.fixture
def start(tmp_path: Path, toy: str, client: Client) -> Iterator[Start]:
    """Start a detector node with some parameters, and return its process and its topics.

    It is forked, unless ``kind`` is ``NodeProcess``, which starts it as users do.
    In the end every node must stop cleanly.
    """
    processes: list[NodeProcess] = []

    def begin(
        *ros_args: str,
        module: str = DETECTOR,
        kind: type[NodeProcess] = ForkedNode,
        wait: bool = True,
        **parameters: Any,
    ) -> SimpleNamespace:
        given = {**USUAL, "model": toy, **parameters}
        log = tmp_path / f"node{len(processes)}.log"
        process = kind(module, log, given, *ros_args)
        processes.append(process)
        seen = SimpleNamespace(
            process=process,
            results=client.collect(Detection2DArray, "/detector/detections"),
            diagnostics=client.collect(DiagnosticArray, "/diagnostics"),
            camera=client.node.create_publisher(Image, "/image", 5),
        )
        if wait:
            client.wait_for(lambda: seen.diagnostics)
        return seen

    yield begin
    for process in processes:
        assert process.stop() == 0, process.output()
        assert "Traceback" not in process.output()
