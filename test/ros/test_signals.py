# SPDX-License-Identifier: Apache-2.0
"""A signal ends a node cleanly while it loads ROS, starts, runs, and ends."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import DETECTOR, PATIENCE, NodeProcess
from toy_model import write_toy_model

pytestmark = pytest.mark.ros
MODULES = ("compact_yolo_ros.ros.run video_publisher_node", DETECTOR)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
MOMENTS, AT_ONCE = 6, 2

Start = Callable[[str], NodeProcess]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Start one of the nodes; it is gone when the test ends."""
    parameters: dict[str, dict[str, Any]] = {
        MODULES[0]: {"loop": True},
        MODULES[1]: {"model": write_toy_model(tmp_path / "toy.onnx"), "autostart": True},
    }
    processes: list[NodeProcess] = []

    def start_one(module: str) -> NodeProcess:
        number = len(processes)
        apart = ("-r", f"__ns:=/n{number}")  # two nodes of one name warn of each other
        process = NodeProcess(module, tmp_path / f"{number}.log", parameters[module], *apart)
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.process.kill()
        process.process.wait()


def wait_until_listening(process: NodeProcess) -> None:
    """Wait until SIGTERM has a handler: before the interpreter is there, it ends any process."""
    status = Path(f"/proc/{process.process.pid}/status")
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.is_running():
        caught = next(line for line in status.read_text().splitlines() if "SigCgt" in line)
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)
    raise AssertionError(f"the node does not listen to signals:\n{process.output()}")


def assert_clean_end(process: NodeProcess, *numbers: int) -> None:
    for number in numbers:
        process.process.send_signal(number)
    code = process.process.wait(PATIENCE)
    output = process.output()
    assert code == 0, output
    assert "Traceback" not in output
    assert "ERROR" not in output
    # there is no camera, which a busy machine has time to notice
    unexpected = [line for line in output.splitlines() if "has no publisher" not in line]
    assert not [line for line in unexpected if "WARN" in line], output


@pytest.mark.parametrize("module", MODULES)
def test_more_signals_while_it_ends_change_nothing(start: Start, module: str) -> None:
    process = start(module)
    wait_until_listening(process)
    time.sleep(1.0)
    assert_clean_end(process, signal.SIGINT, signal.SIGINT, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_random_moments_from_the_start_to_the_running_node(start: Start, module: str) -> None:
    moments = random.Random(0)
    for first in range(0, MOMENTS, AT_ONCE):
        processes = [start(module) for _ in range(AT_ONCE)]
        for number, process in enumerate(processes, first):
            wait_until_listening(process)
            # one moment in each part of the time, the later ones spread wider
            time.sleep(2.0 * ((number + moments.random()) / MOMENTS) ** 2)
            assert_clean_end(process, SIGNALS[number % 2])
