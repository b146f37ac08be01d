# SPDX-License-Identifier: Apache-2.0
"""The figures of an evaluation are those of the field's reference programs."""

from __future__ import annotations

import contextlib
import io
import json
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compact_yolo_ros.detection.boxes import areas_of
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation import Evaluator, evaluate
from compact_yolo_ros.evaluation.result import EvaluationFigures
from compact_yolo_ros.labels.ground_truth import ANY_CLASS, GroundTruth
from compact_yolo_ros.support.plain_values import from_plain, to_plain

CLASSES = ("a", "b", "c")
SIZE = (300, 300)


def boxes_of(rng, count, whole):
    """Boxes of all of COCO's sizes; on whole pixels, so that overlaps and scores often tie."""
    corner = rng.uniform(0, 150, (count, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(4, 150, (count, 2))), 1)
    return (np.round(boxes / 8) * 8 + [0, 0, 8, 8] if whole else boxes).astype(np.float32)


def scene_of(seed, images=6, whole=False, ignored=True, most=12):
    """Truths and detections; the last class is often absent, some images are empty."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for number in range(images):
        count, crowds = rng.integers(0, 6), rng.integers(0, 3) * ignored
        boxes, labels = boxes_of(rng, count, whole), rng.integers(0, 2, count)
        places = np.concatenate((boxes, boxes_of(rng, crowds, whole)))
        crowd_labels = rng.integers(0, 2, crowds)
        truth = GroundTruth(boxes, labels, str(number), SIZE, places[count:], crowd_labels)
        truths.append(truth)
        near = places[rng.random(len(places)) < 0.8]
        shift = 8 * rng.integers(-1, 2, near.shape) if whole else rng.normal(0, 4, near.shape)
        noise = boxes_of(rng, rng.integers(0, most), whole)
        all_boxes = np.concatenate((near + shift, noise)).astype(np.float32)
        all_boxes[:, 2:] = np.maximum(all_boxes[:, 2:], all_boxes[:, :2] + 1)
        scores = rng.random(len(all_boxes)).astype(np.float32)
        scores = np.round(scores, 1) if whole else scores
        own = np.concatenate((labels, crowd_labels, rng.integers(0, 3, len(all_boxes))))
        own = own[: len(all_boxes)].astype(np.int32)
        found.append(Detections(all_boxes, scores, own))
    return truths, found


def pycocotools(truths, found, classes=CLASSES):
    """The reference's evaluation after accumulate() and summarize()."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def row(image, box, label, **more):
        x, y, w, h = map(float, (*box[:2], *(np.float64(box[2:]) - box[:2])))
        fields = {"image_id": image, "category_id": int(label), "bbox": [x, y, w, h]}
        return fields | {"area": w * h} | more

    objects = []
    for image, truth in enumerate(truths):
        for box, label in zip(truth.boxes, truth.labels, strict=True):
            objects.append(row(image, box, label, iscrowd=0))
        for box, label in zip(truth.ignored, truth.ignored_labels, strict=True):
            for one in range(len(classes)) if label == ANY_CLASS else [label]:
                objects.append(row(image, box, one, iscrowd=1))
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(len(truths))],
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes)],
        "annotations": [item | {"id": number + 1} for number, item in enumerate(objects)],
    }
    rows = [
        row(image, box, label, score=float(score))
        for image, item in enumerate(found)
        for box, label, score in zip(item.boxes, item.labels, item.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(rows) if rows else COCO(), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


NAMES = ["AP", "AP50", "AP75", "AP small", "AP medium", "AP large"]
NAMES += ["AR1", "AR10", "AR100", "AR small", "AR medium", "AR large"]


def assert_equal_to_pycocotools(truths, found):
    ours, theirs = evaluate(truths, found, CLASSES), pycocotools(truths, found)
    expected = np.where(theirs.stats < 0, np.nan, theirs.stats)
    summary = ours.summary().named()
    assert [summary[name] for name in NAMES] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    # (IoU, recall, class, area), and every recall (IoU, class, area, detections)
    precision = theirs.eval["precision"][..., -1].transpose(2, 3, 0, 1)
    assert np.nan_to_num(ours.precision_at, nan=-1) == pytest.approx(precision, abs=1e-6)
    recall = theirs.eval["recall"].transpose(3, 1, 2, 0)
    assert np.nan_to_num(ours.recall_at, nan=-1) == pytest.approx(recall, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), whole=st.booleans(), ignored=st.booleans())
def test_coco_figures_are_those_of_pycocotools(seed, whole, ignored):
    truths, found = scene_of(seed, whole=whole, ignored=ignored)
    if any(len(item) for item in found):
        assert_equal_to_pycocotools(truths, found)


def test_only_the_best_hundred_of_a_class_count():
    truths, found = scene_of(5, images=3, most=500)
    assert max(np.bincount(item.labels).max() for item in found) > 100
    assert_equal_to_pycocotools(truths, found)


def test_ignored_boxes_without_class_are_ignored_for_every_class():
    truths, found = scene_of(11)
    anywhere = [
        GroundTruth(t.boxes, t.labels, t.name, SIZE, t.ignored, np.full(len(t.ignored), ANY_CLASS))
        for t in truths
    ]
    assert sum(len(truth.ignored) for truth in anywhere) > 2
    assert_equal_to_pycocotools(anywhere, found)
    unsaid = [GroundTruth(t.boxes, t.labels, t.name, SIZE, t.ignored) for t in truths]
    assert evaluate(unsaid, found, CLASSES).summary().named() == pytest.approx(
        evaluate(anywhere, found, CLASSES).summary().named(), nan_ok=True
    )


def voc_reference(truths, found, label):
    """VOCevaldet.m in words: (11-point AP, area AP) at IoU 0.5 with the rule for difficult ones."""
    rows = []
    for image, item in enumerate(found):
        for box, score, own in zip(item.boxes.astype(float), item.scores, item.labels, strict=True):
            if own == label:
                rows.append((-float(score), image, len(rows), box))
    rows.sort(key=lambda row: row[:3])
    hit, outcome, positives = set(), [], 0
    places = []
    for truth in truths:
        own = [(box, False) for box in truth.boxes[truth.labels == label].astype(float)]
        own += [(box, True) for box in truth.ignored[truth.ignored_labels == label].astype(float)]
        positives += sum(not difficult for _, difficult in own)
        places.append(own)
    for _, image, _, box in rows:
        best, which = 0.0, None
        for number, (place, _) in enumerate(places[image]):
            w = min(box[2], place[2]) - max(box[0], place[0])
            h = min(box[3], place[3]) - max(box[1], place[1])
            if w > 0 and h > 0:
                common = w * h
                areas = areas_of(np.array([box, place])).sum()
                if common / (areas - common) > best:
                    best, which = common / (areas - common), number
        if best < 0.5:
            outcome.append(False)
        elif not places[image][which][1]:
            outcome.append((image, which) not in hit)
            hit.add((image, which))
    if not positives:
        return np.nan, np.nan
    recalls, precisions = [0.0], [0.0]
    for number in range(1, len(outcome) + 1):
        recalls.append(sum(outcome[:number]) / positives)
        precisions.append(sum(outcome[:number]) / number)
    eleven = area = 0.0
    for point in range(11):
        reached = [
            p for r, p in zip(recalls, precisions, strict=True) if r >= point / 10 - 1e-9 and p
        ]
        eleven += max(reached, default=0.0) / 11
    for number in range(1, len(recalls)):
        area += (recalls[number] - recalls[number - 1]) * max(precisions[number:])
    return eleven, area


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), whole=st.booleans(), ignored=st.booleans())
def test_voc_figures_are_those_of_the_devkit(seed, whole, ignored):
    truths, found = scene_of(seed, whole=whole, ignored=ignored)
    ours = evaluate(truths, found, CLASSES)
    expected = np.transpose([voc_reference(truths, found, label) for label in range(3)])
    assert [ours.voc07, ours.voc] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_a_recall_of_three_tenths_reaches_the_point_three_tenths():
    boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(10)], np.float32)
    truth = GroundTruth(boxes, np.zeros(10, int), "ten", SIZE)
    found = Detections(boxes[:3], np.ones(3, np.float32), np.zeros(3, np.int32))
    assert evaluate([truth], [found], ["a"]).voc07[0] == pytest.approx(4 / 11)


