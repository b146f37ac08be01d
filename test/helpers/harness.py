# SPDX-License-Identifier: Apache-2.0
"""Nodes as processes of their own, and a client for them over real DDS."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from forked_nodes import ForkedProcess
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT, ROOT / "test" / "helpers")
MORE = os.environ.get("PYTHONPATH", "")
"""Where libraries are that are not installed."""
DETECTOR = "compact_yolo_ros.ros.run detector_node"
Process = subprocess.Popen | ForkedProcess
Start = Callable[..., SimpleNamespace]
"""What the fixture ``start`` is."""
PATIENCE = 60.0
"""Seconds after which something that should happen on a busy machine is taken not to."""


class NodeProcess:
    """A node started with ``python -m module``, its output collected in a file.

    ``module`` may be followed by an argument: ``compact_yolo_ros.ros.run detector_node``.
    """

    def __init__(
        self,
        module: str,
        log: Path,
        parameters: dict[str, Any],
        *ros_args: str,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        arguments = [f"{name}:={_yaml(value)}" for name, value in parameters.items()]
        flags = [part for argument in arguments for part in ("-p", argument)]
        self.log = log
        self.process = self._begin(
            [*module.split(), "--ros-args", *flags, *ros_args],
            {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, [*map(str, SOURCES), MORE])),
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
        )

    def _begin(self, command: list[str], environment: dict[str, str]) -> Process:
        with self.log.open("w") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def output(self) -> str:
        return self.log.read_text()

    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        if self.is_running():
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the node ignored signal {number}:\n{self.output()}") from None


class ForkedNode(NodeProcess):
    """A node that is forked where its modules are loaded: half a second of CPU time less."""

    def _begin(self, command: list[str], environment: dict[str, str]) -> Process:
        return ForkedProcess(command, self.log, environment)


@contextmanager
def running(
    module: str,
    log: Path,
    parameters: dict[str, Any],
    *ros_args: str,
    kind: type[NodeProcess] = NodeProcess,
    **options: Any,
) -> Iterator[NodeProcess]:
    """A node process that is stopped in the end, whatever the test did."""
    process = kind(module, log, parameters, *ros_args, **options)
    try:
        yield process
    finally:
        process.stop()


forked = partial(running, kind=ForkedNode)

HostedNode = TypeVar("HostedNode", bound=Node)


class Client:
    """A node in the test's own process that waits for things to happen."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = Node("client", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._hosted: list[Node] = []
        self._has_hosted = False
        self._diagnostics: list[DiagnosticArray] = []

    def close(self) -> None:
        while self._hosted:
            self.release(self._hosted[-1])
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
        if self._has_hosted:
            # What is left of nodes ends here, not in the midst of a later test.
            del self.node, self._executor
            gc.collect()

    def host(self, node: HostedNode) -> HostedNode:
        """Let a node of this process work while waiting, until it is released or the test ends."""
        self._hosted.append(node)
        self._has_hosted = True
        self._executor.add_node(node)
        return node

    def release(self, node: Node) -> None:
        """Stop what a hosted node does, and destroy it."""
        if hasattr(node, "close"):
            node.close()
        self._executor.remove_node(node)
        node.destroy_node()
        # It keeps a destroyed node in the graph as long as somebody holds the node, as pytest does
        # with the value of a fixture. Later tests would find a namesake.
        vars(node).pop("_state_machine", None)
        self._hosted.remove(node)

    def collect(self, kind: type, topic: str, qos: QoSProfile | int = 10) -> list[Any]:
        """Subscribe; messages appear in the returned list while waiting."""
        received: list[Any] = []
        self.node.create_subscription(kind, topic, received.append, qos)
        if topic == "/diagnostics":
            self._diagnostics = received
        return received

    def wait_for(self, happened: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """Spin until ``happened`` returns something true, and return that."""
        end = time.monotonic() + patience
        while not (result := happened()):
            if time.monotonic() > end:
                raise AssertionError(f"nothing happened within {patience} s{self._last_heard()}")
            self._executor.spin_once(0.02)
        return result

    def _last_heard(self) -> str:
        """What the nodes said of themselves, which tells why nothing happened."""
        if not self._diagnostics:
            return ", and nothing was heard on /diagnostics"
        statuses = "; ".join(f"{s.name}: {s.message!r}" for s in self._diagnostics[-1].status)
        return f"; the last of {len(self._diagnostics)} messages on /diagnostics: {statuses}"

    def spin(self, seconds: float) -> None:
        """Let things happen for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(0.02)

    def heard(self) -> set[str]:
        """Topics that /detector subscribes to."""
        named = self.node.get_subscriber_names_and_types_by_node("detector", "/")
        return {name for name, _ in named}

    def call(self, kind: type, service: str, **fields: Any) -> Any:
        """Call a service and return its response."""
        client = self.node.create_client(kind, service)
        self.wait_for(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        self.wait_for(future.done)
        self.node.destroy_client(client)
        return future.result()


def image_message(
    pixels: np.ndarray, stamp: Any = None, encoding: str = "rgb8", frame_id: str = "eye"
) -> Image:
    """An Image message of (h, w, 3) uint8 pixels."""
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step = pixels.strides[0]
    message.data = array("B", pixels.tobytes())
    message.header.frame_id = frame_id
    if stamp is not None:
        message.header.stamp = stamp
    return message


def green_square() -> Image:
    """240 x 320 pixels with a green square at (48, 88), which the network finds as its cell."""
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[88:104, 48:64, 1] = 204
    return image_message(pixels)


def values_of(message: DiagnosticArray, status: int = 0) -> dict[str, str]:
    """Key-value pairs of one status of a message, by default of the first."""
    return {pair.key: pair.value for pair in message.status[status].values}


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
