# SPDX-License-Identifier: Apache-2.0
"""Runs that overlap on a GPU: of TensorRT's double, and one after the other on the CPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from compact_yolo_ros.backends import Backend, RunOptions, open_backend
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.decoding import DecodedImage

Open = Callable[..., Backend]
GREYS = (40, 120, 200, 80, 160)
one_version = pytest.mark.parametrize("trt", ["10.3.0"], indirect=True)


@pytest.fixture
def opened(trt: Any, toy: str) -> Iterator[Open]:
    """Open the toy detector: the score of an image that is one grey is that grey by 255."""
    backends = []

    def begin(**options: Any) -> Backend:
        options = {"backend": "tensorrt", "in_flight": 2, **options}
        backends.append(open_backend(RunOptions(toy, **options)).backend)
        return backends[-1]

    yield begin
    for backend in backends:
        backend.close()


def score_of(candidates: Any, place: int = 0) -> float:
    return 255 * float(candidates[1][place, 0])


@pytest.mark.parametrize("graph", ["yes", "no"])
def test_two_runs_are_under_way_and_end_in_their_order(
    opened: Open, monkeypatch: pytest.MonkeyPatch, graph: str
) -> None:
    if graph == "no":
        monkeypatch.setenv("TENSORRT_DOUBLE_NO_CAPTURE", "1")
    backend = opened()
    assert backend.in_flight == 2
    found = []
    backend.input[:] = GREYS[0]
    backend.start()
    for grey in GREYS[1:]:
        backend.input[:] = grey  # while the run before goes on
        backend.start()
        found.append(score_of(backend.finish()))
    found.append(score_of(backend.finish()))
    np.testing.assert_allclose(found, GREYS, atol=0.3)


@one_version
def test_a_run_is_started_without_waiting_for_another(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = importlib.import_module("pycuda.driver")
    backend = opened()
    with monkeypatch.context() as never:
        never.delattr(driver.Stream, "synchronize")
        for grey in GREYS[:2]:
            backend.input[:] = grey
            backend.start()
    first = backend.finish()
    second = backend.finish()
    found = score_of(first), score_of(second)  # neither has overwritten the other
    np.testing.assert_allclose(found, GREYS[:2], atol=0.3)


@one_version
def test_sizes_and_numbers_of_images_change_while_runs_are_under_way(opened: Open) -> None:
    sizes = (Size(320, 320), Size(352, 288))
    backend = opened(input_sizes=sizes, batch=2)
    for number in range(2):
        backend.resize(sizes[number])
        backend.input[0], backend.input[1] = GREYS[number], GREYS[number + 2]
        backend.start(2 - number)
    first = backend.finish()
    np.testing.assert_allclose([score_of(first, n) for n in (0, 1)], GREYS[0:3:2], atol=0.3)
    second = backend.finish()
    assert len(second[1]) == 1 and score_of(second) == pytest.approx(GREYS[1], abs=0.3)


@one_version
def test_run_keeps_the_input_and_close_waits(trt: Any, toy: str) -> None:
    backend = open_backend(RunOptions(toy, backend="tensorrt", in_flight=2)).backend
    before = backend.input
    backend.input[:] = GREYS[0]
    assert score_of(backend.run()) == pytest.approx(GREYS[0], abs=0.3)
    assert backend.input is before
    backend.start()
    for _ in range(2):
        backend.close()
    with closing(open_backend(RunOptions(toy, backend="tensorrt")).backend) as usual:
        driver = importlib.import_module("pycuda.driver")
        assert (usual.in_flight, len(driver.streams)) == (1, 1)


@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime"])
@one_version
def test_a_detector_answers_in_the_order_of_the_images(trt: Any, toy: str, backend: str) -> None:
    """Also where the next image needs another input, which is opened for it."""
    images = [
        DecodedImage(np.full((*shape, 3), grey, np.uint8), "rgb")
        for grey, shape in zip(GREYS, [(480, 640)] * 2 + [(640, 480)] * 3, strict=True)
    ]
    options = RunOptions(toy, backend=backend, input_sizes=(320,), in_flight=2)
    with closing(Detector.open(options)) as detector:
        expected = [detector.answer(image).copy() for image in images]
        found = []
        for number, image in enumerate(images, 1):
            detector.start(image)
            if number - len(found) == detector.in_flight:
                found.append(detector.finish().copy())
        while len(found) < len(images):
            found.append(detector.finish().copy())
        assert detector.in_flight == (2 if backend == "tensorrt" else 1)
    for one, other in zip(found, expected, strict=True):
        assert one.placement == other.placement
        assert one.inference > 0
        for part, same in zip(one.candidates, other.candidates, strict=True):
            np.testing.assert_allclose(part, same, atol=1e-5)


@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime"])
@one_version
def test_images_of_several_cameras_are_answered_together_as_alone(
    trt: Any, toy: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one run for each size of the input; a place of the batch has its own border."""
    images = []
    for grey, shape in zip(GREYS, [(480, 640), (640, 480), (480, 640), (320, 320)], strict=False):
        pixels = np.full((*shape, 3), 10, np.uint8)
        pixels[64:128, 64:128] = grey
        images.append(DecodedImage(pixels, "rgb"))
    options = RunOptions(toy, backend=backend, input_sizes=(320,), batch=4)
    with closing(Detector.open(options)) as detector:
        assert detector.batch == (4 if backend == "tensorrt" else 1)
        expected = [detector.answer(image).copy() for image in images]
        runs: list[int] = []
        run = type(detector.backend).run

        def counted(self: Any, number: int = 1) -> Any:
            runs.append(number)
            return run(self, number)

        monkeypatch.setattr(type(detector.backend), "run", counted)
        for _ in range(2):
            found = detector.answer_together(images)
            for one, other in zip(found, expected, strict=True):
                assert one.placement == other.placement
                for part, same in zip(one.candidates, other.candidates, strict=True):
                    np.testing.assert_allclose(part, same, atol=1e-4)
        assert runs[-3:] == [2, 1, 1]
        detector.answer(images[1])  # afterwards, one alone fits as before


@one_version
def test_more_images_than_a_run_takes_are_answered_all_the_same(trt: Any, toy: str) -> None:
    """As when the CPU took over since they were taken."""
    images = [DecodedImage(np.full((320, 320, 3), grey, np.uint8), "rgb") for grey in GREYS]
    with closing(Detector.open(RunOptions(toy, backend="tensorrt", batch=2))) as detector:
        found = [score_of(answer.candidates) for answer in detector.answer_together(images)]
    np.testing.assert_allclose(found, GREYS, atol=0.3)
