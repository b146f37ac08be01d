# SPDX-License-Identifier: Apache-2.0
"""A network of another project is adopted: the same boxes as by its own project's formulas."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import foreign_models as foreign
import numpy as np
import onnx
import onnxruntime
import pytest

from compact_yolo_ros.apps.adopt import adoption, command
from compact_yolo_ros.apps.adopt.class_names import parse_names
from compact_yolo_ros.apps.adopt.error import AdoptError
from compact_yolo_ros.apps.adopt.source import known_size
from compact_yolo_ros.backends import BackendError, RunOptions, open_backend
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.ros.detector.parameter_table import DETECTOR_PARAMETERS
from compact_yolo_ros.ros.detector.parameters import input_sizes
from compact_yolo_ros.support.pip import pip_line
from compact_yolo_ros.support.termination import handling

NAMES = ("person", "traffic 'light'", 'the "bus"', "Fußgänger")
METADATA = {"names": str(dict(enumerate(NAMES))), "task": "detect"}
PIXELS = 1e-3
SCORE = 1e-5


class Rows(NamedTuple):
    """What the family's own code makes of the outputs: boxes xyxy, and scores of all classes."""

    boxes: np.ndarray
    scores: np.ndarray


def run(path: Path, image: np.ndarray) -> list[np.ndarray]:
    """The export on an input (1, 3, H, W) as its own project runs it."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (first, *_) = session.get_inputs()
    kind = np.float16 if "float16" in first.type else np.float32
    return [
        values[0].astype(np.float32)
        for values in session.run(None, {first.name: image.astype(kind)})
    ]


def rgb_0_1(image: np.ndarray) -> np.ndarray:
    return image.transpose(2, 0, 1)[None].astype(np.float32) / 255


def bgr_0_255(image: np.ndarray) -> np.ndarray:
    return image[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)


def xyxy(cxcywh: np.ndarray) -> np.ndarray:
    centre, half = cxcywh[:, :2], cxcywh[:, 2:] / 2
    return np.concatenate((centre - half, centre + half), 1)


def of_yolov8(outputs: list[np.ndarray]) -> Rows:
    rows = outputs[0].T
    return Rows(xyxy(rows[:, :4]), rows[:, 4:])


def of_yolov5(outputs: list[np.ndarray]) -> Rows:
    rows = outputs[0]
    return Rows(xyxy(rows[:, :4]), rows[:, 4:5] * rows[:, 5:])


def of_yolox(outputs: list[np.ndarray], size: tuple[int, int] = (160, 192)) -> Rows:
    rows = outputs[0]
    places, strides = foreign.cells(size)
    boxes = np.concatenate(((rows[:, :2] + places) * strides, np.exp(rows[:, 2:4]) * strides), 1)
    return Rows(xyxy(boxes), rows[:, 4:5] * rows[:, 5:])


def adopt(path: Path, *arguments: str) -> Path:
    """Adopt a file; return what was written."""
    out = path.with_name("out.onnx")
    assert command.main([str(path), "--out", str(out), "--force", *arguments]) == 0
    return out


def picture(size: Size, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size.shape, 3), np.uint8)


def check(out: Path, expected: Rows, image: np.ndarray, tolerance: float = PIXELS) -> None:
    """The adopted file finds the best rows, with the boxes and labels of ``expected``."""
    names = ["onnxruntime"]
    if tolerance == PIXELS and find_spec("openvino"):  # it is optional
        names.append("openvino")
    for name in names:
        check_with(name, out, expected, image, tolerance)


def check_with(
    name: str,
    out: Path,
    expected: Rows,
    image: np.ndarray,
    tolerance: float,
    precision: str = "auto",
) -> None:
    size = Size(image.shape[1], image.shape[0])
    options = RunOptions(str(out), name, precision, sizes(out, size), threads=1)
    backend = open_backend(options).backend
    backend.input[0] = image
    boxes, scores, labels = (values[0] for values in backend.run())
    best = expected.scores.max(1)
    order = np.argsort(-best, kind="stable")[: len(scores)]
    scores_within = SCORE if tolerance == PIXELS else tolerance
    np.testing.assert_allclose(scores, best[order], atol=scores_within)
    for box, score, label in zip(boxes, scores, labels, strict=True):
        same = np.abs(best - score) <= scores_within
        same &= expected.scores.argmax(1) == label
        assert np.abs(expected.boxes[same] - box).max(1).min() <= tolerance * 10
    backend.close()


def sizes(out: Path, size: Size) -> tuple[Size, ...]:
    return () if find_model(str(out)).card.own_size == size else (size,)


@pytest.fixture
def names(tmp_path: Path) -> str:
    return write_names(tmp_path)


@pytest.mark.parametrize("options", [{}, {"half": True}, {"opset": 11}, {"opset": 18}])
def test_yolov8(tmp_path: Path, options: dict[str, Any]) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA, **options)
    out = adopt(path)
    image = picture(Size(192, 160))
    half = bool(options.get("half"))
    check(out, of_yolov8(run(path, rgb_0_1(image))), image, 2e-2 if half else PIXELS)
    card = find_model(str(out)).card
    assert card.classes == NAMES
    assert (card.resize, card.precision) == ("letterbox", "fp16" if half else "fp32")
    assert card.own_size == Size(192, 160)


def test_yolov8_with_rows_and_fractions(tmp_path: Path) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA, turned=False, fractions=True)
    image = picture(Size(192, 160))
    (rows,) = run(path, rgb_0_1(image))
    boxes = rows[:, :4] * np.float32([192, 160, 192, 160])
    check(adopt(path), Rows(xyxy(boxes), rows[:, 4:]), image)


def test_yolov5(tmp_path: Path) -> None:
    path = foreign.yolov5(tmp_path / "v5.onnx", metadata=METADATA)
    image = picture(Size(192, 160))
    check(adopt(path), of_yolov5(run(path, rgb_0_1(image))), image)


@pytest.mark.parametrize("decoded", [False, True])
def test_yolox(tmp_path: Path, names: str, decoded: bool) -> None:
    path = foreign.yolox(tmp_path / "x.onnx", decoded=decoded, opset=11)
    out = adopt(path, "--classes", names)
    image = picture(Size(192, 160))
    read: Callable[..., Rows] = of_yolov5 if decoded else of_yolox
    check(out, read(run(path, bgr_0_255(image))), image)
    assert find_model(str(out)).card.resize == "corner"


@pytest.mark.parametrize("size", [(192, 160), (256, 320)])
def test_yolox_of_any_size(tmp_path: Path, names: str, size: tuple[int, int]) -> None:
    path = foreign.yolox(tmp_path / "x.onnx", size=None)
    out = adopt(path, "--classes", names, "--size", "192x160")
    image = picture(Size(*size))
    check(out, of_yolox(run(path, bgr_0_255(image)), size[::-1]), image)


def test_an_export_of_one_size_is_freed_where_we_decode(tmp_path: Path, names: str) -> None:
    path = foreign.yolox(tmp_path / "x.onnx")
    out = adopt(path, "--classes", names, "--size", "320x256")
    card = find_model(str(out)).card
    assert card.own_size == Size(320, 256) and not card.fixed_size
    free = foreign.yolox(tmp_path / "free.onnx", size=None)
    for size in (Size(320, 256), Size(192, 160)):
        image = picture(size)
        check(out, of_yolox(run(free, bgr_0_255(image)), size.shape), image)


@pytest.mark.parametrize("wish", ["--size=320x256", ""])
def test_an_export_that_needs_its_size_keeps_it(
    tmp_path: Path, names: str, wish: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A constant of the network's own has the size of a map."""
    path = foreign.yolox(tmp_path / "x.onnx", constant_map=True)
    if wish:
        assert "exported for 192x160" in refusal(capsys, path, "--classes", names, wish)
        return
    out = adopt(path, "--classes", names)
    assert "It runs at 192x160 only" in capsys.readouterr().out
    image = picture(Size(192, 160))
    check(out, of_yolox(run(path, bgr_0_255(image))), image)
    options = RunOptions(str(out), input_sizes=(Size(320, 320),))
    with pytest.raises(BackendError, match="out runs at 192x160 only, not at 320x320: leave"):
        open_backend(options)


