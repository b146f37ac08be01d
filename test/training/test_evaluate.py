# SPDX-License-Identifier: Apache-2.0
"""Evaluating checkpoints and files on a data set."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import toy_model

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.selection import EVERYTHING
from compact_yolo_ros.model.sizes import Size
from training import figure_sheet
from training.data.dataset import open_split
from training.data.sample import Sample
from training.detectors.registry import build
from training.evaluate import (
    _parse,
    average_precision,
    main,
    open_model,
    predict,
    predictions,
    truths_of,
)
from training.loop.checkpoint import save_checkpoint

RED, GREEN = (0, 0, 255), (0, 255, 0)  # BGR


@pytest.fixture
def data(tmp_path):
    """Two images on the toy detector's grid, with the classes in another order than its own."""
    for folder in ("images/val", "labels/val"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for name, squares in {"a": [(32, 48, RED), (80, 80, GREEN)], "b": [(0, 144, RED)]}.items():
        image, lines = np.zeros((320, 320, 3), np.uint8), []
        for x, y, colour in squares:
            image[y : y + 16, x : x + 16] = colour
            label = 0 if colour == GREEN else 2
            lines.append(f"{label} {(x + 8) / 320} {(y + 8) / 320} 0.05 0.05")
        cv2.imwrite(str(tmp_path / f"set/images/val/{name}.png"), image)
        (tmp_path / f"set/labels/val/{name}.txt").write_text("\n".join(lines))
    path = tmp_path / "set" / "data.yaml"
    path.write_text("val: images/val\nnames: [green, person, red]\n")
    return path


@pytest.fixture
def toy(tmp_path):
    return toy_model.write_toy_model(tmp_path / "toy.onnx")


def test_a_file_is_evaluated_as_the_node_runs_it_with_classes_matched_by_name(
    data, toy, tmp_path, capsys
):
    report, result = tmp_path / "out/report.html", tmp_path / "out/result.json"
    arguments = ["--weights", str(toy), "--data", str(data), "--size", "320", "384"]
    assert main([*arguments, "--report", str(report), "--json", str(result)]) == 0
    assert capsys.readouterr().err.strip() == (
        "Not evaluated: person (not known to the model); blue (not labelled in the data)."
    )
    content = json.loads(result.read_text())
    exact = content["results"]["320 x 320"]
    assert exact["summary"]["AP"] == pytest.approx(1)
    assert [exact["classes"][name]["objects"] for name in ("green", "red")] == [1, 2]
    # At 384 the squares are off its grid.
    assert content["results"]["384 x 384"]["summary"]["AP"] < 0.9
    page = report.read_text()
    assert page.count("<summary>") == 2 and "toy on set, val" in page
    assert page.count("data:image/jpeg") >= 2


def test_of_images_without_objects_it_is_said_why_there_is_no_ap(data, toy, capsys):
    line = ["--weights", str(toy), "--data", str(data)]
    (data.parent / "labels/val/a.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    (data.parent / "labels/val/b.txt").write_text("")
    assert main(line) == 0
    assert "AP is not known: no object is of the classes" in capsys.readouterr().err
    (data.parent / "labels/val/a.txt").write_text("")
    assert main(line) == 0
    assert "AP is not known: no image of 'val' shows an object" in capsys.readouterr().err


def test_classes_of_other_names_can_be_given(data, toy, capsys):
    data.write_text("val: images/val\nnames: [lime, person, rouge]\n")
    arguments = ["--weights", str(toy), "--data", str(data), "--size", "320"]
    assert main(arguments) == 1
    assert "share no class: the model knows red, green, blue" in capsys.readouterr().err
    assert main([*arguments, "--rename", "green=lime", "red=rouge"]) == 0
    assert "AP50 rouge" in capsys.readouterr().out
    data.write_text("val: images/val\nnames: ['[/lime]', person, ':car:']\n")
    assert main([*arguments, "--rename", "green=[/lime]", "red=:car:"]) == 0
    printed = capsys.readouterr().out
    assert "AP50 [/lime]" in printed and "AP50 :car:" in printed
    data.write_text("val: images/val\nnames: [lime, person, rouge]\n")
    assert main([*arguments, "--rename", "gren=lime"]) == 1
    assert "no class 'gren', did you mean 'green'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("own", "shown"),
    [({}, "320 x 320"), ({"default_size": 640, "default_height": 320}, "640 x 320")],
)
def test_a_file_is_evaluated_at_its_own_size(data, tmp_path, own, shown):
    """The squares stay on the toy's grid, because the image is as high as the input."""
    path = toy_model.write_toy_model(tmp_path / "own.onnx", replace(toy_model.CARD, **own))
    result = tmp_path / "result.json"
    assert main(["--weights", str(path), "--data", str(data), "--json", str(result)]) == 0
    results = json.loads(result.read_text())["results"]
    assert list(results) == [shown]
    assert results[shown]["summary"]["AP"] == pytest.approx(1)


def test_the_own_size_of_a_model_may_be_given_as_a_number(data, tmp_path):
    """Also one that no other network could be run at."""
    card = replace(toy_model.CARD, default_size=304, any_size=True)
    opened = open_model(str(toy_model.write_toy_model(tmp_path / "small.onnx", card)))
    samples = open_split(data, "val")
    answers = [list(opened.detect(samples, size)) for size in (304, opened.size)]
    assert len(answers[0]) == 2
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
    with pytest.raises(ValueError, match="input size 240 is not usable"):
        next(opened.detect(samples, 240))


def test_average_precision_of_a_data_set(data):
    samples = open_split(data, "val")
    seen = [
        Detections(np.float32([[80, 80, 96, 96]]), np.float32([0.9]), np.int32([0])),
        Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)),
    ]
    scores = average_precision(samples, seen, samples.classes)
    means = {"AP": 0.5, "AP50": 0.5, "AP75": 0.5, "VOC07": 0.5, "VOC": 0.5}
    classes = {"AP50 green": 1, "AP50 person": np.nan, "AP50 red": 0}
    assert list(scores) == [*means, *classes]
    assert scores == pytest.approx(means | classes, nan_ok=True)


