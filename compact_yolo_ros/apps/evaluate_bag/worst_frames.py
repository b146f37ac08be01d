# SPDX-License-Identifier: Apache-2.0
"""The frames of a recording with most errors, apart in time and from all cameras."""

from __future__ import annotations

from dataclasses import dataclass

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation.result import ImageErrors
from compact_yolo_ros.labels.ground_truth import GroundTruth

APART = 2 * 10**9
"""Nanoseconds: of each such part of a topic only one frame is shown, or all showed one scene."""


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


class WorstFrames:
    """Takes evaluated frames one by one, and keeps the worst of each topic."""

    def __init__(self, count: int) -> None:
        """Keep at most so many of each topic."""
        self._count = count
        self._kept: dict[str, dict[int, tuple[int, ExampleFrame]]] = {}

    def add(self, frame: ExampleFrame, errors: ImageErrors) -> None:
        """Take a frame; one without errors is not kept."""
        scenes = self._kept.setdefault(frame.topic, {})
        scene = frame.time // APART
        if errors.errors <= scenes.get(scene, (0,))[0]:
            return
        scenes[scene] = (errors.errors, frame)
        if len(scenes) > self._count:
            del scenes[min(scenes, key=lambda each: (scenes[each][0], -each))]

    def frames(self) -> list[ExampleFrame]:
        """At most ``count`` frames: the worst of each topic, then the second of each, and so on."""
        ranked = [
            (rank, -errors, frame)
            for scenes in self._kept.values()
            for rank, (errors, frame) in enumerate(sorted(scenes.values(), key=_worst_first))
        ]
        ranked.sort(key=lambda entry: entry[:2])
        return [frame for *_, frame in ranked[: self._count]]


def _worst_first(entry: tuple[int, ExampleFrame]) -> tuple[int, int]:
    errors, frame = entry
    return -errors, frame.time