@pytest.mark.parametrize("kind", ["yolox", "detr"])
def test_free_axes_of_a_network_that_needs_its_size(
    tmp_path: Path, names: str, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """The axes are dynamic, but what was traced has the size of a map: the camera decides not."""
    if kind == "yolox":
        path = foreign.yolox(tmp_path / "net.onnx", constant_map=True)
    else:
        path = foreign.detr(tmp_path / "net.onnx", "pair", constant_map=True)
    model = onnx.load(path)
    for axis, side in zip(model.graph.input[0].type.tensor_type.shape.dim, "nchw", strict=True):
        axis.dim_param = side
    onnx.save(model, path)
    out = adopt(path, "--classes", names, "--size", "192x160")
    assert "It runs at 192x160 only" in capsys.readouterr().out
    card = find_model(str(out)).card
    assert card.fixed_size and card.own_size == Size(192, 160)
    if kind == "yolox":
        image = picture(Size(192, 160))
        check(out, of_yolox(run(path, bgr_0_255(image))), image)


def test_the_governor_leaves_a_model_of_one_size_alone(tmp_path: Path) -> None:
    out = adopt(foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA, size=(320, 320)))
    card = find_model(str(out)).card
    values = {spec.name: spec.default for spec in DETECTOR_PARAMETERS}
    values |= {"model": str(out), "target_fps": 1000.0}
    assert card.fixed_size
    assert input_sizes(values, card) == (Size(320, 320),)
    assert len(input_sizes(values, replace(card, fixed_size=False))) > 1


