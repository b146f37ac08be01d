# SPDX-License-Identifier: Apache-2.0
"""Detector with a real ONNX Runtime session: boxes come back in the image's own pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stepped_clock import SteppedClock
from toy_model import CARD, CELL, write_store, write_toy_model

from compact_yolo_ros.backends import BackendError, Opened, RunOptions, open_backend
from compact_yolo_ros.detection import detector as detector_module
from compact_yolo_ros.detection import network_input
from compact_yolo_ros.detection.detector import Detector, Prepared, StageTimes
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.detection.view import Area, View
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError, find_model
from compact_yolo_ros.pixels.decoding import DecodedImage, ImageDecoder
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.letterbox import Letterbox, Placement

PLACE = Placement.fit
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_toy_model(tmp_path_factory.mktemp("models") / "toy.onnx"))


@pytest.fixture(scope="module")
def detector(toy: str) -> Detector:
    return Detector.open(RunOptions(toy, threads=1), selection=Selection(score_threshold=0.9))


@pytest.fixture
def square(toy: str) -> Iterator[Detector]:
    """Its input has one size, whatever the images."""
    with closing(Detector.open(RunOptions(toy, input_sizes=(Size(320, 320),)))) as detector:
        yield detector


def picture(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


@pytest.mark.parametrize("name", COLOURS)
def test_a_square_is_found_where_it_was_painted_in_a_larger_image(
    detector: Detector, name: str
) -> None:
    image = picture(480, 640)  # half size in the input, with 40 rows of padding above
    image[80 : 80 + 32, 160 : 160 + 32] = COLOURS[name]
    # The square fills one cell of the input exactly: 80 / 2 + 40 = 80 = 5 cells, 160 / 2 = 5 cells.
    found = detector.detect(image, "rgb")
    assert len(found) == 1
    assert CARD.classes[found.labels[0]] == name
    np.testing.assert_allclose(found.boxes[0], [160, 80, 192, 112], atol=1e-3)
    assert found.scores[0] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("colour", ["bgr", "bgra", "rgba"])
def test_every_channel_order_is_understood(detector: Detector, colour: str) -> None:
    image = np.zeros((320, 320, len(colour)), np.uint8)
    image[32:48, 64:80, colour.index("r")] = 255
    found = detector.detect(image, colour)
    assert [CARD.classes[label] for label in found.labels] == ["red"]
    np.testing.assert_allclose(found.boxes[0], [64, 32, 80, 48], atol=1e-3)


def test_a_grey_image_is_accepted(detector: Detector) -> None:
    image = np.zeros((320, 320), np.uint8)
    image[32:48, 64:80] = 255
    np.testing.assert_allclose(detector.detect(image, "grey").boxes, [[64, 32, 80, 48]], atol=1e-3)


BLACK = np.zeros((320, 320, 4), np.uint8)


@pytest.mark.parametrize(
    ("image", "colour", "sentence"),
    [
        (BLACK[..., :3].astype(np.uint16), "bgr", "has pixels of type uint16"),
        (BLACK[..., :3].astype(np.float32), "rgb", "has pixels of type float32"),
        (BLACK[..., :3].astype(bool), "bgr", "has pixels of type bool"),
        (BLACK, "rgb", r"has the shape \(320, 320, 4\)"),
        (BLACK, "bgr", r"has the shape \(320, 320, 4\)"),
        (BLACK[..., :3], "rgba", r"has the shape \(320, 320, 3\)"),
        (BLACK[..., 0], "rgb", r"has the shape \(320, 320\)"),
        (BLACK[..., 0], "bgr", r"has the shape \(320, 320\)"),
        (BLACK[..., :3], "grey", r"has the shape \(320, 320, 3\)"),
        (BLACK[0, :, 0], "grey", r"has the shape \(320,\)"),
        (BLACK[None, ..., :3], "bgr", r"has the shape \(1, 320, 320, 3\)"),
        (BLACK[:0, :, :3], "bgr", r"has the shape \(0, 320, 3\)"),
        (None, "bgr", "is a NoneType"),  # what cv2.imread returns of a file that it cannot read
    ],
)
def test_pixels_that_are_not_of_the_colour_are_refused_and_not_taken_for_the_image_before(
    detector: Detector, image: Any, colour: str, sentence: str
) -> None:
    assert len(detector.detect(np.full((320, 320, 3), 255, np.uint8))) > 0
    with pytest.raises(ImageError, match=sentence) as caught:
        detector.detect(image, colour)
    shape = "(h, w)" if colour == "grey" else f"(h, w, {len(colour)})"
    assert f"give a numpy array of uint8, {shape}" in str(caught.value)


def test_a_colour_that_does_not_exist_is_refused(detector: Detector) -> None:
    with pytest.raises(ImageError, match="colour is 'gray': give one of bgr, rgb, bgra, rgba, gre"):
        detector.detect(BLACK[..., 0], "gray")


def test_a_grey_image_may_have_an_axis_of_one_channel(detector: Detector) -> None:
    image = np.zeros((320, 320, 1), np.uint8)
    image[32:48, 64:80] = 255
    np.testing.assert_allclose(detector.detect(image, "grey").boxes, [[64, 32, 80, 48]], atol=1e-3)


@pytest.mark.parametrize(("side", "reduction"), [(1280, 4), (2560, 8), (1282, 4), (1276, 2)])
def test_boxes_of_a_reduced_image_are_in_the_pixels_of_the_whole(
    detector: Detector, side: int, reduction: int
) -> None:
    """A square of a cell in the lower right corner, whose box must not leave the image."""
    pixels = picture(side, side)
    pixels[side - side // 20 :, side - side // 20 :] = (0, 0, 255)
    file = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, 98))[1]
    message = SimpleNamespace(format="jpeg", data=file.tobytes())
    image = ImageDecoder().compressed(message, detector.window)
    assert (image.reduction, image.size) == (reduction, (side, side))
    (box,) = detector.detect_decoded(image).boxes
    np.testing.assert_allclose(box, [side * 0.95, side * 0.95, side, side], atol=reduction)
    assert max(box) <= side


def test_the_window_follows_the_input(toy: str) -> None:
    sizes = (Size(320, 320), Size(512, 416))
    with closing(Detector.open(RunOptions(toy, threads=1, input_sizes=sizes))) as detector:
        assert detector.window((640, 480)) == (320, 240)
        detector.resize(sizes[1])
        assert detector.window((640, 480)) == (512, 384)
        assert detector.window((3, 4000)) == (1, 416)


def test_padded_rows_change_nothing(detector: Detector) -> None:
    wide = np.full((480, 700, 3), 255, np.uint8)
    view = wide[:, :640]
    view[...] = 0
    view[80:112, 160:192] = (0, 0, 255)
    np.testing.assert_array_equal(detector.detect(view).boxes, detector.detect(view.copy()).boxes)


def test_images_of_changing_size_do_not_leave_traces_of_each_other(detector: Detector) -> None:
    white = np.full((320, 320, 3), 255, np.uint8)
    assert len(detector.detect(white)) > 0
    assert len(detector.detect(picture(100, 320))) == 0
    assert len(detector.detect(picture(320, 100))) == 0


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("roi", [(0, 0, 0, 0), (40, 0, 100, 160)])
def test_a_turned_image_leaves_no_trace_around_the_next_one(
    square: Detector, rotation: int, roi: tuple[int, int, int, int]
) -> None:
    """Two cameras share an input, or ``rotation`` goes back to 0; the image keeps its size."""
    image = picture(100, 320)
    shown = np.empty((320, 320, 3), np.uint8)
    Letterbox(shown)(image, "bgr")
    square.detect(image)
    white = DecodedImage(np.full((320, 320, 3), 255, np.uint8), "bgr")
    for view in (View(rotation, Area(*roi)), View(rotation, tiles=(2, 2))):
        square.detect_decoded(white, view)
        assert len(square.detect(image)) == 0
        np.testing.assert_array_equal(square.backend.input[0], shown)


def test_an_input_that_was_prepared_elsewhere_leaves_no_trace_around_the_next_image(
    square: Detector,
) -> None:
    image = picture(100, 320)
    shown, pixels = np.empty((2, 320, 320, 3), np.uint8)
    Letterbox(shown)(image, "bgr")
    square.detect(image)
    white = np.full((320, 320, 3), 255, np.uint8)
    prepared = Prepared(pixels, Letterbox(pixels)(white, "bgr"), 0.0)
    square.answer(DecodedImage(white, "bgr"), prepared)
    np.testing.assert_array_equal(square.backend.input[0], pixels)
    square.detect(image)
    np.testing.assert_array_equal(square.backend.input[0], shown)


def test_the_border_is_painted_only_where_something_else_was_painted(
    square: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = []
    monkeypatch.setattr(Placement, "fit", lambda *place: placed.append(place) or PLACE(*place))
    for _ in range(3):
        square.detect(picture(110, 320))
        square.detect_decoded(DecodedImage(picture(110, 320), "bgr"), View(roi=Area(0, 0, 9, 9)))
    assert len(placed) == 6
    for _ in range(3):
        square.detect(picture(120, 320))
    assert len(placed) == 7


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 900),
    width=st.integers(1, 900),
    colour=st.sampled_from(["bgr", "rgb", "rgba", "bgra", "grey"]),
)
def test_boxes_are_inside_any_image(
    detector: Detector, height: int, width: int, colour: str
) -> None:
    shape = (height, width) if colour == "grey" else (height, width, len(colour))
    found = detector.detect(np.full(shape, 255, np.uint8), colour)
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= [width, height]).all()
    assert (np.diff(found.scores) <= 0).all()


def test_a_rectangular_input_is_used_as_asked(toy: str) -> None:
    detector = Detector.open(RunOptions(toy, input_sizes=(Size(320, 256),), threads=1))
    image = picture(256, 320)
    image[CELL : 2 * CELL, :CELL] = 255
    assert detector.backend.input.shape == (1, 256, 320, 3)
    np.testing.assert_allclose(detector.detect(image).boxes, [[0, 16, 16, 32]], atol=1e-3)


def test_boxes_are_in_image_pixels_whatever_the_input_size(toy: str) -> None:
    sizes = tuple(map(Size.square, (320, 640, 960)))
    detector = Detector.open(RunOptions(toy, input_sizes=sizes, threads=1))
    image = picture(480, 640)
    image[80:144, 192:256] = 255  # a block of whole cells at every size
    for size in sizes * 2:
        detector.resize(size)
        found = detector.detect(image)
        assert detector.backend.input.shape == (1, *size.shape, 3)
        best = found.boxes[found.scores > 0.9]
        assert len(best) == (size.width // 160) ** 2
        np.testing.assert_allclose(best[:, :2].min(0), [192, 80], atol=1e-3)
        np.testing.assert_allclose(best[:, 2:].max(0), [256, 144], atol=1e-3)


def test_a_new_backend_is_used_at_the_size_in_use_if_it_has_it(toy: str) -> None:
    def opened(*sides: int) -> Opened:
        sizes = tuple(map(Size.square, sides))
        return open_backend(RunOptions(toy, input_sizes=sizes, threads=1))

    detector = Detector(opened(320, 288))
    detector.resize(Size.square(288))
    for backend, expected in ((opened(320), 320), (opened(416, 320, 288), 288)):
        detector.replace_backend(backend)
        detector.detect(picture(100, 100))
        assert detector.backend.input.shape[1] == expected


def test_each_image_gets_the_input_that_fits_it_and_boxes_stay_right(toy: str) -> None:
    detector = Detector.open(RunOptions(toy, input_sizes=(416,), threads=1))
    for height, width, shape in ((720, 1280, (256, 416)), (640, 480, (416, 320))) * 2:
        image = picture(height, width)
        image[80:240, 160:320] = 255
        assert detector.input_size(width, height).shape == shape
        found = detector.detect(image)
        assert detector.backend.input.shape[1:3] == shape
        assert detector.input_size(width, height).shape == shape
        best = found.boxes[found.scores > 0.9]
        tolerance = 16 * max(height, width) / 416
        np.testing.assert_allclose(best.min(0)[:2], [160, 80], atol=tolerance)
        np.testing.assert_allclose(best.max(0)[2:], [320, 240], atol=tolerance)
    assert set(detector.backend.sizes) == {Size(416, 256), Size(320, 416)}  # no square any more


def test_sizes_of_known_images_are_open_from_the_start(toy: str) -> None:
    options = RunOptions(toy, input_sizes=(416,), image_sizes=((1280, 720),), threads=1)
    detector = Detector.open(options)
    backend = detector.backend
    assert list(backend.sizes) == [Size(416, 256)]
    detector.detect(picture(720, 1280))
    assert detector.backend is backend


def test_only_the_sizes_that_were_used_last_stay_open(
    toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_input, "MOST_SIZES", 2)
    detector = Detector.open(RunOptions(toy, input_sizes=(416,), threads=1))
    for height, width in ((720, 1280), (480, 640), (720, 1280), (640, 480)):
        detector.detect(picture(height, width))
    assert set(detector.backend.sizes) == {Size(416, 256), Size(320, 416)}


def test_an_image_whose_input_cannot_be_opened_is_answered_all_the_same(toy: str) -> None:
    detector = Detector.open(RunOptions(toy, threads=1))
    image = picture(180, 320)  # at 320x192 the toy has too few cells
    image[16:48, 32:64] = 255
    for _ in range(2):
        np.testing.assert_allclose(detector.detect(image).boxes.min(0)[:2], [32, 10], atol=3)
    assert list(detector.backend.sizes) == [Size.square(320)]
    assert "images that 320x192 would fit have another input: ONNX" in detector.opened.warning


def test_an_input_that_could_not_be_opened_is_tried_again_less_and_less_often(
    toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory, for example, may have been short."""
    detector = Detector.open(RunOptions(toy, input_sizes=(416,), threads=1))
    now, tried, image = [100.0], [], picture(720, 1280)
    reopen = detector._input._reopen

    def out_of_memory(sizes: tuple[Size, ...]) -> Opened:
        tried.append(now[0])
        raise BackendError("no memory is left")

    monkeypatch.setattr(network_input, "monotonic", lambda: now[0])
    monkeypatch.setattr(detector._input, "_reopen", out_of_memory)
    for second in range(100, 500):
        now[0] = float(second)
        detector.detect(image)
    assert tried == [100, 160, 280]
    assert "no memory is left" in detector.opened.warning
    monkeypatch.setattr(detector._input, "_reopen", reopen)
    now[0] = 520.0
    assert detector.input_size(1280, 720) == (416, 256)
    detector.detect(image)
    assert list(detector.backend.sizes) == [Size(416, 256)]
    assert not detector.opened.warning


