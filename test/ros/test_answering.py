# SPDX-License-Identifier: Apache-2.0
"""What keeps the detector answering, and at which size, without ROS: the keeper and the governing.

The backends are real, on the toy detector; one of them plays a runtime that fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from toy_model import write_toy_model

from compact_yolo_ros.backends import BackendError, BackendLost, RunOptions, open_backend
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.detection.governor import Targets
from compact_yolo_ros.machine.power import NO_READING, PowerSummary
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.ros.detector import governing as governing_module
from compact_yolo_ros.ros.detector.backend_manager import FAILURES, BackendKeeper
from compact_yolo_ros.ros.detector.governing import Governing

IMAGE = np.zeros((320, 320, 3), np.uint8)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_toy_model(tmp_path_factory.mktemp("models") / "toy.onnx"))


class Kept:
    """A keeper with what it said, and a backend that fails when it is told to."""

    def __init__(self, toy: str) -> None:
        self.said: list[str] = []
        options = RunOptions(toy, backend="onnxruntime", input_sizes=(Size.square(320),), threads=1)
        self.keeper = BackendKeeper(options, self.said.append, self.said.append)
        self.detector = self.keeper.detector
        self.error: BackendError | None = None
        self.first: Any = self.detector.backend
        self.first.name, self.first.device = "openvino", "some device"
        works = self.first.run

        def run(images: int = 1) -> Any:
            if self.error is not None:
                raise self.error
            return works(images)

        self.first.run = run

    def answer(self) -> bool:
        """Detect once, as the worker does."""
        try:
            self.detector.detect(IMAGE)
        except BackendError as error:
            self.keeper.failed(error)
            return False
        self.keeper.answered()
        return True

    def wait_for(self, happened: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not happened():
            assert time.monotonic() < end
            self.answer()


@pytest.fixture
def kept(toy: str) -> Iterator[Kept]:
    opened = Kept(toy)
    yield opened
    opened.keeper.close()


def test_failures_that_pass_are_not_failures_in_a_row(kept: Kept) -> None:
    for _ in range(3):
        kept.error = BackendError("out of memory")
        assert not any(kept.answer() for _ in range(FAILURES - 1))
        kept.error = None
        assert kept.answer()
    assert kept.detector.backend is kept.first
    assert kept.keeper.facts() == {"backend_fallbacks": 0}


@pytest.mark.parametrize(
    ("error", "times"), [(BackendError("out of memory"), FAILURES), (BackendLost("gone"), 1)]
)
def test_the_cpu_takes_over_from_a_backend_that_fails(
    kept: Kept, error: BackendError, times: int
) -> None:
    kept.error = error
    for _ in range(times):
        assert not kept.answer()
    kept.wait_for(lambda: kept.detector.backend is not kept.first)
    opened = kept.detector.opened
    assert opened.backend.name == "onnxruntime"
    assert opened.choice == f"the CPU took over from openvino on some device: {error}"
    assert kept.keeper.warning == opened.choice
    assert kept.said == [opened.choice]
    assert kept.keeper.facts() == {"backend_fallbacks": 1}
    assert kept.answer()
    # Sizes that are wanted later are opened on the CPU too, and the reason stays.
    kept.keeper.use_sizes([Size.square(288)])
    kept.wait_for(lambda: len(kept.detector.backend.sizes) == 2)
    assert kept.keeper.warning == opened.choice


def test_there_is_nothing_to_fall_back_to_from_the_cpu(kept: Kept) -> None:
    kept.first.name = "onnxruntime"
    kept.error = BackendLost("gone")
    for _ in range(5):
        assert not kept.answer()
    kept.error = None
    assert kept.answer()
    assert kept.keeper.facts() == {"backend_fallbacks": 0}


def test_sizes_that_cannot_be_opened_are_a_warning_and_work_goes_on(kept: Kept) -> None:
    kept.keeper.use_sizes([Size.square(160)])  # too few cells for the toy detector
    kept.wait_for(lambda: bool(kept.keeper.warning))
    assert kept.keeper.warning.startswith("staying with the input size: ONNX Runtime cannot run")
    assert kept.detector.backend is kept.first
    assert kept.answer()
    kept.keeper.use_sizes([])  # there is no target any more
    assert kept.keeper.warning == ""
    kept.keeper.use_sizes([Size.square(160)])  # and now there is another one
    kept.wait_for(lambda: bool(kept.keeper.warning))


def test_closing_waits_for_what_is_being_opened(toy: str) -> None:
    kept = Kept(toy)
    kept.keeper.use_sizes([Size.square(288)])
    kept.keeper.close()
    kept.keeper.failed(BackendLost("gone"))  # by a worker that is still at its last image
    with pytest.raises(AttributeError):
        kept.detector.backend.run()


def times(total: float, waiting: float = 0.0) -> FrameTimes:
    inference = total - waiting
    return FrameTimes(total, waiting, 0, 0, inference, 0, 0, 0, total)


def make_governing(toy: str, targets: Targets, said: list[str] | None = None) -> Governing:
    detector = Detector.open(
        RunOptions(toy, input_sizes=(Size.square(416), Size.square(288)), threads=1)
    )
    return Governing(detector, targets, lambda: None, (said if said is not None else []).append)


def test_it_resizes_the_detector_and_logs_rarely(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    governing = make_governing(toy, Targets(latency=0.05), said)
    now = [100.0]
    monkeypatch.setattr(governing_module, "monotonic", lambda: now[0])
    detector = governing._detector

    def after(answers: int, seconds: float) -> int:
        for _ in range(answers):
            governing.answered("a", times(seconds))
        return detector.backend.input.shape[1]

    assert after(5, 0.03) == 416
    assert after(3, 0.09) == 288
    assert said == ["Input from 416x416 to 288x288: an answer took 90 ms, max_latency is 50"]
    assert after(60, 0.005) == 416  # within five seconds of the clock, so nothing is logged
    now[0] += 6
    assert after(3, 0.09) == 288
    assert len(said) == 2
    assert governing.facts()["governor_switches"] == 3


def test_images_are_left_out_of_each_camera_by_itself(toy: str) -> None:
    governing = make_governing(toy, Targets(latency=0.05, max_skip=1))
    for _ in range(30):
        governing.answered("a", times(0.08, waiting=0.06))
    assert governing.facts()["governor_skip"] == 1
    assert [governing.admits("a") for _ in range(3)] == [False, True, True]
    assert governing.admits("b")
    governing.answered("b", times(0.03))
    assert [governing.admits(camera) for camera in "baab"] == [False, True, True, True]


def test_a_new_backend_brings_its_own_sizes(toy: str) -> None:
    governing = make_governing(toy, Targets(latency=0.01))
    for _ in range(5):
        governing.answered("a", times(0.03))
    detector = governing._detector
    options = RunOptions(toy, input_sizes=(Size.square(320),), threads=1)
    detector.replace_backend(open_backend(options))
    detector.detect(IMAGE)
    governing.answered("a", times(0.03))
    assert governing.facts()["governor_sizes"] == "320"
    assert detector.backend.input.shape[1] == 320


def power(watts: float | None, problem: str = "") -> PowerSummary:
    return PowerSummary("rapl", None, watts, {}, {}, None, problem)


def test_a_budget_without_watts_is_told(toy: str) -> None:
    governing = make_governing(toy, Targets(watts=5))
    assert governing.warning(power(4.0)) == ""
    assert governing.warning(power(None, NO_READING)) == ""
    sentence = "power_budget_w is ignored, the power cannot be read"
    assert governing.warning(power(None, "no permission")) == f"{sentence} (rapl: no permission)"
    assert governing.warning(None) == f"{sentence} (power is none)"
    governing.targets = Targets()
    assert governing.warning(None) == ""
    assert governing.facts() == {"governor": "off"}
