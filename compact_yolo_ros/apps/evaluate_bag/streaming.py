# SPDX-License-Identifier: Apache-2.0
"""Streaming accuracy: what a robot knew when each labelled image was taken.

A detector that is exact but late describes a world that has moved on. For every labelled image,
answered or dropped, the newest detections that were finished by then count: those of an earlier
image. Source: Li, Wang and Ramanan, Towards Streaming Perception (ECCV 2020), section 3.
"""

from __future__ import annotations

from collections import deque

from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation import ClassMapping, Evaluator
from compact_yolo_ros.evaluation.result import Summary
from compact_yolo_ros.labels.ground_truth import GroundTruth


class StreamingAccuracy:
    """Takes the frame results of all topics, each topic in the order of reception."""

    def __init__(self, mapping: ClassMapping) -> None:
        """Evaluate the classes of ``mapping``."""
        self._mapping = mapping
        self._evaluator = Evaluator(mapping.classes)
        self._unfinished: dict[str, deque[FrameResult]] = {}
        self._known: dict[str, FrameResult] = {}

    def known_at(self, result: FrameResult) -> FrameResult | None:
        """The newest answer of its topic that was finished when this frame came; to be called once.

        None before the first one.
        """
        unfinished = self._unfinished.setdefault(result.topic, deque())
        while unfinished and unfinished[0].finished <= result.time:
            self._known[result.topic] = unfinished.popleft()
        if result.outcome == ANSWERED:
            unfinished.append(result)
        return self._known.get(result.topic)

    def add(self, known: FrameResult | None, truth: GroundTruth) -> None:
        """Take what was known when a labelled frame came, and what it shows."""
        found = Detections.empty() if known is None else known.detections
        truth = truth if known is None else truth.in_pixels_of(known.size)
        self._evaluator.add(self._mapping.truth(truth), self._mapping.detections(found))

    def summary(self) -> Summary | None:
        """The figures; None without a labelled frame."""
        return self._evaluator.result().summary() if len(self._evaluator) else None