def test_a_network_that_cannot_fit_known_images_keeps_its_square(toy: str) -> None:
    options = RunOptions(toy, threads=1, image_sizes=((320, 180),))  # too few cells again
    detector = Detector.open(options)
    assert list(detector.backend.sizes) == [Size.square(320)]
    assert detector.opened.warning.startswith("the input does not fit the images: ONNX Runtime")
    with pytest.raises(BackendError, match="ONNX Runtime cannot run"):
        Detector.open(RunOptions(toy, threads=1, input_sizes=((160, 160),), image_sizes=((9, 9),)))


def test_a_network_that_stretches_images_keeps_its_square(tmp_path: Path) -> None:
    path = write_toy_model(tmp_path / "stretch.onnx", replace(CARD, resize="stretch"))
    detector = Detector.open(str(path))
    detector.detect(picture(480, 640))
    assert detector.backend.input.shape[1:3] == (320, 320)


def test_until_another_thread_has_opened_its_size_an_image_gets_the_nearest(toy: str) -> None:
    options = RunOptions(toy, input_sizes=(416,), threads=1)
    detector = Detector(open_backend(options))
    image = picture(480, 640)
    image[96:192, 96:192] = 255
    square = detector.detect(image)
    assert detector.backend.input.shape[1:3] == (416, 416)
    fitting = open_backend(options.change(image_sizes=((640, 480),)))
    detector.replace_backend(fitting)
    found = detector.detect(image)
    assert detector.backend is fitting.backend
    assert detector.backend.input.shape[1:3] == (320, 416)
    assert len(square) and len(found)
    detector.detect(picture(640, 480))  # the camera was turned: smaller, but answered
    assert detector.backend.input.shape[1:3] == (320, 416)


