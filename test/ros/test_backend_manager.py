# SPDX-License-Identifier: Apache-2.0
"""Which backend runs the detector when one fails or other sizes are needed.

The backends are real, on the toy detector; one of them plays a runtime that fails.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Client
from list_logger import ListLogger
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from toy_model import CARD, write_altered, write_toy_model

from compact_yolo_ros.backends import BackendError, BackendLost, RunOptions, open_at_start
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import InputSize, Size
from compact_yolo_ros.ros.detector.backend_manager import FAILURES, BackendManager, SizesOf
from compact_yolo_ros.ros.detector.node import DetectorNode

IMAGE = np.zeros((320, 320, 3), np.uint8)


FIRST, SMALLER, TOO_SMALL = map(Size.square, (320, 288, 160))


def sizes(*wanted: InputSize) -> SizesOf:
    """These sizes, whatever the model."""
    return lambda *_: wanted


class Managed:
    """A manager with its log, and a backend that fails as long as there is an ``error``."""

    def __init__(self, toy: str) -> None:
        self.log = ListLogger()
        options = RunOptions(toy, backend="onnxruntime", input_sizes=(FIRST,), threads=1).pinned()
        self.options = options
        self.manager = BackendManager(options, open_at_start(options), self.log)
        self.detector = self.manager.detector
        self.error: BackendError | None = None
        self.first: Any = self.detector.backend
        self.first.name, self.first.device = "openvino", "some device"
        works = self.first.run

        def run(images: int = 1) -> Any:
            if self.error is not None:
                raise self.error
            return works(images)

        self.first.run = run

    def detect(self) -> bool:
        """Detect once, as the worker does; return whether it worked."""
        try:
            self.detector.detect(IMAGE)
        except BackendError as error:
            self.manager.failed(error)
            return False
        self.manager.succeeded()
        return True

    def wait_for(self, happened: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not happened():
            assert time.monotonic() < end
            self.detect()


@pytest.fixture
def managed(toy: str) -> Iterator[Managed]:
    opened = Managed(toy)
    yield opened
    opened.manager.close()


def test_failures_that_pass_are_not_failures_in_a_row(managed: Managed) -> None:
    for _ in range(3):
        managed.error = BackendError("out of memory")
        assert not any(managed.detect() for _ in range(FAILURES - 1))
        managed.error = None
        assert managed.detect()
    assert managed.detector.backend is managed.first
    assert managed.manager.facts() == {"backend_fallbacks": 0}


@pytest.mark.parametrize(
    ("error", "times"), [(BackendError("out of memory"), FAILURES), (BackendLost("gone"), 1)]
)
def test_the_cpu_takes_over_from_a_backend_that_fails(
    managed: Managed, error: BackendError, times: int
) -> None:
    managed.error = error
    for _ in range(times):
        assert not managed.detect()
    managed.wait_for(lambda: managed.detector.backend is not managed.first)
    opened = managed.detector.opened
    assert opened.backend.name == "onnxruntime"
    assert opened.choice == f"the CPU took over from openvino on some device: {error}"
    assert managed.manager.warning == opened.choice
    assert managed.log.lines == [opened.choice]
    assert managed.manager.facts() == {"backend_fallbacks": 1}
    assert managed.detect()
    # Sizes that are needed later are opened on the CPU too, and the reason stays.
    managed.manager.use_sizes(sizes(FIRST, SMALLER))
    managed.wait_for(lambda: len(managed.detector.backend.sizes) == 2)
    assert managed.manager.warning == opened.choice


def test_the_log_says_from_which_file_another_model_runs(
    managed: Managed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_toy_model(tmp_path / "mine.onnx")
    monkeypatch.setenv("COMPACT_YOLO_MODELS", str(tmp_path))
    options = RunOptions("mine", backend="onnxruntime", input_sizes=(FIRST,), threads=1)
    managed.manager.change(options, lambda card: None)
    managed.wait_for(lambda: bool(managed.log.lines))
    expected = f"The next image runs on toy ({path}), fp32, on onnxruntime (CPU)"
    assert managed.log.lines == [expected]


def test_what_replaces_a_backend_that_fails_is_left_alone(managed: Managed, toy: str) -> None:
    """Its failure is noticed while the other one is being opened."""
    options = RunOptions(toy, backend="openvino", input_sizes=(SMALLER,), threads=1)
    is_noticed = threading.Event()

    def accept(_: ModelCard) -> None:
        is_noticed.wait(20)

    managed.manager.change(options, accept)
    managed.error = BackendLost("gone")
    assert not managed.detect()
    is_noticed.set()
    managed.manager.use_sizes(sizes(SMALLER, FIRST))  # opened after all that was asked for before
    managed.wait_for(lambda: len(managed.detector.backend.sizes) == 2)
    assert managed.detector.backend.name == "openvino"
    assert managed.detector.opened.choice == "as requested"
    assert managed.manager.warning == ""
    assert managed.manager.facts() == {"backend_fallbacks": 0}


def test_a_backend_that_was_given_up_is_opened_again_when_it_is_asked_for(
    managed: Managed,
) -> None:
    manager = managed.manager
    assert not manager.falls_short
    managed.error = BackendLost("gone")
    assert not managed.detect()
    managed.wait_for(lambda: managed.detector.backend is not managed.first)
    assert manager.falls_short
    fallback = managed.detector.backend
    manager.change(managed.options, lambda _: None)
    managed.wait_for(lambda: managed.detector.backend is not fallback)
    assert (manager.falls_short, manager.warning) == (False, "")


def test_there_is_nothing_to_fall_back_to_from_the_cpu(managed: Managed) -> None:
    managed.first.name = "onnxruntime"
    managed.error = BackendLost("gone")
    for _ in range(5):
        assert not managed.detect()
    managed.error = None
    assert managed.detect()
    assert managed.manager.facts() == {"backend_fallbacks": 0}


def test_sizes_that_cannot_be_opened_are_a_warning_and_work_goes_on(managed: Managed) -> None:
    managed.manager.use_sizes(sizes(FIRST, TOO_SMALL))  # too few cells for the toy detector
    managed.wait_for(lambda: bool(managed.manager.warning))
    assert managed.manager.warning.startswith(
        "staying with the input size: ONNX Runtime cannot run"
    )
    assert managed.detector.backend is managed.first
    assert managed.detect()
    managed.manager.use_sizes(sizes(FIRST))  # without a target
    managed.wait_for(lambda: not managed.manager.warning)
    managed.manager.use_sizes(sizes(FIRST, TOO_SMALL))  # and with another one
    managed.wait_for(lambda: bool(managed.manager.warning))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A toy detector that the test may overwrite."""
    return write_toy_model(tmp_path / "mine.onnx")


