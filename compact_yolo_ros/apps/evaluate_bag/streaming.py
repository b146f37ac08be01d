# SPDX-License-Identifier: Apache-2.0
"""Streaming accuracy: what a robot knew when each labelled image was taken.

A detector that is exact but late describes a world that has moved on. For every labelled image,
answered or dropped, the newest detections that were finished by then count: those of an earlier
image. Source: Li, Wang and Ramanan, Towards Streaming Perception (ECCV 2020), section 3.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import fields, replace

from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation import ClassMapping, Evaluator
from compact_yolo_ros.evaluation.result import Summary
from compact_yolo_ros.labels.ground_truth import RELATIVE, GroundTruth
from compact_yolo_ros.model.sizes import Size

BY_SIZE = tuple(
    field.name for field in fields(Summary) if field.name.endswith(("_small", "_medium", "_large"))
)
"""The figures of objects of some sizes only."""


class StreamingAccuracy:
    """Takes the frame results of all topics, each topic in the order of reception."""

    def __init__(self, mapping: ClassMapping) -> None:
        """Evaluate the classes of ``mapping``."""
        self._mapping = mapping
        self._evaluator = Evaluator(mapping.classes)
        self._unfinished: dict[str, deque[FrameResult]] = {}
        self._known: dict[str, FrameResult] = {}
        self._sizes: dict[str, Size] = {}  # of the recorded images, as the first answer tells
        self._early: list[tuple[str, GroundTruth]] = []  # before their topic's first answer

    def known_at(self, result: FrameResult) -> FrameResult | None:
        """The newest answer of its topic that was finished when this frame came; to be called once.

        None before the first one.
        """
        unfinished = self._unfinished.setdefault(result.topic, deque())
        while unfinished and unfinished[0].finished <= result.time:
            self._known[result.topic] = unfinished.popleft()
        if result.outcome == ANSWERED:
            unfinished.append(result)
            self._sizes.setdefault(result.topic, result.size)
        return self._known.get(result.topic)

    def add(self, topic: str, known: FrameResult | None, truth: GroundTruth) -> None:
        """Take what was known when a labelled frame came, and what it shows."""
        if known is None:
            self._early.append((topic, truth))
        else:
            self._evaluate(truth.in_pixels_of(known.size), known.detections)

    def summary(self) -> Summary | None:
        """The figures, when all frames were taken; None without a labelled one.

        Those by size are nan where the labels are in fractions of an image of unknown size.
        """
        early, self._early = self._early, []
        sizes_known = True
        for topic, truth in early:
            size = self._sizes.get(topic, truth.size)
            sizes_known &= size != RELATIVE or not len(truth)
            self._evaluate(truth if size is None else truth.in_pixels_of(size), Detections.empty())
        if not len(self._evaluator):
            return None
        summary = self._evaluator.result().summary()
        return summary if sizes_known else replace(summary, **dict.fromkeys(BY_SIZE, math.nan))

    def _evaluate(self, truth: GroundTruth, found: Detections) -> None:
        self._evaluator.add(self._mapping.truth(truth), self._mapping.detections(found))
