# SPDX-License-Identifier: Apache-2.0
"""What an evaluation says."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.evaluation.average_precision import SCORES, ScoreCurve, best_threshold
from compact_yolo_ros.support.plain_values import JsonKey, json_keys

IOUS = np.linspace(0.5, 0.95, 10)
"""COCO's IoU thresholds."""
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2)}
AREAS["large"] = (96.0**2, 1e10)
"""COCO's sizes: smallest and largest area of a box, in square pixels of the source image."""
MOST_DETECTIONS = (1, 10, 100)
"""COCO's limits: at most so many detections of a class in an image count, best first."""


class _Figures:
    """Figures with the names that people know them by, which they also have in JSON."""

    @classmethod
    def names(cls) -> list[str]:
        """The names, in their usual order."""
        return list(json_keys(cls).values())

    def named(self) -> dict[str, float]:
        """The figures by their names."""
        return {key: getattr(self, name) for name, key in json_keys(type(self)).items()}


@dataclass(frozen=True)
class Summary(_Figures):
    """The figures that are usually quoted, means over classes; nan where there are no objects.

    AP and AR are COCO's, at most 100 detections of a class in an image where the name does not say
    otherwise; VOC07 and VOC are PASCAL VOC's AP of 2007 and of 2010 and later.
    """

    ap: Annotated[float, JsonKey("AP")]
    ap50: Annotated[float, JsonKey("AP50")]
    ap75: Annotated[float, JsonKey("AP75")]
    ap_small: Annotated[float, JsonKey("AP small")]
    ap_medium: Annotated[float, JsonKey("AP medium")]
    ap_large: Annotated[float, JsonKey("AP large")]
    ar1: Annotated[float, JsonKey("AR1")]
    ar10: Annotated[float, JsonKey("AR10")]
    ar100: Annotated[float, JsonKey("AR100")]
    ar_small: Annotated[float, JsonKey("AR small")]
    ar_medium: Annotated[float, JsonKey("AR medium")]
    ar_large: Annotated[float, JsonKey("AR large")]
    voc07: Annotated[float, JsonKey("VOC07")]
    voc: Annotated[float, JsonKey("VOC")]


@dataclass(frozen=True)
class ClassFigures(_Figures):
    """The figures of one class, see ``Summary``; nan where there are no objects.

    ``precision_at_best``, ``recall_at_best`` and ``f1_at_best`` are those at the class's own
    ``best_threshold`` of the score.
    """

    objects: int
    ap: Annotated[float, JsonKey("AP")]
    ap50: Annotated[float, JsonKey("AP50")]
    ap75: Annotated[float, JsonKey("AP75")]
    ap_small: Annotated[float, JsonKey("AP small")]
    ap_medium: Annotated[float, JsonKey("AP medium")]
    ap_large: Annotated[float, JsonKey("AP large")]
    ar100: Annotated[float, JsonKey("AR100")]
    voc07: Annotated[float, JsonKey("VOC07")]
    voc: Annotated[float, JsonKey("VOC")]
    best_threshold: Annotated[float, JsonKey("best threshold")]
    precision_at_best: Annotated[float, JsonKey("precision")]
    recall_at_best: Annotated[float, JsonKey("recall")]
    f1_at_best: Annotated[float, JsonKey("F1")]


@dataclass(frozen=True)
class ImageErrors:
    """What a user would get wrong in one image, at the two thresholds of an evaluation.

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
        return f"{self.name}: {words or 'no objects, no detections'}"

    def shifted(self, images: int) -> ImageErrors:
        """The same image with ``images`` others before it."""
        return replace(self, index=self.index + images)


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix.

    Attributes:
        classes: names; the last one is the background.
        counts: rows are true classes, columns detected ones; the diagonal holds the hits.
    """

    classes: Annotated[tuple[str, ...], JsonKey("rows are truth, columns found")]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class EvaluationFigures:
    """What an evaluation says in numbers, as programs keep it in JSON.

    Attributes:
        images: number of images.
        objects: number of objects to be found.
        score_threshold: see ``Evaluation``, also for the next one.
        iou_threshold: see there.
        best_threshold: the score threshold with the best mean F1; nan if nothing was found.
        summary: means over the classes.
        classes: by name.
        confusion: at the two thresholds.
        worst_images: those with most errors, worst first.
    """

    images: int
    objects: int
    score_threshold: float
    iou_threshold: float
    best_threshold: float
    summary: Summary
    classes: dict[str, ClassFigures]
    confusion: Confusion
    worst_images: tuple[ImageErrors, ...]


