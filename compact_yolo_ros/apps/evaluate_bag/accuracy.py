# SPDX-License-Identifier: Apache-2.0
"""The detections in a recording against its labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.evaluate_bag.frame_labels import FrameLabels
from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.apps.evaluate_bag.label_matching import Matching
from compact_yolo_ros.apps.evaluate_bag.streaming import StreamingAccuracy
from compact_yolo_ros.apps.evaluate_bag.worst_frames import ExampleFrame, WorstFrames
from compact_yolo_ros.evaluation import ClassMapping, Evaluation, Evaluator
from compact_yolo_ros.evaluation.result import Summary
from compact_yolo_ros.labels.ground_truth import GroundTruth
from compact_yolo_ros.recordings.storage import BagError


@dataclass(frozen=True)
class Accuracy:
    """How good the detections are.

    Attributes:
        evaluation: figures, over all labelled topics.
        topics: the same of each labelled topic, if there are several.
        streaming: what a robot knew when each labelled frame came; None unless in realtime.
        worst: frames with most errors.
        unanswered: labelled frames that were dropped or could not be read; they count in
            ``streaming`` only.
    """

    evaluation: Evaluation
    topics: Mapping[str, Evaluation]
    streaming: Summary | None
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
    realtime: bool = False,
) -> Accuracy:
    """Evaluate all answered frames that have a label.

    Args:
        results: of all frames, in the order in which ``matchings`` were made.
        labels: by topic.
        matchings: by topic.
        mapping: from ``shared_classes`` of the same labels.
        threshold: of the score, for the confusion matrix and the worst frames.
        examples: number of worst frames to keep.
        realtime: whether the results say when a robot would have had them.
    """
    measurement = _Measurement(labels, mapping, threshold, examples, realtime)
    seen: Counter[str] = Counter()
    for result in results:
        if result.topic in labels:
            label = int(matchings[result.topic].label_of[seen[result.topic]])
            seen[result.topic] += 1
            measurement.take(result, label)
    return measurement.accuracy()


def joined_classes(
    labels: Mapping[str, FrameLabels],
) -> dict[str, tuple[NDArray[np.int64], frozenset[int]]]:
    """By topic: the numbers of its classes among those of all, and those that it does not label."""
    joined = list(dict.fromkeys(name for part in labels.values() for name in part.classes))
    numbers = {
        topic: np.array([joined.index(name) for name in part.classes], np.int64)
        for topic, part in labels.items()
    }
    everything = frozenset(range(len(joined)))
    return {topic: (own, everything - set(own.tolist())) for topic, own in numbers.items()}


class _Measurement:
    """Takes the frames of all labelled topics one by one."""

    def __init__(
        self,
        labels: Mapping[str, FrameLabels],
        mapping: ClassMapping,
        threshold: float,
        examples: int,
        realtime: bool,
    ) -> None:
        self._labels, self._mapping = labels, mapping
        self._numbers = joined_classes(labels)
        self._evaluators = {topic: Evaluator(mapping.classes, threshold) for topic in labels}
        self._streaming = StreamingAccuracy(mapping) if realtime else None
        self._worst = WorstFrames(examples)
        self._unanswered = 0

    def take(self, result: FrameResult, label: int) -> None:
        """Take a frame and the number of its label; below 0 if it has none."""
        known = self._streaming.known_at(result) if self._streaming else None
        if label < 0:
            return
        truth = self._labels[result.topic].truths[label]
        numbers = self._numbers[result.topic]
        if self._streaming:
            self._streaming.add(result.topic, known, truth.renumbered(*numbers))
        if result.outcome != ANSWERED:
            self._unanswered += 1
            return
        truth = self._mapping.truth(truth.in_pixels_of(result.size).renumbered(*numbers))
        self._evaluate(result, replace(truth, name=_name(result)))

    def _evaluate(self, result: FrameResult, truth: GroundTruth) -> None:
        found = self._mapping.detections(result.detections)
        errors = self._evaluators[result.topic].add(truth, found)
        frame = ExampleFrame(result.topic, result.time, truth, found, str(errors))
        self._worst.add(frame, errors)

    def accuracy(self) -> Accuracy:
        """The figures of all frames that were taken."""
        several = len(self._evaluators) > 1
        topics = {topic: each.result() for topic, each in self._evaluators.items() if several}
        first, *others = self._evaluators.values()
        for other in others:
            first.merge(other)
        return Accuracy(
            first.result(),
            topics,
            self._streaming.summary() if self._streaming else None,
            self._worst.frames(),
            self._unanswered,
        )


def _name(result: FrameResult) -> str:
    seconds, rest = divmod(result.stamp, 10**9)
    return f"{result.topic} {seconds}.{rest:09}"
