# SPDX-License-Identifier: Apache-2.0
"""Nothing answered is a failure, doubtful ages are questioned, and accuracy says of what it is."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_writer import (
    CODEC,
    PERIOD,
    START,
    TOPIC,
    Recorded,
    draw_scene,
    header_of,
    image,
    labelled,
    write_bag,
)

from compact_yolo_ros.apps.evaluate_bag.command import main
from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.apps.evaluate_bag.report_page import sections
from compact_yolo_ros.apps.evaluate_bag.results import Results, read_results
from compact_yolo_ros.apps.evaluate_bag.topic_statistics import TopicStatistics
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.recordings.image_types import COMPRESSED_IMAGE, IMAGE

pytestmark = pytest.mark.usefixtures("no_report")

FRAMES = 6
SCENES = [draw_scene(number) for number in range(FRAMES)]
MS = 1_000_000
HOUR = 3600 * 10**9


def raw(number: int, encoding: str, pixel_bytes: int, content: bytes | None = None) -> Recorded:
    pixels = np.frombuffer(bytes(64 * pixel_bytes) if content is None else content, np.uint8)
    stamp = START + number * PERIOD
    message = CODEC.store.types[IMAGE](header_of(stamp), 8, 8, encoding, 0, 8 * pixel_bytes, pixels)
    return Recorded(TOPIC, IMAGE, stamp, bytes(CODEC.store.serialize_cdr(message, IMAGE)))


def named(number: int, frame_id: str) -> Recorded:
    recorded = image(SCENES[0], number)
    message = CODEC.store.deserialize_cdr(recorded.data, IMAGE)
    message = replace(message, header=replace(message.header, frame_id=frame_id))
    return replace(recorded, data=bytes(CODEC.store.serialize_cdr(message, IMAGE)))


def packed(number: int, format_: str, content: bytes) -> Recorded:
    stamp = START + number * PERIOD
    pixels = np.frombuffer(content, np.uint8)
    message = CODEC.store.types[COMPRESSED_IMAGE](header_of(stamp), format_, pixels)
    data = bytes(CODEC.store.serialize_cdr(message, COMPRESSED_IMAGE))
    return Recorded(TOPIC, COMPRESSED_IMAGE, stamp, data)


WEBP = cv2.imencode(".webp", SCENES[0].pixels)[1].tobytes()
UNUSABLE = {
    "h264": lambda n: packed(n, "h264", b"\0\0\0\1\x67" + bytes(500)),
    "webp": lambda n: packed(n, "webp", WEBP),
    "empty": lambda n: packed(n, "jpeg", b""),
    "16UC1": lambda n: raw(n, "16UC1", 2),
    "32FC1": lambda n: raw(n, "32FC1", 4),
    "cut off": lambda n: raw(n, "rgb8", 3, b"123"),
    "frame_id": lambda n: named(n, "x" * 100_000),
    "no message": lambda n: replace(raw(n, "rgb8", 3), data=b"\0\1\0\0nothing"),
}
REASON = {
    "h264": "(format 'h264') is neither JPEG nor PNG",
    "webp": "(format 'webp') is neither JPEG nor PNG",
    "empty": "is neither JPEG nor PNG",
    "16UC1": "image encoding 16UC1 holds distances, not colours",
    "32FC1": "image encoding 32FC1 holds distances, not colours",
    "cut off": "the image has 3 bytes",
    "frame_id": "the frame_id of the image has 100000 letters",
    "no message": f"a message of {TOPIC} cannot be read",
}


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """What a person sees, without the borders and line breaks of tables."""
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def evaluate(bag: Path, model: str, out: Path, *options: str) -> int:
    return main(["--bag", str(bag), "--model", model, "--out", str(out), *options])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, ()) for kind in UNUSABLE),
        ("h264", ("--ground-truth", "/truth")),
        ("16UC1", ("--latency", "9")),
    ],
)
def test_a_recording_of_which_nothing_is_answered_is_a_failure(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    options: tuple[str, ...],
) -> None:
    images = [UNUSABLE[kind](number) for number in range(3)]
    bag = write_bag(tmp_path / "bag", [*images, *map(labelled, SCENES[:3], range(3))])
    assert evaluate(bag, model, tmp_path / "out", *options) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"evaluate_bag: no image of {TOPIC} was answered: 3 image ")
    assert REASON[kind] in said
    results = read_results(tmp_path / "out")
    assert results.topics[TOPIC].frames.all == 3
    course = next(s for s in sections(results, np.empty(0), np.empty(0)) if s.title == "Over time")
    assert (course.text, list(course.plots)) == ("Nothing was found.", [])


def test_a_topic_without_an_answer_is_a_failure_beside_one_with(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [image(scene, number, "/good") for number, scene in enumerate(SCENES)]
    bag = write_bag(tmp_path / "bag", [*good, *map(UNUSABLE["16UC1"], range(2))])
    assert evaluate(bag, model, tmp_path / "out", "--topic", "/good", TOPIC) == 1
    said = capsys.readouterr()
    assert said.err.count("was answered") == 1 and f"no image of {TOPIC}" in said.err
    assert "6 answered" in said.out
    assert evaluate(bag, model, tmp_path / "one", "--topic", "/good") == 0


def test_one_answer_among_many_is_no_failure(model: str, tmp_path: Path) -> None:
    bad = map(UNUSABLE["16UC1"], range(1, 9))
    bag = write_bag(tmp_path / "bag", [image(SCENES[0], 0), *bad])
    assert evaluate(bag, model, tmp_path / "out") == 0


def test_a_reference_without_an_answer_says_why(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "bag", map(UNUSABLE["32FC1"], range(3)))
    assert evaluate(bag, model, tmp_path / "out", "--reference", model) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert f"the reference model could answer no image of {TOPIC}" in said
    assert REASON["32FC1"] in said


def test_a_live_node_without_an_answer_is_a_failure(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "bag", [image(s, n) for n, s in enumerate(SCENES)])
    node = write_bag(tmp_path / "node", [labelled(SCENES[0], 5000, "/detector/detections")])
    assert evaluate(bag, model, tmp_path / "out", "--recorded", str(node)) == 1
    assert f"no image of {TOPIC} was answered: 6 not answered" in capsys.readouterr().err


def test_accuracy_of_no_image_is_a_failure(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each image takes 250 ms: the labelled one, the second, is dropped."""
    images = [image(scene, number) for number, scene in enumerate(SCENES)]
    bag = write_bag(tmp_path / "bag", [*images, labelled(SCENES[1], 1)])
    options = ("--latency", "250", "--ground-truth", "/truth")
    assert evaluate(bag, model, tmp_path / "out", *options) == 1
    assert "none of the 1 labelled images was answered" in capsys.readouterr().err
    assert evaluate(bag, model, tmp_path / "all", "--ground-truth", "/truth") == 0