def test_yolov6_is_told_from_yolox_by_its_objectness(tmp_path: Path) -> None:
    path = foreign.yolox(tmp_path / "v6.onnx", decoded=True, objectness=False)
    out = adopt(path, "--classes", write_names(tmp_path))
    image = picture(Size(192, 160))
    check(out, of_yolov5(run(path, rgb_0_1(image))), image)
    assert find_model(str(out)).card.detector == "yolov5"


def test_what_the_layout_assumes_can_be_said(tmp_path: Path) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA)
    out = adopt(path, "--colour", "bgr", "--pixels", "imagenet", "--resize", "stretch")
    image = picture(Size(192, 160))
    mean, deviation = (
        np.array(v, np.float32) for v in ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229))
    )
    seen = ((image[..., ::-1] / np.float32(255)) - mean) / deviation
    check(out, of_yolov8(run(path, seen.transpose(2, 0, 1)[None])), image)
    assert find_model(str(out)).card.resize == "stretch"


def test_the_card_says_what_was_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    licence = "AGPL-3.0 License"
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata={**METADATA, "license": licence})
    out = adopt(path)
    card = find_model(str(out)).card
    assert card.licence.startswith(licence)
    assert "yolov8" in card.recipe and "SHA-256" in card.recipe
    printed = capsys.readouterr().out
    for assumed in card.notes.removeprefix("Assumed: ").rstrip(".").split("; "):
        assert assumed in printed
    assert f"model:={out}" in printed and "benchmark" in printed


def test_the_lines_to_copy_hold_a_path_with_spaces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = adopt(foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA))
    spaced = tmp_path / "my nets" / "net.onnx"
    spaced.parent.mkdir()
    assert command.main([str(out.with_name("v8.onnx")), "--out", str(spaced)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "ros2 " in line]
    launch, benchmark = map(shlex.split, lines[-2:])
    assert launch[-1] == f"model:={spaced}" and benchmark[-1] == str(spaced)


def test_a_detector_with_names_of_the_contract_inside(tmp_path: Path) -> None:
    """The export's own tensors may be called boxes or scores."""
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA, name="boxes")
    image = picture(Size(192, 160))
    check(adopt(path), of_yolov8(run(path, rgb_0_1(image))), image)


def test_values_that_are_in_lists_become_raw(tmp_path: Path) -> None:
    """ONNX Runtime's quantiser writes the scales so, which little reads but the onnx package."""
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA, half=True)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        kind, shape = tensor.data_type, values.shape
        tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, kind, shape, values.flatten()))
    listed = tmp_path / "listed.onnx"
    onnx.save(model, listed)
    plain = onnx.load(adopt(path)).graph.initializer
    for tensor, expected in zip(onnx.load(adopt(listed)).graph.initializer, plain, strict=True):
        assert tensor.SerializeToString() == expected.SerializeToString()
        assert tensor.HasField("raw_data")


