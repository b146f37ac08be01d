# SPDX-License-Identifier: Apache-2.0
"""What an activation measures, without ROS."""

from __future__ import annotations

from queue import SimpleQueue
from types import SimpleNamespace

import pytest

from compact_yolo_ros.machine.power.source import Unavailable
from compact_yolo_ros.ros.detector import activation


def test_the_power_is_that_of_what_runs_the_network_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that began on the CPU may be told to use the GPU, which may then be lost."""
    sought: SimpleQueue[bool] = SimpleQueue()

    def find(on_gpu: bool) -> None:
        sought.put(on_gpu)
        raise Unavailable("no meter")

    worker = SimpleNamespace(stop=lambda: True)
    monkeypatch.setattr(activation, "FrameWorker", lambda *_: worker)
    monkeypatch.setattr(activation, "find_power_source", find)
    backends = SimpleNamespace(needs_gpu=False, rest=lambda: None)
    session = SimpleNamespace(backends=backends, cameras=[])
    node = SimpleNamespace(get_clock=lambda: None)
    active = activation.Activation(node, session, {"power": "auto"}, enabled=True)
    for on_gpu in (False, True, False):
        backends.needs_gpu = on_gpu
        for _ in range(3):
            active.power()
        assert sought.get(timeout=10) is on_gpu
    active.close()
    assert sought.empty()