def test_a_caller_can_choose_when_another_network_is_used(toy: str) -> None:
    options = RunOptions(toy, threads=1)
    detector = Detector(open_backend(options))
    detector.changes_by_itself = False
    first, second = detector.backend, open_backend(options)
    detector.replace_backend(second)
    detector.detect(picture(320, 320))
    detector.answer_together([DecodedImage(picture(320, 320), "bgr")])
    assert detector.backend is first
    detector.use_newest()
    assert detector.backend is second.backend


def test_of_networks_that_wait_for_an_image_only_the_newest_is_kept(toy: str) -> None:
    """A node that is disabled or has no camera may be told one model after the other."""
    options = RunOptions(toy, threads=1)
    detector = Detector(open_backend(options))
    first, *later = detector.backend, *(open_backend(options) for _ in range(3))
    for opened in later:
        detector.replace_backend(opened)
    for opened in later[:-1]:
        with pytest.raises(AttributeError):
            opened.backend.run()  # it was closed
    assert detector.backend is first
    detector.detect(picture(320, 320))
    assert detector.opened is later[-1]


def test_selection_can_change_between_images(toy: str) -> None:
    detector = Detector.open(RunOptions(toy, threads=1))
    image = picture(320, 320)
    image[:16, :16] = (255, 0, 0)
    image[:16, 32:48] = (0, 255, 0)
    assert len(detector.detect(image, "rgb")) == 2
    detector.selection = detector.selection.change(labels=detector.labels_of(["green"]))
    assert [CARD.classes[label] for label in detector.detect(image, "rgb").labels] == ["green"]
    detector.selection = detector.selection.change(labels=None, max_detections=1)
    assert len(detector.detect(image, "rgb")) == 1