def test_a_size_in_metadata_that_no_network_has_is_not_taken() -> None:
    assert known_size({"imgsz": "[480, 640]"}) == Size(640, 480)
    for text in ("[99999, 99999]", "[0, 0]", "[640]", "large"):
        assert known_size({"imgsz": text}) is None, "more memory than there is was asked for"


@pytest.mark.parametrize(
    ("text", "line"), [("a\n\nb\nc\nd\n", "on each line"), ("a\na\n", "twice")]
)
def test_names_that_would_be_counted_wrongly_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, line: str
) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx")
    names = tmp_path / "names.txt"
    names.write_text(text)
    assert line in refusal(capsys, path, "--classes", str(names))


def test_names_of_a_data_yaml(tmp_path: Path) -> None:
    data = tmp_path / "data.yaml"
    data.write_text("names: {0: a, 1: b, 2: c, 3: d}\n")
    path = foreign.yolov8(tmp_path / "v8.onnx")
    assert find_model(str(adopt(path, "--classes", str(data)))).card.classes == tuple("abcd")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{0: 'a', 1: \"b's\"}", ("a", "b's")),
        ('["a", "b, c"]', ("a", "b, c")),
        ("{1: 'b', 0: 'a',}", ("a", "b")),
        ('{"0": "a", "1": "b"}', ("a", "b")),
        ('["0", "1"]', ("0", "1")),
        (r"{0: 'it\'s', 1: '\u00e4'}", ("it's", "ä")),
    ],
)
def test_names_in_metadata(text: str, names: tuple[str, ...]) -> None:
    assert parse_names(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{0: 'a', 2: 'b'}",
        "{0: __import__('os')}",
        "{0: f'{1}'}",
        "{0: 'a' + 'b'}",
        "[" * 100_000,
        "{" + "0: '" * 100_000 + "}",
        "{0: '\\x'}",
        "['" + "a" * 2_000_000 + "']",
    ],
)
def test_other_names_are_one_sentence(text: str) -> None:
    with pytest.raises(AdoptError, match="give them with --classes"):
        parse_names(text)


SIDES = np.float32([192, 160, 192, 160])


