# SPDX-License-Identifier: Apache-2.0
"""What the report of a recording shows: the worst frames, the input stream, streaming accuracy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_writer import PERIOD, START, TOPIC, draw_scene, image, write_bag

from compact_yolo_ros.apps.evaluate_bag.arguments import parse
from compact_yolo_ros.apps.evaluate_bag.frame_export import export_frames
from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, DROPPED, FrameResult
from compact_yolo_ros.apps.evaluate_bag.frame_names import frame_of_name
from compact_yolo_ros.apps.evaluate_bag.streaming import StreamingAccuracy
from compact_yolo_ros.apps.evaluate_bag.topic_statistics import stream_figures
from compact_yolo_ros.apps.evaluate_bag.worst_frames import ExampleFrame, WorstFrames
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation import ClassMapping
from compact_yolo_ros.evaluation.result import ImageErrors
from compact_yolo_ros.labels.ground_truth import RELATIVE, GroundTruth
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.recordings.reader import Bag

SECOND = 10**9
MAPPING = ClassMapping.match(["ball"], ["ball"])


def at(x: float) -> Detections:
    """A ball of 20 pixels at column x."""
    box = np.array([[x, 10, x + 20, 30]], np.float32)
    return Detections(box, np.array([0.9], np.float32), np.array([0], np.int32))


def truth_at(x: float) -> GroundTruth:
    return GroundTruth(np.array([[x, 10.0, x + 20, 30]]), np.array([0]), size=Size(200, 100))


def worst_of(frames: list[tuple[str, float, int]], count: int) -> list[tuple[str, float]]:
    """(topic, second) of what is kept of frames (topic, second, errors)."""
    worst = WorstFrames(count)
    for topic, second, errors in frames:
        frame = ExampleFrame(topic, round(second * SECOND), truth_at(0), at(0), "")
        worst.add(frame, ImageErrors(0, "", 0, errors, 0, 0))
    return [(frame.topic, frame.time / SECOND) for frame in worst.frames()]


def test_a_bad_scene_is_shown_once() -> None:
    scene = [("front", 10 + n / 30, 9) for n in range(30)]
    found = worst_of([*scene, ("front", 40, 2), ("front", 70, 3), ("front", 90, 0)], 9)
    assert [second for _, second in found] == [10, 70, 40]


def test_every_camera_has_its_worst_frames() -> None:
    front = [("front", 10 * n, 9) for n in range(20)]
    found = worst_of([*front, ("rear", 5, 1), ("rear", 25, 2)], 4)
    assert found == [("front", 0), ("rear", 25), ("front", 10), ("rear", 5)]


def test_the_input_stream_is_described_by_its_intervals() -> None:
    times = np.array([0, 100, 200, 310, 800, 900]) * 10**6
    found = stream_figures(times + 5 * SECOND, 4 * SECOND)
    assert (found.rate, found.jitter_ms, found.longest_gap_ms) == (10.0, 0.0, 490.0)
    assert found.longest_gap_at == pytest.approx(1.31)
    assert found.interval_ms is not None
    assert found.interval_ms.p50 == 100


def test_a_single_image_makes_no_stream() -> None:
    assert stream_figures(np.array([SECOND]), 0).rate is None


def streaming_of(delay: float, dropped: int = -1) -> tuple[float, int]:
    """AP50 and known answers of a ball that moves 4 pixels a frame at 10 Hz, so much later."""
    streaming, known = StreamingAccuracy(MAPPING), 0
    for n in range(30):
        time = SECOND + n * SECOND // 10
        outcome = DROPPED if n == dropped else ANSWERED
        finished = time + round(delay * SECOND)
        found = at(4 * n) if outcome == ANSWERED else Detections.empty()
        size = Size(200, 100) if outcome == ANSWERED else Size(0, 0)
        answer = FrameResult("front", time, time, "", outcome, size, found, finished=finished)
        before = streaming.known_at(answer)
        known += before is not None
        streaming.add("front", before, truth_at(4 * n))
    summary = streaming.summary()
    assert summary is not None
    return summary.ap50, known


@pytest.mark.parametrize(
    ("delay", "late", "hit"), [(0.05, 1, True), (0.15, 2, False), (0.25, 3, False)]
)
def test_what_is_known_is_as_old_as_the_detector_is_late(
    delay: float, late: int, hit: bool
) -> None:
    """A box of 20 pixels that is 4n behind overlaps by (20 - 4n) / (20 + 4n): 0.67, 0.43, 0.25."""
    ap50, known = streaming_of(delay)
    assert known == 30 - late
    # without an answer the first frames are missed, and recall ends below 1: 101 points of it
    expected = np.count_nonzero(np.linspace(0, 1, 101) <= (30 - late) / 30) / 101 if hit else 0
    assert ap50 == pytest.approx(expected)


def test_a_dropped_frame_keeps_what_was_known_before() -> None:
    ap50, known = streaming_of(0.05, dropped=10)
    assert known == 29
    assert 0.8 < ap50 < streaming_of(0.05)[0]


def by_size(*, labelled: Size, answered: bool = True) -> list[float]:
    """AP of small, medium and large objects: one of 320x240 pixels, always there.

    The detector needs 50 ms, and drops the first image.
    """
    streaming = StreamingAccuracy(MAPPING)
    large = np.array([[160.0, 120, 480, 360]])
    fraction = np.array([*labelled, *labelled]) / (640, 480, 640, 480)
    truth = GroundTruth(large * fraction, np.array([0]), size=labelled)
    found = Detections(large.astype(np.float32), at(0).scores, at(0).labels)
    for n in range(10):
        time = SECOND + n * SECOND // 10
        result = FrameResult("front", time, time, "", DROPPED)
        if answered and n:
            result = FrameResult(
                "front",
                time,
                time,
                "",
                ANSWERED,
                Size(640, 480),
                found,
                finished=time + SECOND // 20,
            )
        streaming.add("front", streaming.known_at(result), truth)
    summary = streaming.summary()
    assert summary is not None and (summary.ap50 > 0.7) == answered
    return [summary.ap_small, summary.ap_medium, summary.ap_large]


@pytest.mark.parametrize("labelled", [RELATIVE, Size(64, 48), Size(640, 480)])
def test_objects_before_the_first_answer_have_the_size_of_the_recorded_image(
    labelled: Size,
) -> None:
    """The labelled one may be smaller, or YOLO's of 1x1: then all would be small."""
    small, medium, large = by_size(labelled=labelled)
    assert np.isnan([small, medium]).all()
    assert large == pytest.approx(np.count_nonzero(np.linspace(0, 1, 101) <= 8 / 10) / 101)


