# SPDX-License-Identifier: Apache-2.0
"""The parameters that may change while a model is loaded, as one value for the next image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.governor import Targets
from compact_yolo_ros.detection.position_options import PositionOptions
from compact_yolo_ros.detection.selection import Selection, class_thresholds, label_thresholds
from compact_yolo_ros.detection.tracking.options import TrackingOptions
from compact_yolo_ros.detection.view import PLAIN, View
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.ros.detector.parameters import box_size, positions, targets, tracking
from compact_yolo_ros.ros.detector.views import read_views
from compact_yolo_ros.ros.messages import class_ids

MOST_TRACKED = 300
"""Objects of an image that a tracker gets: as many candidates as a network ranks."""


@dataclass(frozen=True)
class Settings:
    """What one image is processed with; a change of a parameter makes a new one.

    Attributes:
        selection: which objects are published as detections.
        class_ids: ``class_id`` of each label.
        max_age: age in seconds beyond which an image is not processed; 0 is no limit.
        debug_image: whether ``debug_image`` is drawn for those who subscribe.
        targets: what the governor holds.
        debug_image_rate: most images per second on each topic of it; 0 is no limit.
        debug_image_size: most pixels of its longer side; 0 is the size of the camera's image.
        annotations: whether there is ``~/annotations`` for those who subscribe.
        tracking: how objects are tracked; None if they are not.
        positions: how objects are found in space; None if they are not.
        detect_once_timeout: seconds that ``~/detect_once`` waits for an image.
        views: by camera, how the network sees its images; as they are without an entry.
    """

    selection: Selection
    class_ids: tuple[str, ...]
    max_age: float
    debug_image: bool
    targets: Targets
    debug_image_rate: float = 0.0
    debug_image_size: int = 0
    annotations: bool = False
    tracking: TrackingOptions | None = None
    positions: PositionOptions | None = None
    detect_once_timeout: float = 2.0
    views: Mapping[str, View] = field(default_factory=dict)

    def view(self, camera: str) -> View:
        """How the network sees the images of a camera."""
        return self.views.get(camera, PLAIN)

    @cached_property
    def detected(self) -> Selection:
        """Which objects the detector returns: a tracker needs those of a low score too."""
        if self.tracking is None:
            return self.selection
        selection, low = self.selection, self.tracking.low_score
        return selection.change(
            score_threshold=min(selection.score_threshold, low),
            thresholds=selection.thresholds and tuple(min(s, low) for s in selection.thresholds),
            max_detections=MOST_TRACKED,
        )

    def published(self, found: Detections) -> Detections:
        """Those of the ``detected`` objects that ``selection`` would have kept."""
        above = self.selection.above(found.scores, found.labels)
        return found[above][: self.selection.max_detections]


def read_settings(values: Mapping[str, Any], card: ModelCard) -> Settings:
    """Read the settings for a model from the values of all parameters.

    Raises:
        ValueError: the model has no class of a name.
    """
    selection = Selection(
        score_threshold=values["score_threshold"],
        iou_threshold=values["iou_threshold"],
        box_voting=values["box_voting"],
        max_detections=values["max_detections"],
        labels=frozenset(card.labels_of(filter(None, values["classes"]))) or None,
        thresholds=label_thresholds(
            class_thresholds(values["class_thresholds"]), card, values["score_threshold"]
        ),
        min_size=box_size(values["min_box_size"]),
        max_size=box_size(values["max_box_size"]),
    )
    followed = tracking(values)
    return Settings(
        selection=selection,
        class_ids=class_ids(card, values["class_id_format"]),
        max_age=values["max_age"],
        debug_image=values["debug_image"],
        targets=targets(values),
        debug_image_rate=values["debug_image_rate"],
        debug_image_size=values["debug_image_size"],
        annotations=values["annotations"],
        tracking=followed and replace(followed, high_scores=selection.thresholds),
        positions=positions(values, card),
        detect_once_timeout=values["detect_once_timeout"],
        views=read_views(values),
    )