def one_hot(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Scores (K, C) of finished objects."""
    return np.where(np.arange(4) == labels[:, None], scores[:, None], 0)


@pytest.mark.parametrize("fractions", [False, True])
def test_finished_objects(tmp_path: Path, fractions: bool) -> None:
    path = foreign.yolov10(tmp_path / "v10.onnx", METADATA, fractions)
    image = picture(Size(192, 160))
    (rows,) = run(path, rgb_0_1(image))
    boxes = xyxy(rows[:, :4] * SIDES) if fractions else rows[:, :4]
    out = adopt(path)
    check(out, Rows(boxes, one_hot(rows[:, 4], rows[:, 5])), image)
    detector, resize = ("detr", "stretch") if fractions else ("yolov10", "letterbox")
    card = find_model(str(out)).card
    assert (card.detector, card.resize) == (detector, resize)


@pytest.mark.parametrize(("threshold", "filled"), [(0.25, 30), (0.53, 3), (0.6, 0)])
def test_objects_that_are_padded_with_zeros(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], threshold: float, filled: int
) -> None:
    """NMS inside leaves out what is below a score: in noise some objects, or all of them."""
    path = foreign.with_nms(tmp_path / "nms.onnx", threshold, METADATA)
    noise = np.random.default_rng(0).random((1, 3, 160, 192), np.float32)
    assert run(path, noise)[0].any(1).sum() == filled
    out = adopt(path)
    assert ("no object was found in noise" in capsys.readouterr().out) == (filled == 0)
    card = find_model(str(out)).card
    assert (card.detector, card.resize) == ("yolov10", "letterbox")
    image = np.minimum(picture(Size(192, 160)), 100)
    image[32:96, 64:128] = picture(Size(64, 64)) // 2 + 128
    (rows,) = run(path, rgb_0_1(image))
    assert 0 < rows.any(1).sum() < 30
    check(out, Rows(rows[:, :4], one_hot(rows[:, 4], rows[:, 5])), image)


def test_zeros_are_finished_objects_of_detr_if_that_is_said(tmp_path: Path) -> None:
    path = foreign.with_nms(tmp_path / "nms.onnx", 0.6, METADATA)
    assert find_model(str(adopt(path, "--layout", "detr"))).card.resize == "stretch"


@pytest.mark.parametrize("form", ["pair", "joined"])
@pytest.mark.parametrize("half", [False, True])
def test_rt_detr(tmp_path: Path, form: str, half: bool) -> None:
    path = foreign.detr(tmp_path / "detr.onnx", form, metadata=METADATA, half=half)
    image = picture(Size(192, 160))
    outputs = run(path, rgb_0_1(image))
    boxes, scores = outputs[0][:, :4], outputs[0][:, 4:]
    if form == "pair":
        boxes, scores = outputs[1], 1 / (1 + np.exp(-outputs[0]))
    check(adopt(path), Rows(xyxy(boxes * SIDES), scores), image, 5e-2 if half else PIXELS)


def imagenet(image: np.ndarray) -> np.ndarray:
    """An input (1, 3, H, W) normalised as for networks that began with ImageNet's weights."""
    mean, deviation = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
    seen: np.ndarray = ((image / np.float32(255)) - mean) / deviation
    return seen.transpose(2, 0, 1)[None]


def test_detr_with_a_class_for_nothing(tmp_path: Path) -> None:
    path = foreign.detr(tmp_path / "detr.onnx", "pair", classes=5, metadata=METADATA)
    image = picture(Size(192, 160))
    logits, boxes = run(path, imagenet(image))
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    scores = (exponents / exponents.sum(1, keepdims=True))[:, :4]
    check(adopt(path), Rows(xyxy(boxes * SIDES), scores), image)


def test_rf_detr_has_a_class_for_nothing_and_sigmoids_all_the_same(tmp_path: Path) -> None:
    """Its own example drops the last logit (pull request 1251 of roboflow/rf-detr)."""
    path = foreign.detr(tmp_path / "rf.onnx", "rf", classes=5, metadata=METADATA)
    image = picture(Size(192, 160))
    boxes, logits = run(path, imagenet(image))
    scores = 1 / (1 + np.exp(-logits[:, :4]))
    check(adopt(path), Rows(xyxy(boxes * SIDES), scores), image)


def test_rt_detr_that_is_told_the_size_of_the_image(tmp_path: Path) -> None:
    path = foreign.finished_detr(tmp_path / "dfine.onnx", METADATA)
    image = picture(Size(192, 160))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    sizes = np.array([[192, 160]])
    labels, boxes, scores = session.run(
        ["labels", "boxes", "scores"], {"images": rgb_0_1(image), "orig_target_sizes": sizes}
    )
    check(adopt(path), Rows(boxes[0], one_hot(scores[0], labels[0])), image)


ANCHORS = np.float32(
    [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 73, 26]]
)
ANCHOR_TEXT = ";".join(",".join(f"{side:g}" for side in scale) for scale in ANCHORS)


def of_maps(maps: dict[int, np.ndarray], squared: bool, anchors: np.ndarray | None = None) -> Rows:
    """Decode maps (3, 9, h, w) by stride, one cell after the other."""
    boxes, scores = [], []
    for (stride, level), sides in zip(
        sorted(maps.items()), ANCHORS if anchors is None else anchors, strict=True
    ):
        for slot, y, x in np.ndindex(level.shape[0], *level.shape[2:]):
            values, anchor = level[slot, :, y, x], sides[2 * slot : 2 * slot + 2]
            sigmoids = 1 / (1 + np.exp(-values))
            if squared:
                centre = (2 * sigmoids[:2] - 0.5 + (x, y)) * stride
                half = (2 * sigmoids[2:4]) ** 2 * anchor / 2
            else:
                centre = (sigmoids[:2] + (x, y)) * stride
                half = np.exp(values[2:4]) * anchor / 2
            boxes.append((*(centre - half), *(centre + half)))
            scores.append(sigmoids[4] * sigmoids[5:])
    return Rows(np.array(boxes), np.array(scores))


@pytest.mark.parametrize(
    ("layout", "five_axes"), [("darknet", False), ("yolov5", False), ("yolov5", True)]
)
def test_maps_with_anchors(tmp_path: Path, names: str, layout: str, five_axes: bool) -> None:
    path = foreign.raw_maps(tmp_path / "maps.onnx", 3, five_axes=five_axes)
    out = adopt(path, "--layout", layout, "--anchors", ANCHOR_TEXT, "--classes", names)
    image = picture(Size(192, 160))
    maps = dict(zip((32, 16, 8), run(path, rgb_0_1(image)), strict=True))
    if five_axes:
        maps = {stride: level.transpose(0, 3, 1, 2) for stride, level in maps.items()}
    maps = {stride: level.reshape(3, 9, *level.shape[-2:]) for stride, level in maps.items()}
    check(out, of_maps(maps, layout == "yolov5"), image)
    assert find_model(str(out)).card.resize == ("stretch" if layout == "darknet" else "letterbox")


