# SPDX-License-Identifier: Apache-2.0
"""What an evaluation says."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.evaluation.average_precision import SCORES, ScoreCurve, best_threshold

IOUS = np.linspace(0.5, 0.95, 10)
"""COCO's IoU thresholds."""
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2)}
AREAS["large"] = (96.0**2, 1e10)
"""COCO's sizes: smallest and largest area of a box, in square pixels of the source image."""
MOST_DETECTIONS = (1, 10, 100)
"""COCO's limits: at most so many detections of a class in an image count, best first."""


@dataclass(frozen=True)
class ImageErrors:
    """What a user would get wrong in one image.

    Attributes:
        index: position of the image.
        name: its name.
        found: objects found and named rightly.
        missed: objects nothing was found at.
        false: detections where nothing is.
        confused: objects found, but taken for another class.
    """

    index: int
    name: str
    found: int
    missed: int
    false: int
    confused: int

    @property
    def errors(self) -> int:
        """The measure by which images are ranked: missed + false + confused."""
        return self.missed + self.false + self.confused

    def __str__(self) -> str:
        counts = {name: getattr(self, name) for name in ("found", "missed", "false", "confused")}
        words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        return f"{self.name}: {words or 'nothing there, nothing seen'}"

    def shifted(self, images: int) -> ImageErrors:
        """The same image with ``images`` others before it."""
        return replace(self, index=self.index + images)


@dataclass(frozen=True)
class Evaluation:
    """How good the detections of a set of images are. Values without any object are nan.

    Attributes:
        classes: K names.
        score_threshold: for ``confusion`` and ``images``.
        iou_threshold: for ``confusion``, ``images`` and ``curves``.
        objects: (K, 4) number of objects to be found, by class and ``AREAS``.
        precision: (K, 4, 10, 101) by class, ``AREAS``, ``IOUS`` and recall, 100 detections.
        recall: (3, K, 4, 10) by ``MOST_DETECTIONS``, class, ``AREAS`` and ``IOUS``.
        voc07: (K,) VOC's 11-point AP of 2007 at IoU 0.5.
        voc: (K,) VOC's AP of 2010 and later, the whole area, at IoU 0.5.
        curves: K, precision, recall and F1 over the score threshold.
        confusion: (K + 1, K + 1) rows are what is there, columns what was seen; the last of each
            is the background. The diagonal holds the hits.
        images: one entry each.
    """

    classes: tuple[str, ...]
    score_threshold: float
    iou_threshold: float
    objects: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    voc07: NDArray[np.float64]
    voc: NDArray[np.float64]
    curves: tuple[ScoreCurve, ...]
    confusion: NDArray[np.int64]
    images: tuple[ImageErrors, ...]

    def average_precision(
        self, label: int | None = None, iou: float | None = None, area: str = "all"
    ) -> float:
        """COCO's AP of one class or the mean of all, at one of ``IOUS`` or the mean of them."""
        table = self.precision[:, list(AREAS).index(area)]
        return _mean(_pick(_pick(table, 1, _lane(iou)), 0, label))

    def average_recall(
        self, label: int | None = None, area: str = "all", detections: int = 100
    ) -> float:
        """COCO's AR: the recall with at most so many detections, mean over ``IOUS``."""
        table = self.recall[MOST_DETECTIONS.index(detections), :, list(AREAS).index(area)]
        return _mean(_pick(table, 0, label))

    @cached_property
    def f1(self) -> NDArray[np.float64]:
        """(1001,) F1 over ``SCORES``, mean of the classes."""
        known = [curve.f1 for curve in self.curves if not np.isnan(curve.f1).all()]
        return np.mean(known, 0) if known else np.full(len(SCORES), np.nan)

    @property
    def best_threshold(self) -> float:
        """The score threshold with the best mean F1: a good ``score_threshold`` for a node."""
        return best_threshold(self.f1)

    def worst(self, count: int) -> list[ImageErrors]:
        """The images with most errors, worst first, of equals the one with least found."""
        wrong = [image for image in self.images if image.errors]
        return sorted(wrong, key=lambda image: (-image.errors, image.found))[:count]

    def best(self, count: int) -> list[ImageErrors]:
        """The images with most objects found and nothing wrong."""
        right = [image for image in self.images if image.found and not image.errors]
        return sorted(right, key=lambda image: -image.found)[:count]

    def summary(self) -> dict[str, float]:
        """The figures people quote, means over classes, by their usual names."""
        return {
            "AP": self.average_precision(),
            "AP50": self.average_precision(iou=0.5),
            "AP75": self.average_precision(iou=0.75),
            "AP small": self.average_precision(area="small"),
            "AP medium": self.average_precision(area="medium"),
            "AP large": self.average_precision(area="large"),
            "AR1": self.average_recall(detections=1),
            "AR10": self.average_recall(detections=10),
            "AR100": self.average_recall(),
            "AR small": self.average_recall(area="small"),
            "AR medium": self.average_recall(area="medium"),
            "AR large": self.average_recall(area="large"),
            "VOC07": _mean(self.voc07),
            "VOC": _mean(self.voc),
        }

    def of_class(self, label: int) -> dict[str, float]:
        """The figures of one class; precision, recall and F1 are at its own best threshold."""
        curve = self.curves[label]
        threshold = best_threshold(curve.f1)
        known = not math.isnan(threshold)
        place = int(np.argmin(np.abs(SCORES - threshold))) if known else 0
        return {
            "objects": int(self.objects[label, 0]),
            "AP": self.average_precision(label),
            "AP50": self.average_precision(label, 0.5),
            "AP75": self.average_precision(label, 0.75),
            "AP small": self.average_precision(label, area="small"),
            "AP medium": self.average_precision(label, area="medium"),
            "AP large": self.average_precision(label, area="large"),
            "AR100": self.average_recall(label),
            "VOC07": float(self.voc07[label]),
            "VOC": float(self.voc[label]),
            "best threshold": threshold,
            "precision": float(curve.precision[place]) if known else math.nan,
            "recall": float(curve.recall[place]) if known else math.nan,
            "F1": float(curve.f1[place]) if known else math.nan,
        }

    def to_dict(self, worst: int = 20) -> dict[str, Any]:
        """Plain values for JSON, nan as None; of the images only the ``worst`` ones."""
        return {
            "images": len(self.images),
            "objects": int(self.objects[:, 0].sum()),
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "best_threshold": _plain(self.best_threshold),
            "summary": _plain(self.summary()),
            "classes": {
                name: _plain(self.of_class(label)) for label, name in enumerate(self.classes)
            },
            "confusion": {
                "rows are truth, columns found": [*self.classes, "background"],
                "counts": self.confusion.tolist(),
            },
            "worst_images": [
                {
                    "index": image.index,
                    "name": image.name,
                    "found": image.found,
                    "missed": image.missed,
                    "false": image.false,
                    "confused": image.confused,
                }
                for image in self.worst(worst)
            ],
        }


def _lane(iou: float | None) -> int | None:
    if iou is None:
        return None
    place = int(np.argmin(np.abs(IOUS - iou)))
    if abs(IOUS[place] - iou) > 1e-9:
        raise ValueError(f"AP is known at IoU 0.50, 0.55 ... 0.95, not at {iou}")
    return place


def _pick(table: NDArray[np.float64], axis: int, index: int | None) -> NDArray[np.float64]:
    return table if index is None else table.take([index], axis)


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of what is known; nan if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