@pytest.fixture
def overwritten(mine: Path) -> Iterator[Managed]:
    """A detector whose file is another one by now, with the same card."""
    opened = Managed(str(mine))
    write_altered(mine, "scores", "Mul", np.asarray(np.float32(0.5)))
    yield opened
    opened.manager.close()


OVERWRITTEN = "{} has been overwritten since it was opened: set or open the model again"


def test_a_file_that_was_overwritten_is_refused_until_it_is_asked_for(
    overwritten: Managed, mine: Path
) -> None:
    manager, sentence = overwritten.manager, OVERWRITTEN.format(mine)
    assert manager.falls_short
    for times in (1, 2):
        manager.use_sizes(sizes(FIRST, SMALLER))
        overwritten.wait_for(lambda times=times: len(overwritten.log.lines) == times)
        assert manager.facts() == {"backend_fallbacks": 0, "reopenings_failed": times}
    assert manager.warning.startswith(f"staying with the input size: {sentence}")
    assert overwritten.detector.backend is overwritten.first and overwritten.detect()
    manager.change(overwritten.options.change(sha256=""), lambda _: None)
    overwritten.wait_for(lambda: overwritten.detector.backend is not overwritten.first)
    assert (manager.falls_short, manager.warning) == (False, "")
    manager.use_sizes(sizes(FIRST, SMALLER))
    overwritten.wait_for(lambda: len(overwritten.detector.backend.sizes) == 2)


def test_a_file_that_is_put_back_is_opened(mine: Path) -> None:
    managed, content = Managed(str(mine)), mine.read_bytes()
    try:
        write_toy_model(mine, replace(CARD, classes=("rot", "gruen", "blau")))
        managed.manager.use_sizes(sizes(FIRST, SMALLER))
        managed.wait_for(lambda: bool(managed.manager.warning))
        mine.unlink()
        managed.manager.use_sizes(sizes(FIRST, SMALLER))
        managed.wait_for(lambda: "there is no model file" in managed.manager.warning)
        mine.write_bytes(content)
        managed.manager.use_sizes(sizes(FIRST, SMALLER))
        managed.wait_for(lambda: len(managed.detector.backend.sizes) == 2)
        assert (managed.manager.warning, managed.manager.falls_short) == ("", False)
        assert managed.detector.card == CARD
    finally:
        managed.manager.close()


def test_what_was_not_opened_is_asked_for_again_once_the_file_is_put_back(mine: Path) -> None:
    """The camera has one shape only: nothing else asks for it."""
    content, options = mine.read_bytes(), RunOptions(str(mine), input_sizes=(320,), threads=1)
    manager = BackendManager(options.pinned(), open_at_start(options), ListLogger())
    try:
        write_toy_model(mine, replace(CARD, classes=("rot", "gruen", "blau")))
        manager.fit((Size(640, 480),))
        end = time.monotonic() + 20
        while not manager.warning and time.monotonic() < end:
            manager.detector.detect(IMAGE)
        mine.write_bytes(content)
        assert manager.falls_short
        manager.change(options, lambda _: None)
        wait_for_shape(manager, Size(640, 480), Size(320, 256))
        assert (manager.warning, manager.falls_short) == ("", False)
    finally:
        manager.close()