REGION_ANCHORS = np.float32([1.08, 1.19, 3.42, 4.41, 6.63, 11.38])
"""In cells, as they are in a cfg of YOLOv2."""
REGION_TEXT = ",".join(f"{side * 32:g}" for side in REGION_ANCHORS)


def of_region(level: np.ndarray) -> Rows:
    """Decode a map (3, 9, h, w) as src/region_layer.c of darknet does with ``softmax=1``.

    x is (column + sigmoid) / columns, the width exp * bias / columns, of the image; the score is a
    sigmoid of the objectness times the softmax over the classes.
    """
    boxes, scores = [], []
    for slot, y, x in np.ndindex(level.shape[0], *level.shape[2:]):
        values, bias = level[slot, :, y, x], REGION_ANCHORS[2 * slot : 2 * slot + 2]
        centre = (1 / (1 + np.exp(-values[:2])) + (x, y)) * 32
        half = np.exp(values[2:4]) * bias * 32 / 2
        boxes.append((*(centre - half), *(centre + half)))
        exponents = np.exp(values[5:] - values[5:].max())
        scores.append(exponents / exponents.sum() / (1 + np.exp(-values[4])))
    return Rows(np.array(boxes), np.array(scores))


@pytest.mark.parametrize("layout", ["auto", "darknet"])
@pytest.mark.parametrize("size", [(160, 192), None])
def test_yolov2(
    tmp_path: Path,
    names: str,
    capsys: pytest.CaptureFixture[str],
    layout: str,
    size: tuple[int, int] | None,
) -> None:
    path = foreign.yolov2(tmp_path / "v2.onnx", 3, size=size)
    flags = ("--layout", layout, "--anchors", REGION_TEXT, "--classes", names)
    out = adopt(path, *flags, "--size", "192x160")
    assert "its one map is read as YOLOv2's" in capsys.readouterr().out
    card = find_model(str(out)).card
    assert (card.detector, card.resize) == ("darknet", "stretch")
    for each in (Size(192, 160), Size(256, 320)):
        image = picture(each)
        free = foreign.yolov2(tmp_path / "free.onnx", 3, size=None)
        (level,) = run(free, rgb_0_1(image))
        check(out, of_region(level.reshape(3, 9, *level.shape[1:])), image)


def test_one_map_of_yolov5_has_no_softmax(tmp_path: Path, names: str) -> None:
    path = foreign.yolov2(tmp_path / "v5.onnx", 3)
    out = adopt(path, "--layout", "yolov5", "--anchors", REGION_TEXT, "--classes", names)
    image = picture(Size(192, 160))
    (level,) = run(path, rgb_0_1(image))
    anchors = REGION_ANCHORS[None] * 32
    level = level.reshape(3, 9, *level.shape[1:])
    check(out, of_maps({32: level}, squared=True, anchors=anchors), image)


