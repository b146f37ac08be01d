# SPDX-License-Identifier: Apache-2.0
"""The governor in the running node: targets, sizes, and what is told of them."""

from __future__ import annotations

from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from harness import Client, Start, running
from test_detector_node import set_parameter
from test_engine_upgrade import facts, publish_until

PIXEL_BOUND = "pixel_bound_detector_node"
SIZES = {"input_size": 416, "governor_sizes": [288], "diagnostics_period": 0.2}
pytestmark = pytest.mark.ros


def test_a_deadline_makes_the_input_smaller_and_its_end_makes_it_large_again(
    client: Client, start: Start
) -> None:
    seen = start(module=PIXEL_BOUND, **SIZES)
    publish_until(client, seen, lambda: seen.answers)
    publish_until(client, seen, lambda: facts(seen)["governor"] == "off")
    assert facts(seen)["input_size"] == "416x416"
    # It was not told of a target at start, so the smaller size is opened now.
    assert set_parameter(client, "max_latency", 0.075).successful
    publish_until(client, seen, lambda: facts(seen)["input_size"] == "288x288")
    values = facts(seen)
    assert values["governor"] == "holding"
    assert values["governor_sizes"] == "416 288"
    assert values["governor_reason"].startswith("416x416 to 288x288: an answer took 1")
    assert int(values["governor_switches"]) == 1
    assert "Input from 416x416 to 288x288: an answer took" in seen.process.output()
    answered = len(seen.answers)
    publish_until(client, seen, lambda: len(seen.answers) > answered + 3)
    assert set_parameter(client, "max_latency", 0).successful
    publish_until(client, seen, lambda: facts(seen)["input_size"] == "416x416")
    assert facts(seen)["errors"] == "0"
    for answer in seen.answers:  # boxes are in the image's pixels at either size
        best = max(answer.detections, key=lambda d: d.results[0].hypothesis.score)
        assert best.bbox.center.position.x == pytest.approx(72, abs=16)
        assert best.bbox.center.position.y == pytest.approx(40, abs=16)


def test_a_deadline_that_no_size_holds_is_a_warning(client: Client, start: Start) -> None:
    seen = start(module=PIXEL_BOUND, max_latency=0.01, **SIZES)

    def told() -> Any:
        status = seen.diagnostics[-1].status[0]
        expected = "a target cannot be held: 288x288 is the last resort"
        return status.message.startswith(expected) and status

    publish_until(client, seen, told)
    assert told().level == DiagnosticStatus.WARN
    assert facts(seen)["governor"] == "over target"


def test_a_power_budget_without_a_power_source_is_a_warning(client: Client, start: Start) -> None:
    seen = start(power="none", power_budget_w=5, **SIZES)
    sentence = "power_budget_w is ignored, the power cannot be read (power is none)"
    publish_until(client, seen, lambda: seen.diagnostics[-1].status[0].message == sentence)
    assert seen.diagnostics[-1].status[0].level == DiagnosticStatus.WARN


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("max_latency", -1, "max_latency is -1: give a number from 0 to 60"),
        ("target_fps", "fast", "target_fps is fast: give a number from 0 to 1000"),
        ("power_budget_w", 10**9, "give a number from 0 to 10000"),
        ("governor_sizes", ["small"], "governor_sizes must be a list of whole numbers, for"),
    ],
)
def test_a_target_that_cannot_be_is_refused_with_a_reason(
    client: Client, start: Start, name: str, value: Any, reason: str
) -> None:
    start()
    result = set_parameter(client, name, value)
    assert not result.successful
    assert reason in result.reason


def test_a_size_that_no_network_has_is_one_sentence_at_start(tmp_path: Any, toy: str) -> None:
    log = tmp_path / "node.log"
    parameters = {"model": toy, "governor_sizes": [100]}
    with running("compact_yolo_ros.nodes.detector_node", log, parameters) as process:
        assert process.process.wait(20) == 1
    assert "input size 100 is not usable: give a multiple of 32" in process.output()
    assert "Traceback" not in process.output()