def test_without_any_answer_the_sizes_of_yolos_objects_are_not_known() -> None:
    assert np.isnan(by_size(labelled=RELATIVE, answered=False)).all()
    assert by_size(labelled=Size(640, 480), answered=False)[2] == 0


def test_exported_frames_are_named_by_their_stamps(tmp_path: Path) -> None:
    scenes = [draw_scene(n) for n in range(5)]
    write_bag(tmp_path / "drive", [image(scene, n) for n, scene in enumerate(scenes)])
    stamps = [START + n * PERIOD for n in range(5)]
    results = [FrameResult(TOPIC, stamp + 5_000_000, stamp, "", ANSWERED) for stamp in stamps]
    results[0] = replace(results[0], outcome=DROPPED)
    folder = tmp_path / "frames"
    bag = Bag([tmp_path / "drive"])
    assert export_frames(folder, bag, TOPIC, iter(results), apart=2 * PERIOD * 1e-9) == 2
    names = sorted(path.name for path in folder.iterdir())
    assert [frame_of_name(name).value for name in names] == [stamps[1], stamps[3]]
    shown = cv2.imread(str(folder / names[1]))[..., ::-1]
    assert np.abs(shown.astype(int) - scenes[3].pixels).mean() < 3


def test_an_option_that_is_given_twice_adds_to_the_first() -> None:
    line = "--bag a --bag b --topic /x --topic /y --model m --out o"
    line += " --class-threshold a:0.1 --class-threshold b:0.2 --rename a=c --rename b=d"
    options = parse(f"{line} --ground-truth /x=p --ground-truth /y=q".split())
    assert [path.name for path in options.bag] == ["a", "b"]
    assert (options.topic, options.ground_truth) == (["/x", "/y"], ["/x=p", "/y=q"])
    assert options.class_threshold == ["a:0.1", "b:0.2"]
    assert options.rename == [("a", "c"), ("b", "d")]


def test_a_class_that_is_renamed_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    line = "--bag a --model m --out o --reference r --rename a=b"
    assert parse(f"{line} a=b c=b".split()).rename == [("a", "b"), ("c", "b")]
    for again in ("a=c", "--rename a=c"):
        with pytest.raises(SystemExit, match="2"):
            parse(f"{line} {again}".split())
        assert "'a' has two new names: 'b' and 'c'" in capsys.readouterr().err