def test_anchors_of_yolov2_are_in_pixels(
    tmp_path: Path, names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign.yolov2(tmp_path / "v2.onnx", 3)
    in_cells = ",".join(f"{side:g}" for side in REGION_ANCHORS)
    flags = ("--layout", "darknet", "--classes", names)
    sentence = refusal(capsys, path, *flags, "--anchors", in_cells)
    assert "all --anchors are smaller than a cell of 32 pixels: give them in pixels" in sentence
    assert "1 map that is not decoded: give its --anchors" in refusal(capsys, path, *flags)


def test_maps_of_any_size(tmp_path: Path, names: str) -> None:
    path = foreign.raw_maps(tmp_path / "maps.onnx", 3, size=None)
    flags = ("--layout", "darknet", "--anchors", ANCHOR_TEXT, "--classes", names)
    out = adopt(path, *flags, "--size", "192x160")
    for size in (Size(192, 160), Size(256, 320)):
        image = picture(size)
        maps = dict(zip((32, 16, 8), run(path, rgb_0_1(image)), strict=True))
        maps = {stride: level.reshape(3, 9, *level.shape[-2:]) for stride, level in maps.items()}
        check(out, of_maps(maps, squared=False), image)


def test_yolov4_that_is_decoded(tmp_path: Path, names: str) -> None:
    path = foreign.decoded_yolov4(tmp_path / "v4.onnx")
    image = picture(Size(192, 160))
    boxes, scores = run(path, rgb_0_1(image))
    check(adopt(path, "--classes", names), Rows(boxes[:, 0] * SIDES, scores), image)


def test_maps_of_yolox(tmp_path: Path, names: str) -> None:
    path = foreign.raw_maps(tmp_path / "maps.onnx", 1, scale=0.01)
    image = picture(Size(192, 160))
    maps = run(path, bgr_0_255(image))[::-1]
    rows = np.concatenate([level.reshape(9, -1).T for level in maps])
    rows[:, 4:] = 1 / (1 + np.exp(-rows[:, 4:]))
    check(adopt(path, "--classes", names), of_yolox([rows]), image)


def test_a_network_of_any_size_in_tensorrt(trt: Any, tmp_path: Path, names: str) -> None:
    """Its decoding asks for the shape of the images, which TensorRT takes as uint8."""
    path = foreign.yolox(tmp_path / "x.onnx", size=None)
    out = adopt(path, "--classes", names, "--size", "192x160")
    image = picture(Size(192, 160))
    check_with("tensorrt", out, of_yolox(run(path, bgr_0_255(image))), image, PIXELS)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_branches_that_read_what_is_outside_in_tensorrt(
    trt: Any, tmp_path: Path, precision: str
) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA, branches=True)
    image = picture(Size(192, 160))
    expected = of_yolov8(run(path, rgb_0_1(image)))
    tolerance = PIXELS if precision == "fp32" else 2e-2
    check_with("tensorrt", adopt(path), expected, image, tolerance, precision)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "tensorrt", "auto"])
def test_a_network_for_one_image_takes_one_whatever_is_asked(
    trt: Any, tmp_path: Path, backend: str
) -> None:
    """As Ultralytics exports them: a node with max_batch for several cameras must start."""
    if backend == "openvino":
        pytest.importorskip("openvino")
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA, one_image=True)
    opened = open_backend(RunOptions(str(adopt(path)), backend=backend, batch=4)).backend
    assert len(opened.input) == 1
    opened.close()


def test_a_network_for_any_number_of_images_takes_several(tmp_path: Path) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, path)
    options = RunOptions(str(adopt(path)), backend="onnxruntime", batch=4)
    assert len(open_backend(options).backend.input) == 4


# What cannot be adopted


def refusal(capsys: pytest.CaptureFixture[str], path: Path, *arguments: str) -> str:
    """The sentence with which a file is refused; nothing is written."""
    before = sorted(path.parent.iterdir())
    assert command.main([str(path), *arguments]) == 1
    assert sorted(path.parent.iterdir()) == before
    error = capsys.readouterr().err
    assert error.startswith("adopt: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize("name", ["", "/", ".."])
def test_a_folder_is_no_network(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert "cannot be read: Is a directory" in refusal(capsys, Path(name))


def test_a_name_that_no_file_can_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, long = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA), f"{'a' * 300}.onnx"
    assert "cannot be written: File name too long" in refusal(capsys, tmp_path / long)
    assert "cannot be written: File name too long" in refusal(capsys, path, "--out", long)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA)
    monkeypatch.setattr(adoption, "_try", lambda _: signal.raise_signal(number))
    # a shell that starts a command in the background lets it ignore SIGINT
    with handling(signal.SIGINT, signal.default_int_handler):
        assert command.main([str(path)]) == 130
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no network in it"),
        (b"garbage" * 100, "not an ONNX file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not an ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_other_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, sentence: str
) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert sentence in refusal(capsys, path)


def test_a_file_that_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA)
    content = path.read_bytes()
    for length in range(1, len(content), 997):
        path.write_bytes(content[:length])
        refusal(capsys, path)


def test_a_huge_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.truncate(3 * 2**30)
    assert "larger than" in refusal(capsys, path)


def test_weights_in_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="v8.data")
    assert "in another file" in refusal(capsys, path)


