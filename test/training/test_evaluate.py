# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from compact_yolo_ros.detections import Detections
from training.data.sample import Sample
from training.evaluate import average_precision

CLASSES = ("a", "b", "c")


def random_boxes(rng, count):
    corner = rng.uniform(0, 80, (count, 2))
    return np.concatenate((corner, corner + rng.uniform(5, 60, (count, 2))), 1).astype(np.float32)


@pytest.fixture(scope="module")
def scene():
    """Twelve pictures of two classes, half of the objects found, and some things not there."""
    rng = np.random.default_rng(3)
    samples, found = [], []
    for number in range(12):
        boxes, labels = random_boxes(rng, number % 5), rng.integers(0, 2, number % 5)
        samples.append(Sample(np.zeros((1, 1, 3), np.uint8), boxes, labels, str(number)))
        close = boxes + rng.normal(0, 3, boxes.shape).astype(np.float32)
        all_boxes = np.concatenate((close[::2], random_boxes(rng, 2)))
        all_labels = np.concatenate((labels[::2], rng.integers(0, 3, 2))).astype(np.int32)
        scores = np.sort(rng.uniform(0, 1, len(all_labels)).astype(np.float32))[::-1]
        found.append(Detections(all_boxes, scores, all_labels))
    return samples, found


def reference(samples, found):
    """AP and AP50 by pycocotools."""

    def rows(items, extra):
        result = []
        for image, item in enumerate(items):
            for index, (box, label) in enumerate(zip(item.boxes, item.labels, strict=True)):
                x, y, w, h = map(float, (*box[:2], *(box[2:] - box[:2])))
                row = {
                    "id": len(result) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": [x, y, w, h],
                }
                result.append(row | extra(item, index, w * h))
        return result

    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(len(samples))],
        "categories": [{"id": i, "name": n} for i, n in enumerate(CLASSES)],
        "annotations": rows(samples, lambda _, __, area: {"area": area, "iscrowd": 0}),
        "info": {},
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        detections = coco.loadRes(rows(found, lambda d, i, _: {"score": float(d.scores[i])}))
        evaluation = COCOeval(coco, detections, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:2]


def test_ap_is_that_of_pycocotools(scene):
    scores = average_precision(*scene, CLASSES)
    assert [scores["AP"], scores["AP50"]] == pytest.approx(reference(*scene), abs=1e-6)
    assert 0.1 < scores["AP50"] < 0.9, "the scene is neither trivial nor hopeless"
    assert np.mean([scores["AP50 a"], scores["AP50 b"]]) == pytest.approx(scores["AP50"])
    assert np.isnan(scores["AP50 c"]), "no such object"


def test_the_truth_itself_scores_one(scene):
    samples, _ = scene
    perfect = [
        Detections(s.boxes, np.ones(len(s.labels), np.float32), s.labels.astype(np.int32))
        for s in samples
    ]
    scores = average_precision(samples, perfect, CLASSES)
    assert scores["AP"] == pytest.approx(1) and scores["AP50"] == pytest.approx(1)


def test_nothing_found_scores_zero(scene):
    samples, _ = scene
    scores = average_precision(samples, [Detections.empty()] * len(samples), CLASSES)
    assert scores["AP"] == scores["AP50"] == scores["AP50 a"] == 0