def test_difficult_objects_of_voc_count_neither_way(tmp_path, toy, capsys):
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    image = np.zeros((320, 320, 3), np.uint8)
    image[48:64, 32:48], image[96:112, 96:112] = RED, RED
    cv2.imwrite(str(root / "JPEGImages/a.jpg"), image, (cv2.IMWRITE_JPEG_QUALITY, 100))
    objects = "".join(
        f"<object><name>red</name><difficult>{difficult}</difficult><bndbox><xmin>{x + 1}</xmin>"
        f"<ymin>{y + 1}</ymin><xmax>{x + 16}</xmax><ymax>{y + 16}</ymax></bndbox></object>"
        for x, y, difficult in ((32, 48, 0), (96, 96, 1), (200, 200, 1))
    )
    size = "<size><width>320</width><height>320</height><depth>3</depth></size>"
    (root / "Annotations/a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (root / "ImageSets/Main/val.txt").write_text("a\n")
    data = tmp_path / "data.yaml"
    data.write_text("format: voc\npath: VOCdevkit\nval: VOC2007/val\nnames: [red]\n")
    assert main(["--weights", str(toy), "--data", str(data), "--size", "320"]) == 0
    lines = [re.findall(r"[\w.]+", line) for line in capsys.readouterr().out.splitlines()]
    assert ["VOC07", "1.000"] in lines and ["VOC", "1.000"] in lines


def test_ignored_boxes_of_a_data_set_have_their_classes(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((50, 60, 3), np.uint8))
    rows = [
        {"bbox": [0, 0, 10, 20], "category_id": 1, "iscrowd": 0},
        {"bbox": [20, 0, 30, 40], "category_id": 2, "iscrowd": 1},
    ]
    listing = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 50}],
        "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}],
        "annotations": [
            {"id": number + 1, "image_id": 1, "area": 1} | row for number, row in enumerate(rows)
        ],
    }
    (tmp_path / "val.json").write_text(json.dumps(listing))
    description = "format: coco\nval: {annotations: val.json, images: .}\n"
    (tmp_path / "data.yaml").write_text(description)
    (truth,) = truths_of(open_split(tmp_path / "data.yaml", "val"))
    assert truth.labels.tolist() == [0] and truth.ignored_labels.tolist() == [1]
    assert truth.ignored.tolist() == [[20, 0, 50, 40]]
    assert (truth.name, truth.size) == ("a", Size(60, 50))


def test_a_checkpoint_is_evaluated(data, tmp_path):
    model = build("yolo_fastest", num_classes=3)
    path = tmp_path / "last.pt"
    content = {"detector": "yolo_fastest", "classes": ["red", "green", "blue"]}
    save_checkpoint(path, content | {"average": model.state_dict()})
    samples = open_split(data, "val")
    opened = open_model(str(path))
    assert opened.classes == ("red", "green", "blue")
    answers, expected = list(opened.detect(samples, 160)), predict(model, samples, 160)
    assert len(answers) == 2 and len(answers[0]) > 10
    for answer, other in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer.boxes, other.boxes, atol=1e-3)
    assert main(["--weights", str(path), "--data", str(data), "--size", "160", "--fit"]) == 0


def test_a_file_is_evaluated_by_a_chosen_runtime_in_a_chosen_precision(data, tmp_path, capsys):
    path = str(toy_model.write_toy_model(tmp_path / "toy.onnx", toy_model.CARD))
    result = tmp_path / "result.json"
    given = ["--weights", path, "--data", str(data), "--json", str(result)]
    assert main([*given, "--backend", "onnxruntime", "--precision", "fp32"]) == 0
    assert "backend onnxruntime, precision fp32" in result.read_text()
    assert main([*given, "--backend", "onnxruntime", "--precision", "bf16"]) == 1
    assert "bf16" in capsys.readouterr().err
    assert main(["--weights", "last.pt", "--data", str(data), "--precision", "bf16"]) == 1
    assert "last.pt is run by PyTorch: export it" in capsys.readouterr().err


