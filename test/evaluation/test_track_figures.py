# SPDX-License-Identifier: Apache-2.0
"""The figures of tracks against those of TrackEval and py-motmetrics, and against what must hold.

The reference numbers were made with TrackEval 1.3.0 (HOTA, CLEAR, Identity; IoU 0.5) and
py-motmetrics 1.4.0 (mh.compute, distance 1 - IoU, at most 0.5), of these very sequences.
"""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import pytest

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation.tracking import TrackingEvaluator, TrackingFigures
from compact_yolo_ros.labels.ground_truth import GroundTruth

Boxes = dict[int, tuple[float, float, float, float]]


class Frame(NamedTuple):
    """Boxes of the objects and of the tracks, by their ids."""

    objects: Boxes
    tracks: Boxes


def box(x: float, y: float, width: float = 40.0, height: float = 80.0) -> tuple:
    return (x, y, x + width, y + height)


def interrupted() -> list[Frame]:
    """One that is lost and becomes another, one that is tracked loosely, and a false track."""
    frames = []
    for t in range(10):
        objects = {1: box(10 + 5 * t, 20), 2: box(200 - 4 * t, 30)}
        tracks = {2: box(200 - 4 * t + t, 30 + t)}
        if t != 5:
            tracks[1 if t < 5 else 3] = box(12 + 5 * t, 21)
        if 2 <= t <= 4:
            tracks[9] = box(300, 300)
        frames.append(Frame(objects, tracks))
    return frames


def exchanged() -> list[Frame]:
    """Two that cross and exchange their tracks; one frame has no objects, and one no tracks."""
    frames = []
    for t in range(14):
        left, right = box(10 * t, 50), box(130 - 10 * t, 60)
        first, second = (1, 2) if t < 7 else (2, 1)
        objects = {} if t == 3 else {7: left, 8: right}
        tracks = {} if t == 9 else {first: box(10 * t + 3, 52), second: box(128 - 10 * t, 61)}
        frames.append(Frame(objects, tracks))
    return frames