def test_nothing_found_scores_zero_and_nothing_there_is_unknown():
    truths, _ = scene_of(1, ignored=False)
    result = evaluate(truths, [Detections.empty()] * len(truths), CLASSES)
    assert result.average_precision() == result.average_recall() == 0
    assert result.voc07[:2].tolist() == [0, 0]
    assert np.isnan(result.average_precision(2)) and np.isnan(result.voc[2])
    assert np.isnan(evaluate([], [], CLASSES).average_precision())


def unlabelled(truth, labels):
    return GroundTruth(truth.boxes, truth.labels, truth.name, SIZE, unlabelled=frozenset(labels))


def test_unlabelled_classes_count_neither_way():
    """As if the image did not exist for that class, and as ever for the others."""
    truths, found = scene_of(3, ignored=False)
    partial = [unlabelled(truth, {0} if i % 2 else ()) for i, truth in enumerate(truths)]
    partly = evaluate(partial, found, CLASSES)
    fewer = evaluate(truths[::2], found[::2], CLASSES)
    whole = evaluate(truths, found, CLASSES)
    assert partly.average_precision(0) == pytest.approx(fewer.average_precision(0))
    assert partly.voc[0] == pytest.approx(fewer.voc[0])
    assert partly.confusion[0, 0] == fewer.confusion[0, 0]
    assert partly.average_precision(1) == pytest.approx(whole.average_precision(1))
    assert whole.average_precision(0) != pytest.approx(fewer.average_precision(0))


