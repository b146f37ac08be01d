# SPDX-License-Identifier: Apache-2.0
"""The page that shows an evaluation, as a reader's browser gets it."""

from __future__ import annotations

import base64
import os
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation import ClassMapping, evaluate, report
from compact_yolo_ros.evaluation.example_images import COLOURS, ExampleImage, draw
from compact_yolo_ros.evaluation.plots import add_legend, new_figure, to_svg
from compact_yolo_ros.evaluation.report import Plot, Section, ShownEvaluation, Table, write_report
from compact_yolo_ros.labels.ground_truth import GroundTruth
from compact_yolo_ros.support.pip import pip_line

CLASSES = ("person", "<b>car</b>")
VOID = {"meta", "br", "img", "link", "input"}


class Page(HTMLParser):
    """Checks that elements close, and keeps what a test asks for."""

    def __init__(self, path):
        super().__init__()
        self.stack, self.tags, self.links, self.words = [], [], [], []
        self.source = path.read_text()
        self.feed(self.source)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [
            value
            for name, value in attributes
            if name in ("href", "src", "xlink:href", "action", "srcset", "data")
        ]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("style", "script") and data.strip():
            self.words.append(data.strip())


def rows(*items):
    boxes, scores, labels = zip(*items, strict=True)
    return Detections(
        np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels, np.int32)
    )


@pytest.fixture
def picture():
    """One hit, one mix-up, one object missed, one invention, one crowd."""
    boxes = np.array([[10, 30, 60, 80], [80, 30, 130, 80], [150, 30, 200, 80]], np.float32)
    crowd = np.array([[10, 120, 60, 170]], np.float32)
    truth = GroundTruth(boxes, np.array([0, 1, 1]), "street_1", (200, 280), crowd)
    invented = (210, 120, 260, 170)
    found = rows((boxes[0], 0.9, 0), (boxes[1], 0.8, 0), (invented, 0.6, 1), (crowd[0], 0.5, 0))
    return ExampleImage(np.full((200, 280, 3), 90, np.uint8), truth, found, "street_1: 3 wrong")


@pytest.fixture
def result(picture):
    evaluation = evaluate([picture.truth], [picture.detections], CLASSES)
    return ShownEvaluation("320", evaluation, [picture])


def test_the_page_stands_alone_and_says_what_was_measured(result, tmp_path):
    path = tmp_path / "out" / "report.html"
    section = Section(
        "Latency",
        "Measured <here>.",
        [
            Table(
                ["stage", "ms"], [["network", 15.25], ["letterbox", float("nan")], ["count", None]]
            )
        ],
        [Plot(to_svg(new_figure()[0]), "nothing yet")],
        "<p id=own>as it is</p>",
    )
    write_report(path, "toy & street", [result], {"Model": "toy"}, [section])
    page = Page(path)
    # Images and plots are inside, and a name in angle brackets stays a name.
    outside = [link for link in page.links if not link.startswith(("data:image/", "#"))]
    assert outside == [] and not re.search(r"url\((?!#)|@import|<script", page.source)
    assert page.tags.count("svg") == 7 and page.tags.count("img") == 1
    for words in (*CLASSES, "toy & street", "Measured <here>.", "as it is", "15.2", "–"):
        assert any(words in text for text in page.words), words
    summary = result.evaluation.summary().named()
    assert f"{summary['AP50']:.3f}" in page.words
    assert "None" not in page.words and "nan" not in page.words
    assert "street_1: 3 wrong" in page.words
    assert "width=device-width" in page.source and "prefers-color-scheme: dark" in page.source


def test_plots_have_the_colours_of_the_page(result, tmp_path):
    write_report(tmp_path / "a.html", "a", [result])
    plots = re.findall(r"<svg.*?</svg>", (tmp_path / "a.html").read_text(), re.DOTALL)
    for plot in plots:
        assert "currentColor" in plot and "#000000" not in plot and "<text" in plot
    ids = [re.findall(r'<clipPath id="(\w+)"', plot) for plot in plots]
    assert len(ids) == 6
    # A plot may share a clip path with another only if it is the same one.
    shapes = dict.fromkeys(re.findall(r'<clipPath id="\w+">.*?</clipPath>', "".join(plots), re.S))
    assert len({re.search(r'id="(\w+)"', shape)[1] for shape in shapes}) == len(shapes)


def test_names_of_lines_have_the_colour_of_the_text():
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], label="p50 12.5 ms")
    add_legend(axes)
    styles = re.findall(r"<text([^>]*)>", to_svg(figure))
    assert styles and all("fill: currentColor" in style for style in styles)


def test_an_image_whose_name_is_not_utf8_does_not_cost_the_page(picture, result, tmp_path):
    shown = replace(picture, caption=os.fsdecode(b"stra\xdfe: 3 wrong"))
    write_report(tmp_path / "a.html", "a", [replace(result, worst=[shown])])
    assert "stra?e: 3 wrong" in Page(tmp_path / "a.html").words


def test_several_results_are_compared(result, tmp_path):
    write_report(tmp_path / "a.html", "a", [result, ShownEvaluation("<416>", result.evaluation)])
    page = Page(tmp_path / "a.html")
    assert page.tags.count("details") == 2 and page.words.count("<416>") == 2


def test_a_page_needs_no_evaluation(tmp_path):
    write_report(tmp_path / "a.html", "speed only", sections=[Section("Latency", "15 ms")])
    assert Page(tmp_path / "a.html").words == ["speed only", "speed only", "Latency", "15 ms"]


