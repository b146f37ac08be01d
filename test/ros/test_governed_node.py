# SPDX-License-Identifier: Apache-2.0
"""The governor in the running node: targets, input sizes, and their diagnostics."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from harness import DETECTOR, PATIENCE, Client, Start, forked
from test_detector_node import set_parameter
from test_engine_build import facts
from test_engine_build import publish_until as publish_often

PIXEL_BOUND = "pixel_bound_detector_node"
SIZES = {"input_size": "416x416", "governor_sizes": [288], "diagnostics_period": 0.2}
pytestmark = pytest.mark.ros
publish_until = partial(publish_often, period=0.5)  # slower than the network: no image waits


def test_a_deadline_makes_the_input_smaller_and_its_end_makes_it_large_again(
    client: Client, start: Start
) -> None:
    seen = start(module=PIXEL_BOUND, **SIZES)
    publish_until(client, seen, lambda: seen.results)
    publish_until(client, seen, lambda: facts(seen)["governor"] == "off")
    assert facts(seen)["input_size"] == "416x416"
    # There was no target at start, so the smaller size is opened now.
    assert set_parameter(client, "max_latency", 0.39).successful
    publish_until(client, seen, lambda: facts(seen)["input_size"] == "288x288")
    values = facts(seen)
    assert values["governor"] == "holding"
    assert values["governor_sizes"] == "416 288"
    assert values["governor_reason"].startswith("416 to 288: the latency was ")
    assert int(values["governor_switches"]) == 1
    assert "Input from 416 to 288: the latency was" in seen.process.output()
    assert set_parameter(client, "max_latency", 0).successful
    publish_until(client, seen, lambda: facts(seen)["input_size"] == "416x416")
    assert facts(seen)["errors"] == "0"
    for result in seen.results:  # boxes are in the image's pixels at either size
        best = max(result.detections, key=lambda d: d.results[0].hypothesis.score)
        assert best.bbox.center.position.x == pytest.approx(72, abs=16)
        assert best.bbox.center.position.y == pytest.approx(40, abs=16)


def test_a_deadline_that_no_size_holds_is_a_warning(client: Client, start: Start) -> None:
    seen = start(module=PIXEL_BOUND, max_latency=0.01, **SIZES)

    def status() -> Any:
        newest = seen.diagnostics[-1].status[0]
        expected = "a target cannot be held: 288 is the last resort"
        return newest.message.startswith(expected) and newest

    publish_until(client, seen, status)
    assert status().level == DiagnosticStatus.WARN
    assert facts(seen)["governor"] == "over target"


def test_a_power_budget_makes_the_input_smaller_and_then_skips_images(
    client: Client, start: Start
) -> None:
    seen = start(module=PIXEL_BOUND, power_budget_w=15, **SIZES)
    publish_until(client, seen, lambda: facts(seen)["input_size"] == "288x288")
    publish_until(client, seen, lambda: float(facts(seen).get("power_w", 99)) < 10)
    values = facts(seen)
    assert values["governor"] == "holding"
    assert "to 288: 20.0 W, power_budget_w is 15.0" in values["governor_reason"]
    assert values["power_source"] == "a made-up meter"
    assert values["images_skipped"] == "0"

    assert set_parameter(client, "governor_skip", 1).successful
    assert set_parameter(client, "power_budget_w", 5).successful
    publish_until(client, seen, lambda: facts(seen)["governor"] == "over target")
    sentence = "288, skipping 1 is the last resort: 9.6 W, power_budget_w is 5.0"
    assert facts(seen)["governor_reason"] == sentence
    publish_until(client, seen, lambda: int(facts(seen)["images_skipped"]) > 2)

    def all_counted() -> bool:
        names = ("processed", "dropped", "too_old", "skipped")
        values = facts(seen)
        ended = sum(int(values[f"images_{name}"]) for name in names) + int(values["errors"])
        return int(values["images_received"]) == ended

    client.wait_for(all_counted)  # nothing is sent any more
    assert not any("falling behind" in m.status[0].message for m in seen.diagnostics[-5:])


def test_a_power_budget_without_a_power_source_is_a_warning(client: Client, start: Start) -> None:
    seen = start(power="none", power_budget_w=5, **SIZES)
    sentence = "power_budget_w is ignored because power cannot be read (parameter power is none)"
    publish_until(client, seen, lambda: seen.diagnostics[-1].status[0].message == sentence)
    assert seen.diagnostics[-1].status[0].level == DiagnosticStatus.WARN


def test_a_target_out_of_range_is_refused_with_a_reason(client: Client, start: Start) -> None:
    start()
    for name, value, reason in (
        ("max_latency", -1, "max_latency is -1: give a number from 0 to 60"),
        ("target_fps", "fast", "target_fps is fast: give a number from 0 to 1000"),
        ("power_budget_w", 10**9, "give a number from 0 to 10000"),
        ("governor_sizes", ["small"], "governor_sizes must be a list of whole numbers, for"),
    ):
        result = set_parameter(client, name, value)
        assert not result.successful, name
        assert reason in result.reason


def test_an_unusable_size_is_one_sentence_at_start(tmp_path: Any, toy: str) -> None:
    log = tmp_path / "node.log"
    parameters = {"model": toy, "governor_sizes": [100]}
    with forked(DETECTOR, log, parameters) as process:
        assert process.process.wait(PATIENCE) == 1
    assert "input size 100 is not usable: give a multiple of 32" in process.output()
    assert "Traceback" not in process.output()