STREET = ("person", "car")


@pytest.fixture
def street():
    """A person found, a car taken for a person, a car missed, a crowd, and two inventions."""
    truth = GroundTruth(
        np.array([[0, 0, 40, 40], [100, 0, 140, 40], [200, 0, 240, 40]], np.float32),
        np.array([0, 1, 1]),
        "street",
        SIZE,
        np.array([[0, 200, 100, 300]], np.float32),
        np.array([0]),
    )
    boxes = [[1, 0, 41, 40], [100, 0, 140, 42], [20, 210, 50, 260], [20, 210, 50, 260]]
    boxes += [[250, 250, 280, 280], [200, 0, 240, 40]]
    scores = np.array([0.9, 0.8, 0.7, 0.65, 0.6, 0.2], np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1], np.int32)
    return truth, Detections(np.array(boxes, np.float32), scores, labels)


def test_confusion_matrix_and_errors_are_about_what_a_user_sees(street):
    result = evaluate(*([part] for part in street), STREET, score_threshold=0.5)
    # The weak hit on the second car is below the threshold; the crowd hides persons only.
    assert result.confusion.tolist() == [[1, 0, 0], [1, 0, 1], [0, 2, 0]]
    (image,) = result.worst(5)
    assert (image.found, image.missed, image.false, image.confused) == (1, 1, 2, 1)
    assert image.errors == 4
    every = evaluate(*([part] for part in street), STREET, score_threshold=0.1)
    assert every.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 2, 0]]
    strict = evaluate(*([part] for part in street), STREET, score_threshold=0.5, iou_threshold=0.98)
    assert strict.confusion.tolist() == [[0, 0, 1], [0, 0, 2], [2, 2, 0]]


def test_worst_and_best_images():
    box = np.array([[0, 0, 40, 40], [100, 0, 140, 40]], np.float32)
    right = Detections(box, np.ones(2, np.float32), np.zeros(2, np.int32))
    half = Detections(box[:1], np.ones(1, np.float32), np.zeros(1, np.int32))
    truths = [GroundTruth(box, np.zeros(2, int), name, SIZE) for name in ("none", "half", "both")]
    result = evaluate(truths, [Detections.empty(), half, right], ["a"])
    assert [image.name for image in result.worst(9)] == ["none", "half"]
    assert [image.name for image in result.best(9)] == ["both"]
    assert [image.index for image in result.worst(1)] == [0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), place=st.integers(0, 1000))
