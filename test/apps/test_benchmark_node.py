# SPDX-License-Identifier: Apache-2.0
"""The load of ``benchmark --node`` on a real detector node over DDS."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from compact_yolo_ros.apps.benchmark import node_load
from compact_yolo_ros.apps.benchmark.node_load import Images, NodeFailed, measure_node
from compact_yolo_ros.apps.benchmark.peak_rate import LoadRun, Peak
from compact_yolo_ros.apps.benchmark.runs import Run, all_runs
from compact_yolo_ros.machine.power import PowerSummary
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import find_model

POWER = PowerSummary("meter", None, 7.5, {}, {}, None, "")


def run_at(toy: str, size: Size) -> Run:
    (run,) = all_runs([find_model(toy)], [size], threads=[1])
    return run


def measure(run: Run, transport: str = "raw") -> Peak:
    images = Images((320, 240), transport, 0.5)
    return measure_node(run, images, lambda: POWER, lambda text: None)


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_answers_are_counted_and_timed(
    toy: str, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    def one_rate(name: str, run) -> Peak:
        return Peak(name, (run(8.0),) * 5, (run(3000.0),))

    monkeypatch.setattr(node_load, "find_peak", one_rate)
    peak = measure(run_at(toy, Size.square(320)), transport)
    run: LoadRun = peak.runs[0]
    assert (run.target_rate, run.sent, run.watts) == (8.0, 20, 7.5)
    assert run.rate == pytest.approx(8.0, rel=0.1)
    assert run.loss <= 0.5 and min(run.seconds) > 0  # a busy machine loses some
    assert peak.facts == {
        "model": "toy",
        "input_size": "320x320",
        "backend": "onnxruntime",
        "precision": "fp32",
        "threads": "1",
    }
    (flooded,) = peak.search
    assert flooded.sent == 1500
    assert flooded.loss > 0 or not flooded.passed  # nobody answers three thousand a second


def test_a_node_that_does_not_start_is_one_sentence(toy: str) -> None:
    with pytest.raises(NodeFailed, match="TopK"):  # the toy has too few cells at this size
        measure(run_at(toy, Size.square(160)))
