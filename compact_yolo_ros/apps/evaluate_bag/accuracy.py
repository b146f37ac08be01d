# SPDX-License-Identifier: Apache-2.0
"""The records of a recording against its labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compact_yolo_ros.apps.evaluate_bag.frame_labels import FrameLabels
from compact_yolo_ros.apps.evaluate_bag.frame_results import ANSWERED, Record
from compact_yolo_ros.apps.evaluate_bag.label_matching import Matching
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation import ClassMapping, Evaluation, Evaluator
from compact_yolo_ros.labels.ground_truth import GroundTruth
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.recordings.storage import BagError


@dataclass(frozen=True)
class Shown:
    """An evaluated frame that is to be shown: where to find it, and what is in it."""

    topic: str
    time: int
    truth: GroundTruth
    detections: Detections
    caption: str


@dataclass(frozen=True)
class Accuracy:
    """How good the answers are.

    Attributes:
        evaluation: figures, over all labelled topics.
        worst: frames with most errors.
        unanswered: labelled frames that were dropped or could not be read; they do not count.
    """

    evaluation: Evaluation
    worst: Sequence[Shown]
    unanswered: int


def shared_classes(
    model: Sequence[str], labels: Iterable[FrameLabels], rename: Mapping[str, str]
) -> ClassMapping:
    """Match the model's classes with those of all labels.

    Raises:
        BagError: they share none, or ``rename`` has a name that is not there.
    """
    names = dict.fromkeys(name for part in labels for name in part.classes)
    try:
        if not names:
            raise ValueError("the labels hold no object, so there is no class to evaluate")
        return ClassMapping.match(model, list(names), rename)
    except ValueError as error:
        raise BagError(str(error)) from None


def judge(
    records: Iterable[Record],
    labels: Mapping[str, FrameLabels],
    matchings: Mapping[str, Matching],
    mapping: ClassMapping,
    threshold: float,
    show: int,
) -> Accuracy:
    """Evaluate all answered frames that have a label.

    Args:
        records: of all frames, in any order that ``matchings`` were made in.
        labels: by topic.
        matchings: by topic.
        mapping: from ``shared_classes`` of the same labels.
        threshold: of the score, for the confusion matrix and the worst frames.
        show: number of worst frames to keep.
    """
    evaluator = Evaluator(mapping.classes, threshold)
    joined = list(dict.fromkeys(name for part in labels.values() for name in part.classes))
    place = {
        topic: np.array([joined.index(name) for name in part.classes], np.int64)
        for topic, part in labels.items()
    }
    unlabelled = {
        topic: frozenset(range(len(joined))) - set(numbers.tolist())
        for topic, numbers in place.items()
    }
    seen: Counter[str] = Counter()
    unanswered = 0
    worst: list[tuple[int, int, Shown]] = []
    for record in records:
        if record.topic not in labels:
            continue
        number = int(matchings[record.topic].label_of[seen[record.topic]])
        seen[record.topic] += 1
        if number < 0:
            continue
        if record.outcome != ANSWERED:
            unanswered += 1
            continue
        height, width = record.size
        shown = labels[record.topic].truths[number].in_pixels_of(Size(width, height))
        truth = shown.renumbered(place[record.topic], unlabelled[record.topic])
        truth = replace(truth, name=_name(record))
        mapped, found = mapping.truth(truth), mapping.detections(record.detections)
        errors = evaluator.add(mapped, found)
        if errors.errors:
            frame = Shown(record.topic, record.time, mapped, found, str(errors))
            worst.append((-errors.errors, errors.index, frame))
            worst = sorted(worst, key=lambda entry: entry[:2])[:show]
    return Accuracy(evaluator.result(), [frame for *_, frame in worst], unanswered)


def _name(record: Record) -> str:
    seconds, rest = divmod(record.stamp, 10**9)
    return f"{record.topic} {seconds}.{rest:09}"