@example(seed=2, place=700)  # a score of 0.7
def test_curves_say_what_a_score_threshold_does(seed, place):
    """Counted again, from the detections that pass the threshold."""
    truths, found = scene_of(seed, whole=True)
    threshold = place / 1000
    curve = evaluate(truths, found, CLASSES).curves[0]
    kept = [
        Detections(
            *(part[item.scores >= threshold] for part in (item.boxes, item.scores, item.labels))
        )
        for item in found
    ]
    matrix = evaluate(truths, kept, CLASSES, score_threshold=0).confusion
    hits, there = matrix[0, 0], sum((truth.labels == 0).sum() for truth in truths)
    seen = matrix[:, 0].sum()
    values = [curve.precision_at[place], curve.recall_at[place], curve.f1_at[place]]
    expected = [
        hits / seen if seen else np.nan,
        hits / there if there else np.nan,
        2 * hits / (seen + there) if there else np.nan,
    ]
    assert values == pytest.approx(expected, nan_ok=True)


def test_the_best_threshold_divides_hits_from_inventions():
    box = np.array([[0, 0, 40, 40], [100, 100, 140, 140]], np.float32)
    truth = GroundTruth(box[:1], np.zeros(1, int), "one", SIZE)
    found = Detections(box, np.array([0.8, 0.4], np.float32), np.zeros(2, np.int32))
    result = evaluate([truth], [found], ["a", "absent"])
    assert 0.55 < result.best_threshold < 0.65, "half way between them"
    assert result.of_class(0).f1_at_best == 1
    assert np.isnan(result.of_class(1).best_threshold)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 6))
def test_parts_evaluated_apart_merge_to_the_whole(seed, cut):
    truths, found = scene_of(seed, whole=True)
    parts = [Evaluator(CLASSES), Evaluator(CLASSES)]
    for number, pair in enumerate(zip(truths, found, strict=True)):
        parts[number >= cut].add(*pair)
    first, second = pickle.loads(pickle.dumps(parts))
    first.merge(second)
    merged, whole = first.result(), evaluate(truths, found, CLASSES)
    assert to_plain(merged.figures()) == to_plain(whole.figures())
    assert merged.images == whole.images


def test_a_result_stays_as_it_was_when_more_images_come():
    truths, found = scene_of(0)
    evaluator, other = Evaluator(CLASSES), Evaluator(CLASSES)
    evaluator.add(truths[0], found[0])
    other.add(truths[1], found[1])
    result = evaluator.result()
    before = to_plain(result.figures())
    evaluator.merge(other)
    evaluator.add(truths[2], found[2])
    assert to_plain(result.figures()) == before


def test_the_result_is_plain_json(street):
    figures = evaluate(*([part] for part in street), (*STREET, "absent")).figures()
    read = json.loads(json.dumps(to_plain(figures), allow_nan=False))
    assert read["summary"]["AP50"] == figures.summary.ap50
    assert to_plain(from_plain(EvaluationFigures, read)) == read
    assert read["classes"]["absent"]["AP"] is None
    assert read["confusion"]["counts"][1][0] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": np.array([0, 1, 2])},
            "street: an object has label 2, but the labels of 2 classes",
        ),
        ({"labels": np.array([0, 1])}, "street: 3 boxes have labels of shape"),
        ({"boxes": np.full((3, 4), np.nan)}, "not finite"),
        ({"boxes": np.zeros((3, 5))}, "expected \\(n, 4\\)"),
    ],
)
def test_wrong_truth_is_refused(street, change, message):
    truth, found = street
    fields = {"boxes": truth.boxes, "labels": truth.labels} | change
    with pytest.raises(ValueError, match=message):
        evaluate([GroundTruth(**fields, name="street", size=SIZE)], [found], STREET)


def test_wrong_calls_are_refused(street):
    truth, found = street
    with pytest.raises(ValueError, match="of 1 images, but detections of 2"):
        evaluate([truth], [found, found], STREET)
    with pytest.raises(ValueError, match="a detection has label 1"):
        nothing = GroundTruth(np.zeros((0, 4)), np.zeros(0, int), "empty", SIZE)
        evaluate([nothing], [found], STREET[:1])
    with pytest.raises(ValueError, match="score threshold 30"):
        evaluate([truth], [found], STREET, score_threshold=30)
    with pytest.raises(ValueError, match="differ in their score_threshold"):
        Evaluator(STREET).merge(Evaluator(STREET, 0.5))
    with pytest.raises(ValueError, match="0.50, 0.55"):
        evaluate([truth], [found], STREET).average_precision(iou=0.3)