def test_accuracy_says_of_what_it_is(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six images, of which two have no label; two labels have no image; all boxes are known."""
    images = [image(scene, number) for number, scene in enumerate(SCENES)]
    labels = [labelled(draw_scene(n), n) for n in (0, 1, 2, 3, 20, 21)]
    bag = write_bag(tmp_path / "bag", [*images, *labels])
    assert evaluate(bag, model, tmp_path / "out", "--ground-truth", "/truth") == 0
    said = printed(capsys)
    assert "4 images, 12 objects" in said
    assert "4 of 6 matched, 2 without an image, 2 images without a label" in said
    options = ("--ground-truth", "/truth", "--latency", "150")
    assert evaluate(bag, model, tmp_path / "late", *options) == 0
    assert "labelled images were not answered" in printed(capsys)


AGES = {
    "one clock": (lambda n: n * PERIOD + 5 * MS, [], 45),
    "a slow network": (lambda n: n * PERIOD + 4_000 * MS, [], 4040),
    "stamps a second ahead": (
        lambda n: n * PERIOD - 1000 * MS,
        ["stamps of /camera/image_raw are 1.00 s after the times of recording"],
        None,
    ),
    "stamps a little ahead": (
        lambda n: n * PERIOD - 30 * MS,
        ["are 0.03 s after the times of recording: they are of another clock"],
        None,
    ),
    "a clock that advances in steps of 10 ms": (lambda n: n * PERIOD - 8 * MS, [], 32),
    "since the start of the camera": (
        lambda n: n * PERIOD + HOUR,
        ["are 3600.00 s before the times of recording: they are of another clock"],
        None,
    ),
    "one stamp that jumps ahead": (
        lambda n: n * PERIOD + (5 * MS if n else -60 * MS),
        ["1 of 6 answered images of /camera/image_raw would have been answered before"],
        45,
    ),
    "no stamps": (
        lambda n: n * PERIOD,
        ["have no stamps but the times of recording: the age"],
        40,
    ),
}


@pytest.mark.parametrize("case", AGES)
def test_ages_that_cannot_be_are_questioned(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """Each image takes 40 ms."""
    received, sentences, age = AGES[case]
    messages = [replace(image(s, n), time=START + received(n)) for n, s in enumerate(SCENES)]
    bag = write_bag(tmp_path / "bag", messages)
    assert evaluate(bag, model, tmp_path / "out", "--latency", "40") == 0
    results = read_results(tmp_path / "out")
    found = results.speed.age_ms
    assert (found and round(found.p50)) == age
    assert len(results.recording.doubts) == len(sentences)
    said = printed(capsys)
    for sentence, doubt in zip(sentences, results.recording.doubts, strict=True):
        assert sentence in doubt
        assert f"Doubtful: {' '.join(doubt.split())}" in said
    assert results.recording.lost == ()


def test_ages_below_zero_do_not_count() -> None:
    """Three images in ten seconds; the second one has a stamp from the future."""
    found = TopicStatistics(1, Selection(0.3))
    for second, stamp, finished in ((0, 0, 1), (5, 9, 6), (10, 10, 12)):
        times = [START + n * 10**9 for n in (second, stamp, finished)]
        found.add(FrameResult(TOPIC, *times[:2], "", ANSWERED, finished=times[2]))
    assert found.ages.tolist() == [1.0, 2.0]
    assert found.impossible_ages == 1


def test_without_ages_clocks_do_not_matter(model: str, tmp_path: Path) -> None:
    messages = [replace(image(s, n), time=START + HOUR + n) for n, s in enumerate(SCENES)]
    bag = write_bag(tmp_path / "bag", messages)
    assert evaluate(bag, model, tmp_path / "out") == 0
    assert read_results(tmp_path / "out").recording.doubts == ()


def test_images_of_one_stamp_are_questioned(model: str, tmp_path: Path) -> None:
    same = [replace(image(s, 0), time=START + n * PERIOD) for n, s in enumerate(SCENES)]
    bag = write_bag(tmp_path / "bag", same)
    assert evaluate(bag, model, tmp_path / "out") == 0
    (doubt,) = read_results(tmp_path / "out").recording.doubts
    assert "5 of 6 images of /camera/image_raw have the stamp of another one" in doubt


def gap(model: str, tmp_path: Path) -> Results:
    """Two images in the first second, none in the next two, an unusable one, two in the fifth."""
    seconds = [0.0, 0.5, 4.0, 4.5]
    frames = [
        replace(image(SCENES[n], n), time=START + round(s * 1e9)) for n, s in enumerate(seconds)
    ]
    bad = replace(UNUSABLE["16UC1"](9), time=START + 3 * 10**9)
    assert evaluate(write_bag(tmp_path / "bag", [*frames, bad]), model, tmp_path / "out") == 0
    return read_results(tmp_path / "out")


def test_a_second_without_an_answer_is_a_gap(model: str, tmp_path: Path) -> None:
    course = gap(model, tmp_path).topics[TOPIC].over_time
    assert course.frames == (2, 0, 0, 1, 2)
    assert course.unreadable == (0, 0, 0, 1, 0)
    # Three squares a scene, those that are bright enough.
    known = [number is not None and not math.isnan(number) for number in course.detections]
    assert known == [True, False, False, False, True]
    plain = json.loads((tmp_path / "out" / "results.json").read_text())
    assert plain["topics"][TOPIC]["over_time"]["detections"][1:4] == [None, None, None]


def test_the_plot_shows_the_gap(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = gap(model, tmp_path)
    monkeypatch.undo()  # the report is needed here
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    drawn = []
    step = Axes.step
    monkeypatch.setattr(
        Axes, "step", lambda axes, x, y, **more: (drawn.append(y), step(axes, x, y, **more))[1]
    )
    found = sections(results, np.ones(4), np.empty(0))
    (course,) = (section for section in found if section.title == "Over time")
    assert len(course.plots) == 1
    ((*_, values),) = [drawn]
    assert [math.isnan(value) for value in values] == [False, True, True, True, False]


def test_a_report_tells_doubts(model: str, tmp_path: Path) -> None:
    same = [replace(image(s, 0), time=START + n * PERIOD) for n, s in enumerate(SCENES)]
    bag = write_bag(tmp_path / "bag", same)
    assert evaluate(bag, model, tmp_path / "out") == 0
    found = sections(read_results(tmp_path / "out"), np.empty(0), np.empty(0))
    (doubtful,) = (section for section in found if section.title == "What is doubtful")
    assert doubtful.text.startswith("5 of 6 images") and doubtful.text.endswith(".")