@dataclass(frozen=True)
class Evaluation:
    """How good the detections of a set of images are. Values without any object are nan.

    Attributes:
        classes: K names.
        score_threshold: for ``confusion`` and ``images``.
        iou_threshold: for ``confusion``, ``images`` and ``curves``.
        objects: (K, 4) number of objects to be found, by class and ``AREAS``.
        precision_at: (K, 4, 10, 101) by class, ``AREAS``, ``IOUS`` and ``RECALLS``, of at most 100
            detections of a class in an image.
        recall_at: (3, K, 4, 10) by ``MOST_DETECTIONS``, class, ``AREAS`` and ``IOUS``.
        voc07: (K,) VOC's 11-point AP of 2007 at IoU 0.5.
        voc: (K,) VOC's AP of 2010 and later, the whole area, at IoU 0.5.
        curves: K, precision, recall and F1 over the score threshold.
        confusion: (K + 1, K + 1) rows are true classes, columns detected ones; the last of each
            is the background. The diagonal holds the hits.
        images: one entry each.
    """

    classes: tuple[str, ...]
    score_threshold: float
    iou_threshold: float
    objects: NDArray[np.int64]
    precision_at: NDArray[np.float64]
    recall_at: NDArray[np.float64]
    voc07: NDArray[np.float64]
    voc: NDArray[np.float64]
    curves: tuple[ScoreCurve, ...]
    confusion: NDArray[np.int64]
    images: tuple[ImageErrors, ...]

    def average_precision(
        self, label: int | None = None, iou: float | None = None, area: str = "all"
    ) -> float:
        """COCO's AP of one class or the mean of all, at one of ``IOUS`` or the mean of them."""
        table = self.precision_at[:, list(AREAS).index(area)]
        return _mean(_pick(_pick(table, 1, _place(iou)), 0, label))

    def average_recall(
        self, label: int | None = None, area: str = "all", detections: int = 100
    ) -> float:
        """COCO's AR: the recall with at most so many detections, mean over ``IOUS``."""
        table = self.recall_at[MOST_DETECTIONS.index(detections), :, list(AREAS).index(area)]
        return _mean(_pick(table, 0, label))

    @cached_property
    def mean_f1_at(self) -> NDArray[np.float64]:
        """(1001,) F1 over ``SCORES``, mean of the classes."""
        known = [curve.f1_at for curve in self.curves if not np.isnan(curve.f1_at).all()]
        return np.mean(known, 0) if known else np.full(len(SCORES), np.nan)

    @property
    def best_threshold(self) -> float:
        """The score threshold with the best mean F1: a good ``score_threshold`` for a node."""
        return best_threshold(self.mean_f1_at)

    def worst(self, count: int) -> list[ImageErrors]:
        """The images with most errors, worst first, of equals the one with least found."""
        wrong = [image for image in self.images if image.errors]
        return sorted(wrong, key=lambda image: (-image.errors, image.found))[:count]

    def best(self, count: int) -> list[ImageErrors]:
        """The images with most objects found and nothing wrong."""
        right = [image for image in self.images if image.found and not image.errors]
        return sorted(right, key=lambda image: -image.found)[:count]

    def summary(self) -> Summary:
        """The figures that are usually quoted."""
        return Summary(
            ap=self.average_precision(),
            ap50=self.average_precision(iou=0.5),
            ap75=self.average_precision(iou=0.75),
            ap_small=self.average_precision(area="small"),
            ap_medium=self.average_precision(area="medium"),
            ap_large=self.average_precision(area="large"),
            ar1=self.average_recall(detections=1),
            ar10=self.average_recall(detections=10),
            ar100=self.average_recall(),
            ar_small=self.average_recall(area="small"),
            ar_medium=self.average_recall(area="medium"),
            ar_large=self.average_recall(area="large"),
            voc07=_mean(self.voc07),
            voc=_mean(self.voc),
        )

    def of_class(self, label: int) -> ClassFigures:
        """The figures of one class."""
        curve = self.curves[label]
        threshold = best_threshold(curve.f1_at)
        place = None if math.isnan(threshold) else int(np.argmin(np.abs(SCORES - threshold)))
        return ClassFigures(
            objects=int(self.objects[label, 0]),
            ap=self.average_precision(label),
            ap50=self.average_precision(label, 0.5),
            ap75=self.average_precision(label, 0.75),
            ap_small=self.average_precision(label, area="small"),
            ap_medium=self.average_precision(label, area="medium"),
            ap_large=self.average_precision(label, area="large"),
            ar100=self.average_recall(label),
            voc07=float(self.voc07[label]),
            voc=float(self.voc[label]),
            best_threshold=threshold,
            precision_at_best=math.nan if place is None else float(curve.precision_at[place]),
            recall_at_best=math.nan if place is None else float(curve.recall_at[place]),
            f1_at_best=math.nan if place is None else float(curve.f1_at[place]),
        )

    def figures(self, worst: int = 20) -> EvaluationFigures:
        """All that is kept in JSON; of the images only the ``worst`` ones."""
        return EvaluationFigures(
            images=len(self.images),
            objects=int(self.objects[:, 0].sum()),
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            best_threshold=self.best_threshold,
            summary=self.summary(),
            classes={name: self.of_class(label) for label, name in enumerate(self.classes)},
            confusion=Confusion(
                (*self.classes, "background"), tuple(map(tuple, self.confusion.tolist()))
            ),
            worst_images=tuple(self.worst(worst)),
        )


def _place(iou: float | None) -> int | None:
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