def test_nothing_found_and_nothing_there_can_be_shown(picture, tmp_path):
    nothing = evaluate([picture.truth], [Detections.empty()], ("a", "b", "absent"))
    shown = [ShownEvaluation("x", nothing), ShownEvaluation("y", evaluate([], [], "a"))]
    write_report(tmp_path / "a.html", "a", shown)
    assert "–" in Page(tmp_path / "a.html").words


def test_of_many_classes_the_mix_ups_are_listed(picture, tmp_path):
    names = [f"class {number}" for number in range(30)]
    evaluation = evaluate([picture.truth], [picture.detections], names)
    write_report(tmp_path / "a.html", "a", [ShownEvaluation("x", evaluation)])
    words = Page(tmp_path / "a.html").words
    place = words.index("times")
    assert ["class 1", "class 0", "1"] in [words[i : i + 3] for i in range(place, place + 12)]


def test_a_disk_that_fills_up_leaves_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "a.html"
    path.write_text("old")

    def fill_up(self, text, *_):
        self.write_bytes(text.encode()[:100])
        raise OSError("no space left")

    monkeypatch.setattr(type(path), "write_text", fill_up)
    with pytest.raises(OSError, match="no space left"):
        write_report(path, "a", sections=[Section("x")])
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_missing_library_is_named_with_its_packages(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    message = f"a report needs jinja2: sudo apt install python3-jinja2, or {pip_line('jinja2')}"
    with pytest.raises(report.ReportError, match=re.escape(message)):
        write_report(tmp_path / "a.html", "a")


def test_a_library_that_was_built_for_another_numpy_is_named_with_its_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = r"a report needs matplotlib \(matplotlib cannot be imported: .* halted.*\): .*pip"
    with pytest.raises(report.ReportError, match=message):
        write_report(tmp_path / "a.html", "a")


def bgr(name):
    return tuple(reversed(bytes.fromhex(COLOURS[name][1:])))


def shown(image, box):
    """Colours on the bottom edge of a box, which no caption covers."""
    x1, _, x2, y2 = box
    return {tuple(pixel) for pixel in image[y2, x1 + 4 : x2 - 4].tolist()}


def test_a_picture_shows_what_was_found_missed_and_invented(picture):
    image = draw(picture, CLASSES, 0.3)
    assert image.shape == picture.pixels.shape
    assert bgr("found") in shown(image, (10, 30, 60, 80))
    assert bgr("confused") in shown(image, (80, 30, 130, 80))
    assert bgr("missed") in shown(image, (150, 30, 200, 80))
    assert bgr("false") in shown(image, (210, 120, 260, 170))
    assert bgr("ignored") in shown(image, (10, 120, 60, 170))
    assert not np.any([picture.pixels != 90]), "the image itself stays"
    above = draw(picture, CLASSES, 0.85)
    assert bgr("missed") in shown(above, (80, 30, 130, 80))
    assert bgr("false") not in shown(above, (210, 120, 260, 170))


@pytest.mark.parametrize("far", [1e5, 3e9, 1e30])
def test_a_label_far_beyond_its_picture_is_drawn_within_it(far):
    """As after a typing error; the report would be lost, or take minutes."""
    ignored = np.array([[-far, -far, far, 70.0]])
    truth = GroundTruth(np.array([[20, 30, far, far]]), np.array([0]), ignored=ignored)
    pixels = np.zeros((180, 280, 3), np.uint8)
    image = draw(ExampleImage(pixels, truth, Detections.empty()), CLASSES, 0.3)
    assert bgr("missed") in {tuple(pixel) for pixel in image[60:170, 20].tolist()}
    assert bgr("ignored") in {tuple(pixel) for pixel in image[70, 30:250].tolist()}
    assert not image[100, 250:].any(), "a side that is outside is not drawn at the edge"


def test_large_pictures_are_shown_small(picture, result, tmp_path):
    wide = ExampleImage(np.zeros((800, 1120, 3), np.uint8), picture.truth, picture.detections)
    write_report(tmp_path / "a.html", "a", [ShownEvaluation("x", result.evaluation, [wide])])
    (link,) = [link for link in Page(tmp_path / "a.html").links if link.startswith("data:")]
    content = base64.b64decode(link.removeprefix("data:image/jpeg;base64,"))
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape == (400, 560, 3)


def test_mapping_classes_leaves_out_what_is_not_shared(picture):
    mapping = ClassMapping.match(("dog", "car"), ("person", "car", "cat"), {"dog": "cat"})
    assert mapping.classes == ("car", "cat")
    truth = GroundTruth(
        picture.truth.boxes,
        np.array([2, 1, 0]),
        "a",
        (200, 280),
        np.array([[0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 3, 3]]),
        np.array([0, 1, -1]),
        frozenset({0, 2}),
    )
    mapped = mapping.truth(truth)
    assert mapped.labels.tolist() == [1, 0]
    assert mapped.boxes.tolist() == truth.boxes[:2].tolist()
    assert mapped.ignored.tolist() == [[1, 1, 2, 2], [2, 2, 3, 3]]
    assert mapped.ignored_labels.tolist() == [0, -1] and mapped.unlabelled == {1}
    assert mapping.detections(picture.detections).labels.tolist() == [1, 1, 0, 1]
    assert mapping.left_out == "Not evaluated: person (not known to the model)."
