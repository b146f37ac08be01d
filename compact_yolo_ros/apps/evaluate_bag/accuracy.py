# SPDX-License-Identifier: Apache-2.0
"""The detections in a recording against its labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compact_yolo_ros.apps.evaluate_bag.frame_labels import FrameLabels
from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.apps.evaluate_bag.label_matching import Matching
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation import ClassMapping, Evaluation, Evaluator
from compact_yolo_ros.labels.ground_truth import GroundTruth
from compact_yolo_ros.recordings.storage import BagError


@dataclass(frozen=True)
class ExampleFrame:
    """An evaluated frame for the report.

    Attributes:
        topic: of the image.
        time: when the recorder received it, in ns.
        truth: what it shows.
        detections: what was found in it.
        caption: for people.
    """

    topic: str
    time: int
    truth: GroundTruth
    detections: Detections
    caption: str


@dataclass(frozen=True)
class Accuracy:
    """How good the detections are.

    Attributes:
        evaluation: figures, over all labelled topics.
        worst: frames with most errors.
        unanswered: labelled frames that were dropped or could not be read; they do not count.
    """

    evaluation: Evaluation
    worst: Sequence[ExampleFrame]
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


def measure_accuracy(
    results: Iterable[FrameResult],
    labels: Mapping[str, FrameLabels],
    matchings: Mapping[str, Matching],
    mapping: ClassMapping,
    threshold: float,
    examples: int,
) -> Accuracy:
    """Evaluate all answered frames that have a label.

    Args:
        results: of all frames, in the order in which ``matchings`` were made.
        labels: by topic.
        matchings: by topic.
        mapping: from ``shared_classes`` of the same labels.
        threshold: of the score, for the confusion matrix and the worst frames.
        examples: number of worst frames to keep.
    """
    evaluator = Evaluator(mapping.classes, threshold)
    joined = list(dict.fromkeys(name for part in labels.values() for name in part.classes))
    numbers = {
        topic: np.array([joined.index(name) for name in part.classes], np.int64)
        for topic, part in labels.items()
    }
    unlabelled = {
        topic: frozenset(range(len(joined))) - set(own.tolist()) for topic, own in numbers.items()
    }
    seen: Counter[str] = Counter()
    unanswered = 0
    worst: list[tuple[int, int, ExampleFrame]] = []
    for result in results:
        topic = result.topic
        if topic not in labels:
            continue
        label = int(matchings[topic].label_of[seen[topic]])
        seen[topic] += 1
        if label < 0:
            continue
        if result.outcome != ANSWERED:
            unanswered += 1
            continue
        truth = labels[topic].truths[label].in_pixels_of(result.size)
        truth = truth.renumbered(numbers[topic], unlabelled[topic])
        truth = replace(mapping.truth(truth), name=_name(result))
        found = mapping.detections(result.detections)
        errors = evaluator.add(truth, found)
        if errors.errors:
            frame = ExampleFrame(topic, result.time, truth, found, str(errors))
            worst.append((-errors.errors, errors.index, frame))
            worst = sorted(worst, key=lambda entry: entry[:2])[:examples]
    return Accuracy(evaluator.result(), [frame for *_, frame in worst], unanswered)


def _name(result: FrameResult) -> str:
    seconds, rest = divmod(result.stamp, 10**9)
    return f"{result.topic} {seconds}.{rest:09}"
