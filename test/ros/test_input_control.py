# SPDX-License-Identifier: Apache-2.0
"""Input sizes and skipped images as the governor decides, on the toy detector, without ROS."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from list_logger import ListLogger
from toy_model import CARD

from compact_yolo_ros.backends import RunOptions, open_backend
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.detection.governor import Targets
from compact_yolo_ros.machine.power import NO_READING, PowerSummary
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.ros.detector import input_control
from compact_yolo_ros.ros.detector.input_control import InputControl
from compact_yolo_ros.ros.detector.parameters import check_value, input_sizes

IMAGE = np.zeros((320, 320, 3), np.uint8)
LARGE, SMALL = Size.square(416), Size.square(288)


def times(total: float, waiting: float = 0.0) -> FrameTimes:
    inference = total - waiting
    return FrameTimes(total, waiting, 0, 0, inference, 0, 0, 0, total)


def make_control(toy: str, targets: Targets, log: Any = None) -> InputControl:
    detector = Detector.open(RunOptions(toy, input_sizes=(LARGE, SMALL), threads=1))
    # How the sizes compare is not measured here: another program may slow one of them down.
    detector.backend.sizes.update({LARGE: 2.0, SMALL: 1.0})
    return InputControl(detector, targets, log or ListLogger())


def test_it_resizes_the_detector_and_logs_rarely(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ListLogger()
    control = make_control(toy, Targets(latency=0.05), log)
    now = [100.0]
    monkeypatch.setattr(input_control, "monotonic", lambda: now[0])
    detector = control._detector

    def after(images: int, seconds: float) -> int:
        for _ in range(images):
            control.observe("a", times(seconds), None)
        detector.detect(IMAGE)
        return detector.backend.input.shape[1]

    assert after(5, 0.03) == 416
    assert after(3, 0.09) == 288
    assert log.lines == ["Input from 416 to 288: the latency was 90 ms, max_latency is 50"]
    assert after(60, 0.005) == 416  # within five seconds of the clock, so nothing is logged
    now[0] += 6
    assert after(3, 0.09) == 288
    assert len(log.lines) == 2
    assert control.facts()["governor_switches"] == 3


def test_images_are_skipped_of_each_camera_by_itself(toy: str) -> None:
    control = make_control(toy, Targets(latency=0.05, max_skip=1))
    for _ in range(30):
        control.observe("a", times(0.08, waiting=0.06), None)
    assert control.facts()["governor_skip"] == 1
    assert [control.admits("a") for _ in range(3)] == [False, True, True]
    assert control.admits("b")
    control.observe("b", times(0.03), None)
    assert [control.admits(camera) for camera in "baab"] == [False, True, True, True]


def test_other_targets_count_from_the_next_image_on(toy: str) -> None:
    """What the ones before had skipped is admitted, which may be ten images of a slow camera."""
    control = make_control(toy, Targets(latency=0.05, max_skip=3))
    for _ in range(30):
        control.observe("a", times(0.08, waiting=0.06), None)
    assert not control.admits("a")
    control.targets = Targets(latency=0.05, max_skip=3)  # as before
    assert not control.admits("a")
    control.targets = Targets()
    assert control.admits("a")


def test_images_that_go_together_share_their_time_where_a_rate_is_to_be_held(toy: str) -> None:
    """Four in 40 ms are 100 a second, of a latency of 40 ms each."""
    for together, fps, latency, state in (
        (4, 80, 0.05, "holding"),
        (1, 80, 0.05, "over target"),
        (4, 120, 0.05, "over target"),
        (4, 80, 0.03, "over target"),
    ):
        control = make_control(toy, Targets(fps=fps, latency=latency))
        for _ in range(10):
            control.observe("a", times(0.04), None, together)
        assert control.facts()["governor"] == state
    assert control.facts()["governor_reason"].endswith("the latency was 40 ms, max_latency is 30")
    control = make_control(toy, Targets(fps=120))
    for _ in range(10):
        control.observe("a", times(0.04), None, 4)
    assert control.facts()["governor_reason"].endswith("an image took 10 ms, target_fps leaves 8")


def test_a_new_backend_brings_its_own_sizes(toy: str) -> None:
    control = make_control(toy, Targets(latency=0.01))
    for _ in range(5):
        control.observe("a", times(0.03), None)
    detector = control._detector
    options = RunOptions(toy, input_sizes=(Size.square(320),), threads=1)
    detector.replace_backend(open_backend(options))
    detector.detect(IMAGE)
    control.observe("a", times(0.03), None)
    assert control.facts()["governor_sizes"] == "320"
    assert detector.backend.input.shape[1] == 320


def test_a_smaller_size_that_is_known_to_be_slower_is_no_way_down(toy: str) -> None:
    """As where only the larger one has an engine."""
    detector = Detector.open(RunOptions(toy, input_sizes=(LARGE, SMALL), threads=1))
    detector.backend.sizes.update({LARGE: 1.0, SMALL: inf})
    control = InputControl(detector, Targets(latency=0.01), ListLogger())
    assert control.facts()["governor_sizes"] == "416"
    for _ in range(5):
        control.observe("a", times(0.03), None)
    detector.detect(IMAGE)
    assert detector.backend.input.shape[1] == 416
    assert "416 is the last resort" in control.warning(None)


TARGET = {"target_fps": 0.0, "max_latency": 0.05, "power_budget_w": 0.0, "governor_skip": 0}


@pytest.mark.parametrize(
    ("own", "value", "latency", "sizes"),
    [
        ({}, "auto", 0.0, [320]),
        ({}, 0, 0.05, [320, 224]),
        ({}, 416, 0.05, [416, 224, 320]),
        ({}, "416", 0.0, [416]),
        ({}, "square", 0.05, [(320, 320), (224, 224)]),
        ({}, "320x192", 0.05, [(320, 192), (224, 160)]),
        ({"resize": "stretch"}, "auto", 0.05, [(320, 320), (224, 224)]),
        ({"default_size": 416, "default_height": 256}, 0, 0.0, [(416, 256)]),
        (
            {"default_size": 416, "default_height": 256},
            0,
            0.05,
            [(416, 256), (224, 160), (320, 224)],
        ),
        ({"default_size": 416, "default_height": 256}, 320, 0.0, [320]),
        ({"default_size": 416, "default_height": 256}, "square", 0.0, [(416, 416)]),
        (
            {"default_size": 256, "default_height": 640},
            0,
            0.05,
            [(256, 640), (128, 224), (128, 320)],
        ),
        ({"default_size": 56, "any_size": True}, "auto", 0.05, [(56, 56)]),
        ({"default_size": 56, "any_size": True}, "square", 0.05, [(56, 56)]),
    ],
)
def test_the_node_runs_a_network_at_its_own_shape(
    own: dict, value: int | str, latency: float, sizes: list
) -> None:
    values = TARGET | {"input_size": value, "max_latency": latency, "governor_sizes": [224, 320]}
    assert list(input_sizes(values, replace(CARD, **own))) == sizes


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (330, "input size 330 is not usable: give a multiple of 32 from 160 to 1280"),
        ("128", "input size 128 is not usable"),
        ("320x100", "input size 100 is not usable"),
        ("160x96", "give at least the pixels of 160x160"),
        ("320x0", "input size 0 is not usable"),
        ("-320x-320", "not usable"),
        ("wide", "'wide' is not of the form 320 or WIDTHxHEIGHT"),
        ("9" * 5000, "is not of the form 320 or 320x192"),
        (320.0, "input_size 320.0 is not of the form"),
        (True, "input_size True is not of the form"),
        (None, "input_size has no value"),
        ([320], r"input_size \[320\] is not of the form"),
    ],
)
def test_an_input_size_that_cannot_be_used_is_explained(value: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_value("input_size", value)


def test_a_rectangular_detector_is_resized_to_rectangles(toy: str) -> None:
    wide, small = Size(416, 256), Size(352, 224)
    detector = Detector.open(RunOptions(toy, input_sizes=(wide, small), threads=1))
    detector.backend.sizes.update({wide: 2.0, small: 1.0})
    control = InputControl(detector, Targets(latency=0.01), ListLogger())
    for _ in range(5):
        control.observe("a", times(0.03), None)
    detector.detect(IMAGE)
    assert detector.backend.input.shape[1:3] == small.shape


def power(watts: float | None, problem: str = "") -> PowerSummary:
    return PowerSummary("rapl", None, watts, {}, {}, None, problem)


def test_a_budget_without_watts_is_a_warning(toy: str) -> None:
    control = make_control(toy, Targets(watts=5))
    assert control.warning(power(4.0)) == ""
    assert control.warning(power(None, NO_READING)) == ""
    sentence = "power_budget_w is ignored because power cannot be read"
    assert control.warning(power(None, "no permission")) == f"{sentence} (rapl: no permission)"
    assert control.warning(None) == f"{sentence} (parameter power is none)"
    control.targets = Targets()
    assert control.warning(None) == ""
    assert control.facts() == {"governor": "off"}
