# SPDX-License-Identifier: Apache-2.0
"""Detections of labelled images, collected one by one and evaluated together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.evaluation.average_precision import (
    RECALLS,
    ScoreCurve,
    highest_recall,
    precision_at_recalls,
    voc_average_precision,
)
from compact_yolo_ros.evaluation.image_matching import Outcomes, match_image
from compact_yolo_ros.evaluation.matching import MATCH_IOU, Criteria
from compact_yolo_ros.evaluation.result import (
    AREAS,
    IOUS,
    MOST_DETECTIONS,
    Evaluation,
    ImageErrors,
)
from compact_yolo_ros.labels.ground_truth import GroundTruth


def evaluate(
    truths: Sequence[GroundTruth],
    detections: Sequence[Detections],
    classes: Sequence[str],
    *,
    score_threshold: float = Selection.score_threshold,
    iou_threshold: float = MATCH_IOU,
) -> Evaluation:
    """Compare the detections of every image with its ground truth, see ``Evaluator``.

    Raises:
        ValueError: the two sequences differ in length, or as ``Evaluator``.
    """
    if len(truths) != len(detections):
        raise ValueError(
            f"there is ground truth of {len(truths)} images, but detections of {len(detections)}"
        )
    evaluator = Evaluator(classes, score_threshold, iou_threshold)
    for truth, found in zip(truths, detections, strict=True):
        evaluator.add(truth, found)
    return evaluator.result()


class Evaluator:
    """Takes images with their detections, one at a time.

    It keeps about 7 kB for an image of 40 detections, and no pixels. It can be pickled, so that
    processes may each take a part of the images.
    """

    def __init__(
        self,
        classes: Sequence[str],
        score_threshold: float = Selection.score_threshold,
        iou_threshold: float = MATCH_IOU,
    ) -> None:
        """Evaluate detections of ``classes``, whose positions are the labels.

        Args:
            classes: names.
            score_threshold: for the confusion matrix and the errors of an image, which are what a
                user with that threshold sees; average precision is over all scores.
            iou_threshold: least overlap for those two and for the curves over the score.

        Raises:
            ValueError: no classes, or a threshold out of its range.
        """
        if not classes:
            raise ValueError("there are no classes to evaluate")
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"score threshold {score_threshold}: give a value from 0 to 1")
        if not 0 < iou_threshold <= 1:
            raise ValueError(f"IoU threshold {iou_threshold}: give a value above 0, at most 1")
        self.classes = tuple(classes)
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        areas = list(AREAS.values())
        # All of COCO's criteria, areas outermost, and as the last one the user's own.
        self._criteria = Criteria(
            np.array([*np.tile(IOUS, len(areas)), iou_threshold]),
            np.array([*np.repeat(areas, len(IOUS), 0), AREAS["all"]], np.float64),
        )
        criteria = len(self._criteria.iou)
        self._outcomes = [Outcomes.empty(criteria)]
        self._objects = np.zeros((len(classes), criteria), np.int64)
        self._confusion = np.zeros((len(classes) + 1, len(classes) + 1), np.int64)
        self._images: list[ImageErrors] = []

    def __len__(self) -> int:
        """Number of images taken."""
        return len(self._images)

    def add(self, truth: GroundTruth, found: Detections) -> ImageErrors:
        """Take one image and return what is wrong in it.

        Raises:
            ValueError: a label is not one of the classes, or a box or score is not finite.
        """
        self._check(truth, found)
        match = match_image(truth, found, self._criteria, self.score_threshold)
        self._outcomes.append(match.outcomes)
        np.add.at(self._objects, match.labels, match.counts.T)
        # UNMATCHED is -1, so that the last entry is its class: the background.
        there = np.append(truth.labels, len(self.classes))[match.pairs[:, 0]]
        seen = np.append(found.labels, len(self.classes))[match.pairs[:, 1]]
        np.add.at(self._confusion, (there, seen), 1)
        missed, false = seen == len(self.classes), there == len(self.classes)
        errors = ImageErrors(
            index=len(self._images),
            name=truth.name,
            found=int(np.count_nonzero(there == seen)),
            missed=int(np.count_nonzero(missed)),
            false=int(np.count_nonzero(false)),
            confused=int(np.count_nonzero((there != seen) & ~missed & ~false)),
        )
        self._images.append(errors)
        return errors

    def merge(self, later: Evaluator) -> None:
        """Take over all images of ``later``, as if they had been added here one by one.

        Raises:
            ValueError: it was made with other classes or thresholds.
        """
        for name in ("classes", "score_threshold", "iou_threshold"):
            if getattr(self, name) != getattr(later, name):
                raise ValueError(f"cannot merge evaluations that differ in their {name}")
        first = len(self)
        self._outcomes += later._outcomes
        self._objects += later._objects
        self._confusion += later._confusion
        self._images += [image.shifted(first) for image in later._images]

    def result(self) -> Evaluation:
        """Evaluate all images taken so far."""
        self._outcomes = [Outcomes.concatenate(self._outcomes)]
        rows, classes = self._outcomes[0], len(self.classes)
        shape = (len(AREAS), len(IOUS))
        precision = np.empty((classes, *shape, len(RECALLS)))
        recall = np.empty((len(MOST_DETECTIONS), classes, *shape))
        voc07, voc, curves = np.empty(classes), np.empty(classes), []
        for label, objects in enumerate(self._objects):
            own = np.flatnonzero(rows.labels == label)
            own = own[np.argsort(-rows.scores[own], kind="stable")]
            scores, ranks, outcomes = rows.scores[own], rows.ranks[own], rows.coco[own]
            for place, most in enumerate(MOST_DETECTIONS):
                kept = outcomes[ranks < most, :-1]
                recall[place, label] = highest_recall(kept, objects[:-1]).reshape(shape)
            precision[label] = precision_at_recalls(kept, objects[:-1]).reshape(*shape, -1)
            total = int(objects[-1])
            voc07[label], voc[label] = voc_average_precision(rows.voc[own], total)
            curves.append(ScoreCurve.of(scores, outcomes[:, -1], total))
        return Evaluation(
            classes=self.classes,
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            objects=self._objects[:, :-1].reshape(classes, *shape)[:, :, 0].copy(),
            precision_at=precision,
            recall_at=recall,
            voc07=voc07,
            voc=voc,
            curves=tuple(curves),
            confusion=self._confusion.copy(),
            images=tuple(self._images),
        )

    def _check(self, truth: GroundTruth, found: Detections) -> None:
        count = len(self.classes)
        for what, labels in (("an object", truth.labels), ("a detection", found.labels)):
            wrong = labels[(labels < 0) | (labels >= count)]
            if len(wrong):
                raise ValueError(
                    f"{truth.name}: {what} has label {wrong[0]}, "
                    f"but the labels of {count} classes are 0 to {count - 1}"
                )
        if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
            raise ValueError(f"{truth.name}: a detection has a box or a score that is not finite")