def crowded() -> list[Frame]:
    """Eight in a narrow place, with noise, misses, false tracks and switches at random."""
    random = np.random.RandomState(5)  # its numbers never change
    frames, name = [], {number: number for number in range(8)}
    start, step = random.uniform(0, 150, (8, 2)), random.uniform(-3, 3, (8, 2))
    for t in range(60):
        objects, tracks = {}, {}
        for number in range(8):
            x, y = start[number] + t * step[number]
            if random.rand() < 0.95:
                objects[number] = box(x, y)
            if random.rand() < 0.04:
                name[number] = 100 + 10 * t + number
            if random.rand() < 0.85:
                dx, dy, dw, dh = random.normal(0, 4, 4)
                tracks[name[number]] = box(x + dx, y + dy, 40 + dw, 80 + dh)
        if random.rand() < 0.3:
            tracks[1000 + t // 10] = box(*random.uniform(0, 200, 2))
        frames.append(Frame(objects, tracks))
    return frames


SEQUENCES = {"interrupted": interrupted(), "exchanged": exchanged(), "crowded": crowded()}


def truth(objects: Boxes) -> GroundTruth:
    boxes = np.array(list(objects.values()), np.float64).reshape(-1, 4)
    ids = np.array(list(objects), np.int64)
    return GroundTruth(boxes, np.zeros(len(ids), np.int64), tracks=ids)


def found(tracks: Boxes) -> Detections:
    boxes = np.array(list(tracks.values()), np.float64).reshape(-1, 4)
    ids = np.array(list(tracks), np.int64)
    return Detections(boxes, np.ones(len(ids), np.float32), np.zeros(len(ids), np.int32), ids)


def evaluate(*names: str) -> TrackingFigures:
    evaluator = TrackingEvaluator()
    for name in names:
        for objects, tracks in SEQUENCES[name]:
            evaluator.add(name, truth(objects), found(tracks))
    return evaluator.result()


# HOTA, DetA, AssA, MOTA, IDF1, switches, fragmentations, missed, false of TrackEval. py-motmetrics
# has the same MOTA, IDF1, switches, misses and false positives; it counts fragmentations otherwise
# (1, 2 and 54).
REFERENCE = {
    ("interrupted",): (0.601469, 0.637756, 0.568612, 0.750000, 0.714286, 1, 1, 1, 3),
    ("exchanged",): (0.442815, 0.737594, 0.268421, 0.769231, 0.538462, 2, 0, 2, 2),
    ("crowded",): (0.462129, 0.577267, 0.370462, 0.681416, 0.596847, 22, 76, 69, 53),
    tuple(SEQUENCES): (0.469869, 0.586518, 0.378342, 0.688755, 0.598778, 25, 77, 72, 58),
}


@pytest.mark.parametrize("names", REFERENCE)
def test_figures_are_those_of_trackeval_and_motmetrics(names) -> None:
    figures = evaluate(*names)
    ours = (figures.hota, figures.det_a, figures.ass_a, figures.mota, figures.idf1)
    assert ours == pytest.approx(REFERENCE[names][:5], abs=1e-6)
    counts = (figures.switches, figures.fragmentations, figures.missed, figures.false)
    assert counts == REFERENCE[names][5:]
    assert figures.frames == sum(len(SEQUENCES[name]) for name in names)


def test_sequences_may_take_turns_as_cameras_do() -> None:
    evaluator = TrackingEvaluator()
    for frames in zip_longest(*SEQUENCES.values()):
        for name, frame in zip(SEQUENCES, frames, strict=True):
            if frame is not None:
                evaluator.add(name, truth(frame.objects), found(frame.tracks))
    figures = evaluator.result()
    counts = (figures.switches, figures.fragmentations, figures.missed, figures.false)
    assert counts == REFERENCE[tuple(SEQUENCES)][5:]
    assert figures.mota == pytest.approx(REFERENCE[tuple(SEQUENCES)][3], abs=1e-6)


def test_names_of_tracks_do_not_matter() -> None:
    evaluator = TrackingEvaluator()
    for objects, tracks in SEQUENCES["crowded"]:
        renamed = {9999 - name: place for name, place in tracks.items()}
        evaluator.add("a", truth(objects), found(renamed))
    assert evaluator.result() == evaluate("crowded")


def test_what_is_right_is_one() -> None:
    evaluator = TrackingEvaluator()
    for objects, _ in SEQUENCES["crowded"]:
        evaluator.add("a", truth(objects), found(objects))
    figures = evaluator.result()
    assert (figures.hota, figures.mota, figures.idf1) == pytest.approx((1, 1, 1))
    assert figures.tracks == figures.object_tracks == 8


def test_another_class_is_another_object() -> None:
    evaluator = TrackingEvaluator()
    for objects, _ in SEQUENCES["crowded"]:
        seen = found(objects)
        other = Detections(seen.boxes, seen.scores, seen.labels + 1, seen.ids)
        evaluator.add("a", truth(objects), other)
    figures = evaluator.result()
    assert (figures.hota, figures.idf1) == (0, 0)
    assert figures.missed == figures.false == figures.objects


def test_a_track_in_an_ignored_box_does_not_count() -> None:
    evaluator, crowd = TrackingEvaluator(), np.array([[0.0, 0.0, 100.0, 100.0]])
    objects = {1: box(5, 5)}
    ignoring = replace(truth(objects), ignored=crowd, ignored_labels=np.array([0]))
    evaluator.add("a", ignoring, found({1: box(5, 5), 2: box(55, 15), 3: box(300, 10)}))
    assert (evaluator.result().missed, evaluator.result().false) == (0, 1)


def test_classes_that_are_not_labelled_do_not_count() -> None:
    evaluator = TrackingEvaluator()
    for objects, _ in SEQUENCES["crowded"]:
        both = found(objects | {name + 100: place for name, place in objects.items()})
        both.labels[len(objects) :] = 1
        evaluator.add("a", replace(truth(objects), unlabelled=frozenset({1})), both)
    figures = evaluator.result()
    assert (figures.hota, figures.mota, figures.false) == pytest.approx((1, 1, 0))


def test_what_is_ignored_may_be_of_a_class_that_the_frame_shows_nothing_else_of() -> None:
    evaluator, crowd = TrackingEvaluator(), np.array([[0.0, 0.0, 100.0, 100.0]])
    tracks = found({1: box(5, 5), 2: box(300, 10)})
    tracks.labels[:] = 4
    nothing = replace(truth({}), unlabelled=frozenset({1}))
    evaluator.add("a", nothing, found({}))
    evaluator.add("a", replace(nothing, ignored=crowd, ignored_labels=np.array([4])), tracks)
    assert evaluator.result().false == 1


def test_without_objects_there_are_no_ratios() -> None:
    evaluator = TrackingEvaluator()
    evaluator.add("a", truth({}), found({1: box(0, 0)}))
    figures = evaluator.result()
    assert math.isnan(figures.hota) and math.isnan(figures.mota) and math.isnan(figures.idf1)
    assert figures.false == 1
    assert math.isnan(TrackingEvaluator().result().hota)
    nothing = TrackingEvaluator()
    nothing.add("a", truth({1: box(0, 0)}), found({}))
    assert (nothing.result().hota, nothing.result().mota, nothing.result().idf1) == (0, 0, 0)


def test_labels_without_tracks_are_refused() -> None:
    with pytest.raises(ValueError, match="no tracks"):
        TrackingEvaluator().add("a", replace(truth({}), tracks=None), found({}))


def test_memory_grows_with_what_meets_not_with_the_square_of_the_tracks() -> None:
    evaluator, at = TrackingEvaluator(), {n: box(60 * n, 0) for n in range(20)}
    for number in range(150):
        tracks = {20 * number + n: place for n, place in at.items()}
        evaluator.add("a", truth(tracks), found(tracks))
    tracemalloc.start()
    try:
        figures = evaluator.result()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (figures.tracks, figures.hota, figures.idf1) == pytest.approx((3000, 1, 1))
    assert most < 8_000_000, "a table of all tracks has 72 MB"
