# SPDX-License-Identifier: Apache-2.0
"""What to evaluate on a recording, and what to write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from compact_yolo_ros.apps.evaluate_bag.job import Job
from compact_yolo_ros.detection.selection import Selection, label_thresholds
from compact_yolo_ros.detection.tracking.options import TrackingOptions
from compact_yolo_ros.model.card import ModelCard


@dataclass(frozen=True)
class Settings:
    """What to evaluate and what to write.

    Attributes:
        job: model, recording, topics.
        out: folder for the results.
        ground_truth: where the labels of a topic are; see ``read_frame_labels``.
        reference: model whose detections are the labels instead; empty for none.
        threshold: of the score, for all that is not average precision.
        class_thresholds: of classes that have one of their own; average precision and the examples
            of a report do without.
        rename: classes of the model that have another name in the labels.
        tolerance: between the stamps of a frame and a label in ns; see ``match``.
        workers: processes.
        restart: forget what an earlier call did.
        video: write a video of each topic.
        export_apart: least seconds between two frames that are exported for labelling; None exports
            none.
        cluster: address of a Dask scheduler that distributes the work; empty for this machine.
        playback_rate: at which the recording was played to the live node of the job; None is what
            the player has reported, or else 1.
        playback_behind: seconds that this took longer than at that rate.
        tracking: how objects are followed; None if they are not.
    """

    job: Job
    out: Path
    ground_truth: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""
    threshold: float = Selection.score_threshold
    class_thresholds: Mapping[str, float] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    tolerance: int | None = None
    workers: int = 1
    restart: bool = False
    video: bool = False
    export_apart: float | None = None
    cluster: str = ""
    playback_rate: float | None = None
    playback_behind: float = 0.0
    tracking: TrackingOptions | None = None

    def selection(self, card: ModelCard) -> Selection:
        """Which scores count for all that is not average precision; ValueError as to classes."""
        thresholds = label_thresholds(self.class_thresholds, card, self.threshold)
        return Selection(self.threshold, thresholds=thresholds)

    def followed(self, card: ModelCard) -> TrackingOptions | None:
        """How objects of a model are followed; None if they are not."""
        by_label = self.selection(card).thresholds
        return self.tracking and replace(self.tracking, high_scores=by_label)