def test_the_cpu_does_not_take_over_with_another_file(overwritten: Managed, mine: Path) -> None:
    overwritten.error = BackendLost("gone")
    assert not overwritten.detect()
    overwritten.wait_for(lambda: OVERWRITTEN.format(mine) in overwritten.manager.warning)
    assert overwritten.manager.warning.startswith("the CPU took over from openvino on some device")
    assert overwritten.detector.backend is overwritten.first
    assert overwritten.manager.falls_short


WIDE, TALL = Size(1280, 720), Size(480, 640)


@pytest.fixture
def fitting(toy: str) -> Iterator[BackendManager]:
    options = RunOptions(toy, input_sizes=(416,), threads=1)
    manager = BackendManager(options, open_at_start(options), ListLogger())
    yield manager
    manager.close()


def wait_for_shape(manager: BackendManager, image: Size, shape: Size) -> None:
    """Detect without a pause; every image must be answered meanwhile."""
    end = time.monotonic() + 20
    while manager.detector.backend.input.shape[1:3] != shape.shape:
        assert time.monotonic() < end
        manager.detector.detect(np.zeros((*image.shape, 3), np.uint8))


def test_inputs_fit_the_cameras_and_others_are_closed(fitting: BackendManager) -> None:
    """The first image, a second camera, a camera that is turned."""
    assert set(fitting.detector.backend.sizes) == {Size.square(416)}
    fitting.detector.detect(np.zeros((*WIDE.shape, 3), np.uint8))
    assert fitting.detector.backend.input.shape[1:3] == (416, 416)  # answered at once
    fitting.fit((WIDE,))
    wait_for_shape(fitting, WIDE, Size(416, 256))
    assert set(fitting.detector.backend.sizes) == {Size(416, 256)}
    fitting.fit((WIDE, TALL))
    wait_for_shape(fitting, TALL, Size(320, 416))
    assert set(fitting.detector.backend.sizes) == {Size(416, 256), Size(320, 416)}
    backend = fitting.detector.backend
    wait_for_shape(fitting, WIDE, Size(416, 256))
    assert fitting.detector.backend is backend  # cameras in turn open nothing
    fitting.fit((TALL,))
    fitting.fit((Size(640, 480),))
    wait_for_shape(fitting, Size(640, 480), Size(416, 320))
    assert set(fitting.detector.backend.sizes) == {Size(416, 320)}
    assert fitting.warning == ""


def test_smaller_inputs_of_the_governor_fit_too(fitting: BackendManager) -> None:
    fitting.fit((Size(640, 480),))
    fitting.use_sizes(sizes(416, 320))
    wait_for_shape(fitting, Size(640, 480), Size(416, 320))
    end = time.monotonic() + 20
    while len(fitting.detector.backend.sizes) < 2 and time.monotonic() < end:
        fitting.detector.detect(IMAGE)
    assert set(fitting.detector.backend.sizes) == {Size(416, 320), Size(320, 256)}
    fitting.detector.resize(320)
    wait_for_shape(fitting, Size(640, 480), Size(320, 256))


def test_an_input_that_cannot_be_opened_is_a_warning_and_images_are_answered(toy: str) -> None:
    options = RunOptions(toy, input_sizes=(320,), threads=1)
    manager = BackendManager(options, open_at_start(options), ListLogger())
    try:
        manager.fit((WIDE,))  # 320x192 has too few cells for the toy detector
        end = time.monotonic() + 20
        while not manager.warning and time.monotonic() < end:
            manager.detector.detect(IMAGE)
        assert manager.warning.startswith("staying with the input size: ONNX Runtime cannot run")
        manager.detector.detect(np.zeros((*WIDE.shape, 3), np.uint8))
        for _ in range(2):  # the second time, what fits is open already
            manager.fit((Size(640, 480),))
            wait_for_shape(manager, Size(640, 480), Size(320, 256))
            while manager.warning and time.monotonic() < end:
                manager.detector.detect(IMAGE)
            assert manager.warning == ""
            manager.fit((WIDE,))
            while not manager.warning and time.monotonic() < end:
                manager.detector.detect(IMAGE)
            assert manager.warning
    finally:
        manager.close()


def test_closing_waits_for_what_is_being_opened(toy: str) -> None:
    managed = Managed(toy)
    managed.manager.use_sizes(sizes(FIRST, SMALLER))
    managed.manager.close()
    managed.manager.failed(BackendLost("gone"))  # by a worker that still has its last image
    with pytest.raises(AttributeError):
        managed.detector.backend.run()


@pytest.mark.ros
def test_what_is_opened_beside_the_rest_is_released_if_a_parameter_is_refused(
    client: Client, toy: str
) -> None:
    given = {"model": toy, "classes": ["dragon"], "cpu_threads": 1}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    node = client.host(DetectorNode(context=client.context, parameter_overrides=overrides))
    threads, publishers = set(threading.enumerate()), set(node.publishers)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    client.wait_for(lambda: set(threading.enumerate()) <= threads)
    assert set(node.publishers) == publishers