def test_a_checkpoint_is_evaluated_at_inputs_that_fit_each_image(monkeypatch):
    """In the order of the images, and in batches of one shape."""
    model, seen = build("yolo_fastest", num_classes=2), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    rng = np.random.default_rng(0)
    sides = [(150, 200), (200, 150), (150, 200), (200, 200)]
    samples = [
        Sample(rng.integers(0, 255, (*shape, 3), np.uint8), boxes, labels, "") for shape in sides
    ]
    found = predict(model, samples, 320, fit=True)
    assert seen == [(2, 3, 256, 320), (1, 3, 320, 256), (1, 3, 320, 320)]
    for sample, answer, (height, width) in zip(samples, found, sides, strict=True):
        size = Size(320 if width >= height else 256, 320 if height >= width else 256)
        (expected,) = predict(model, [sample], size)
        np.testing.assert_allclose(answer.boxes, expected.boxes, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.pt", b"nothing", "broken.pt is damaged, or no file of PyTorch"),
        ("other.pt", None, "other.pt is not a checkpoint"),
        ("broken.onnx", b"nothing", "broken.onnx"),
        ("missing.onnx", b"", "there is no model file"),
        ("missing.pt", b"", "missing.pt"),
    ],
)
def test_unusable_weights_give_one_sentence(name, content, message, data, tmp_path, capsys):
    path = tmp_path / name
    if content is None:
        torch.save({"a": 1}, path)
    elif content:
        path.write_bytes(content)
    assert main(["--weights", str(path), "--data", str(data)]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_wrong_score_is_an_error_before_the_images_are_read(data, toy, monkeypatch, capsys):
    monkeypatch.setattr("training.evaluate.open_split", lambda *_, **__: pytest.fail("minutes"))
    assert main(["--weights", str(toy), "--data", str(data), "--score", "30"]) == 1
    assert "--score 30.0: give a value from 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--size", "100"], "multiple of 32"), (["--split", "nowhere"], "nowhere")],
)
def test_wrong_options_give_one_sentence(options, message, data, toy, capsys):
    assert main(["--weights", str(toy), "--data", str(data), *options]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_curves_are_plotted_on_a_sheet(data, toy, tmp_path, monkeypatch, capsys):
    data.write_text("val: images/val\nnames: [lime, person, rouge]\n")
    command = ["figure_sheet", "--weights", str(toy), "--data", str(data)]
    command += ["--out", str(tmp_path / "sheet.webp"), "--rename", "green=lime", "red=rouge"]
    monkeypatch.setattr("sys.argv", [*command, "--size", "100"])
    assert figure_sheet.main() == 1
    assert "input size 100 is not usable" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", command)
    assert figure_sheet.main() == 0
    assert cv2.imread(str(tmp_path / "sheet.webp")).std() > 10


def test_curves_of_classes_that_look_like_formulas_are_plotted(data, toy, tmp_path, monkeypatch):
    data.write_text("val: images/val\nnames: ['_$x^$', person, '$\\frac$']\n")
    drawn = []
    literal = figure_sheet.literal
    monkeypatch.setattr(figure_sheet, "literal", lambda name: drawn.append(name) or literal(name))
    command = ["figure_sheet", "--weights", str(toy), "--data", str(data)]
    command += ["--out", str(tmp_path / "sheet.webp"), "--rename", "green=_$x^$", "red=$\\frac$"]
    monkeypatch.setattr("sys.argv", command)
    assert figure_sheet.main() == 0 and {"_$x^$", "$\\frac$"} <= {*drawn}


def test_box_voting_can_be_left_out(data, toy, tmp_path):
    result, plain = tmp_path / "result.json", EVERYTHING.change(box_voting=False)
    facts = []
    for option in ([], ["--no-box-voting"]):
        assert (
            main(["--weights", str(toy), "--data", str(data), "--json", str(result), *option]) == 0
        )
        facts.append(json.loads(result.read_text())["facts"]["Detections"])
    assert "IoU of 0.5, box voting" in facts[0] and "IoU of 0.5, no box voting" in facts[1]
    samples = open_split(data, "val")
    model = build("yolo_fastest", num_classes=3)
    voted, alone = (
        predict(model, samples, 160),
        list(predictions(model, samples, 160, selection=plain)),
    )
    for ours, other in zip(voted, alone, strict=True):
        np.testing.assert_array_equal(ours.scores, other.scores)
        assert np.abs(ours.boxes - other.boxes).max() > 0.1


def test_sizes_that_are_given_one_by_one_add_up():
    line = "--weights m.pt --data data.yaml --size 224 --size 320x224 416"
    assert _parse(line.split()).size == [224, Size(320, 224), 416]