def test_what_lies_wholly_in_the_padding_is_no_detection(toy: str) -> None:
    detector = Detector.open(RunOptions(toy, threads=1), selection=Selection(score_threshold=0.4))
    assert detector.backend.card.resize == "letterbox"
    # The padding's grey is above the threshold, so the network itself does report cells there.
    assert len(detector.detect(picture(100, 320))) == 0
    assert (detector.backend.run()[1][0] >= 0.4).sum() > 0


def test_stage_times_are_those_of_the_clock(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector.open(RunOptions(toy, threads=1))
    detector.detect(picture(480, 640))
    clock = SteppedClock()
    monkeypatch.setattr(detector_module, "perf_counter", clock)
    stages = []

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            stages.append(detector.stage)
            clock.now += seconds
            return function(*arguments)

        return run

    monkeypatch.setattr(detector._input, "fill", taking(1.0, detector._input.fill))
    monkeypatch.setattr(detector.backend, "run", taking(2.0, detector.backend.run))
    monkeypatch.setattr(detector_module, "select", taking(4.0, detector_module.select))
    detector.detect(picture(480, 640))
    assert detector.times == StageTimes(preprocess=1.0, inference=2.0, postprocess=4.0)
    assert stages == list(StageTimes._fields)


def test_an_unknown_class_is_named_with_the_known_ones(detector: Detector) -> None:
    with pytest.raises(ValueError, match="no class 'pink'.*red, green, blue"):
        detector.labels_of(["red", "pink"])
    assert detector.labels_of([]) is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"backend": "abacus"}, "no backend 'abacus': give one of auto"),
        ({"precision": "fp8"}, "no precision 'fp8'"),
        ({"input_sizes": ((320, 330),)}, "input size 330 is not usable: give a multiple of 32"),
        ({"input_sizes": ((128, 128),)}, "input size 128 is not usable"),
        ({"input_sizes": ((160, 128),)}, "give at least the pixels of 160x160"),
        ({"input_sizes": (330,)}, "input size 330 is not usable: give a multiple of 32"),
        ({"image_sizes": ((640, 0),)}, "an image has no pixels"),
        ({"input_sizes": ((224, 224), (224, 230))}, "input size 230 is not usable"),
        ({"batch": 0}, "a batch of 0 images is not usable"),
        ({"threads": -1}, "-1 threads are not usable"),
    ],
)
def test_wrong_arguments_are_explained(toy: str, arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        RunOptions(toy, **arguments)


@pytest.mark.parametrize("is_there", [True, False])
def test_another_size_of_a_file_that_is_not_the_same_any_more_is_not_opened(
    tmp_path: Path, is_there: bool
) -> None:
    path = write_toy_model(tmp_path / "mine.onnx")
    with closing(Detector.open(RunOptions(str(path), input_sizes=(320,), threads=1))) as detector:
        if is_there:
            write_toy_model(path, replace(CARD, classes=("rot", "gruen", "blau")))
        else:
            path.unlink()
        before = detector.backend
        detector.detect(picture(480, 640))  # 320x256 would fit it
        assert detector.backend is before and detector.card == CARD
        why = "has been overwritten since it was opened" if is_there else "there is no model file"
        assert why in detector.opened.warning
        detector.detect(picture(480, 640))


def test_the_file_is_the_one_that_is_asked_for(toy: str) -> None:
    pinned = RunOptions(toy, input_sizes=(320,), threads=1).pinned()
    with closing(Detector.open(pinned)) as detector:
        assert detector.card == CARD
    with pytest.raises(ModelError, match="has been overwritten"):
        Detector.open(pinned.change(sha256="0" * 64))


def test_a_graph_that_does_not_fit_the_contract_is_refused(tmp_path: Path) -> None:
    path = write_toy_model(tmp_path / "cut.onnx")
    # Same metadata, damaged graph: the card can be read, the network cannot be opened.
    data = path.read_bytes().replace(b"AveragePool", b"AveragePoof")
    path.write_bytes(data)
    with pytest.raises(BackendError, match="ONNX Runtime cannot run .*cut.onnx"):
        open_backend(RunOptions(str(path)))


def test_a_model_is_found_by_name_in_a_store(tmp_path: Path) -> None:
    assert find_model("toy", write_store(tmp_path)).card == CARD


def test_an_input_that_was_prepared_elsewhere_is_used_if_it_has_the_right_size(
    detector: Detector,
) -> None:
    image = picture(480, 640)
    image[80:112, 160:192] = COLOURS["red"]
    expected = detector.detect(image, "rgb")
    side = detector.input_size(640, 480)
    for size, is_used in ((side, True), (Size.square(side.width + 32), False)):
        pixels = np.empty((*size.shape, 3), np.uint8)
        placement = Letterbox(pixels)(image, "rgb")
        prepared = Prepared(pixels, placement, 5.0)
        shown = DecodedImage(picture(480, 640) if is_used else image, "rgb")
        answer = detector.answer(shown, prepared)
        assert (answer.preprocess > 5) == is_used
        kept = answer.copy()
        detector.detect(picture(480, 640), "rgb")
        found = detector.conclude(kept)
        assert found.boxes.tobytes() == expected.boxes.tobytes()
        assert detector.times[:2] == (answer.preprocess, answer.inference)