def test_networks_for_other_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = foreign.yolov8(tmp_path / "seg.onnx", metadata=METADATA, masks=True)
    assert "segmentation" in refusal(capsys, path)
    path = foreign.yolov8(tmp_path / "pose.onnx", classes=55, metadata=METADATA)
    assert "51 more values for each box than 4 classes" in refusal(capsys, path)
    path = foreign.yolov8(tmp_path / "obb.onnx", metadata={**METADATA, "task": "obb"})
    assert "task 'obb'" in refusal(capsys, path)


def test_a_network_that_is_no_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = foreign.Graph()
    path = graph.write(tmp_path / "net.onnx", {"output": graph.grid_map(32, 10)})
    assert "its layout is not known: at 192x160 it puts out output (1, 10, 5, 6)" in refusal(
        capsys, path
    )
    assert "has not the layout yolox" in refusal(capsys, path, "--layout", "yolox")


def test_maps_need_their_anchors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = foreign.raw_maps(tmp_path / "maps.onnx", 3)
    assert "3 maps that are not decoded: give their --anchors" in refusal(capsys, path)
    sentence = refusal(capsys, path, "--layout", "darknet", "--anchors", "10,13;30,61")
    assert "do not fit 3 maps of (27, 20, 24)" in sentence


NO_ANCHORS = ["", "1,2,3", "a,b", "1,2;3,4,5,6", "0,1", ";" * 99]
NO_ANCHORS += ["10,-13", "10px,13", "10,13,x,16,30", "1e1,13", "100000,13", "1.5.2,3"]


@pytest.mark.parametrize("text", NO_ANCHORS)
def test_anchors_that_are_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main([str(tmp_path / "net.onnx"), "--anchors", text])


def test_anchors_are_read_as_darknet_writes_them() -> None:
    scales = command._anchors("10,13,  16.5,30.;\n33,23, 30.1234567,61, ")
    assert scales == (((10, 13), (16.5, 30)), ((33, 23), (30.1234567, 61)))


def test_classes_must_be_known_and_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = foreign.yolox(tmp_path / "x.onnx")
    assert "does not name its 4 classes: give --classes" in refusal(capsys, path)
    assert "has 4 classes, but coco names 80" in refusal(capsys, path, "--classes", "coco")
    assert "cannot be read" in refusal(capsys, path, "--classes", str(tmp_path / "none.txt"))


def test_another_size_than_that_of_the_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA)
    assert "exported for 192x160" in refusal(capsys, path, "--size", "640x640")


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ("192x128", "--size: input size 192x128 is not usable: give at least the pixels of 160"),
        ("128", "--size: input size 128 is not usable: give a multiple of 32 from 160 to 1280"),
        ("5001x160", "--size: input size 5001x160 is not usable: give sides from 1 to 1280"),
    ],
)
def test_a_size_that_no_network_can_have(
    tmp_path: Path, names: str, capsys: pytest.CaptureFixture[str], size: str, sentence: str
) -> None:
    path = foreign.yolox(tmp_path / "x.onnx", size=None)
    assert sentence in refusal(capsys, path, "--classes", names, "--size", size)


@pytest.mark.parametrize("side", [1312, 200_000])
def test_a_network_of_a_size_that_none_can_have_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    """One image of it may take all memory."""
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA)
    model = onnx.load(path)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    onnx.save(model, path)
    monkeypatch.setattr(adoption, "outputs_of", None)
    sentence = f"it was exported for {side}x{side}: export it for sides from 1 to 1280"
    assert sentence in refusal(capsys, path)


def test_a_file_that_is_there_needs_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA)
    assert command.main([str(path)]) == 0
    assert (tmp_path / "v8_adopted.onnx").exists()
    assert "give --force" in refusal(capsys, path)
    assert command.main([str(path), "--force"]) == 0
    assert "is the export itself" in refusal(capsys, path, "--out", str(path), "--force")
    assert "model card already" in refusal(capsys, tmp_path / "v8_adopted.onnx")


def test_without_the_onnx_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = foreign.yolov8(tmp_path / "v8.onnx", metadata=METADATA)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert f"sudo apt install python3-onnx, or {pip_line('onnx')}" in refusal(capsys, path)


def write_names(folder: Path) -> str:
    path = folder / "names.txt"
    path.write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return str(path)
