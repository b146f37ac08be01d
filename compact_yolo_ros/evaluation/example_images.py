# SPDX-License-Identifier: Apache-2.0
"""Images of a report, with what was found, missed and invented drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation.image_matching import match_image
from compact_yolo_ros.evaluation.matching import MATCH_IOU, UNMATCHED, Criteria
from compact_yolo_ros.evaluation.result import AREAS
from compact_yolo_ros.labels.ground_truth import GroundTruth

FOUND, MISSED, FALSE, CONFUSED, IGNORED = "found", "missed", "false", "confused", "ignored"
COLOURS = {
    FOUND: "#35c46a",
    MISSED: "#ffd23f",
    FALSE: "#ff4d4d",
    CONFUSED: "#ff8bf0",
    IGNORED: "#9aa4ae",
}
"""Also in the legend of the report."""
_BEYOND = 8
"""Pixels that a box is drawn beyond the image's edge: a label may be billions wide."""
_FEW = 6
"""With more boxes than this, those that are right have no caption."""


@dataclass(frozen=True)
class ExampleImage:
    """An image to show.

    Attributes:
        pixels: (H, W, 3) uint8 BGR.
        truth: what it shows.
        detections: what was found in it.
        caption: shown below it; the image's name if empty.
    """

    pixels: NDArray[np.uint8]
    truth: GroundTruth
    detections: Detections
    caption: str = ""


def draw(
    example: ExampleImage,
    classes: Sequence[str],
    score_threshold: float,
    iou_threshold: float = MATCH_IOU,
    width: int = 560,
) -> NDArray[np.uint8]:
    """Draw an image as a user of those thresholds sees it.

    Missed objects are dashed; a mix-up shows the class found and the true one.

    Args:
        example: the image, its objects and detections.
        classes: names.
        score_threshold: least score of a detection that is drawn.
        iou_threshold: least overlap of a hit.
        width: most pixels that the drawing is wide.

    Returns:
        (h, w, 3) uint8 BGR.
    """
    truth, found = example.truth, example.detections
    height, full_width = example.pixels.shape[:2]
    scale = min(1.0, width / full_width)
    size = (round(full_width * scale), max(1, round(height * scale)))
    canvas = np.ascontiguousarray(cv2.resize(example.pixels, size, interpolation=cv2.INTER_AREA))
    criteria = Criteria(np.array([iou_threshold]), np.array([AREAS["all"]]))

    def drawn(box: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.asarray(np.clip(box * scale, -_BEYOND, np.array([*size, *size]) + _BEYOND))

    for box in truth.ignored:
        _dashed(canvas, drawn(box), COLOURS[IGNORED])
    pairs = match_image(truth, found, criteria, score_threshold).pairs
    captions = []
    # Hits come first: what is wrong is drawn over them, and all captions over all boxes.
    for thing, detection in pairs:
        if detection == UNMATCHED:
            outcome, text = MISSED, classes[truth.labels[thing]]
            box = drawn(truth.boxes[thing])
            _dashed(canvas, box, COLOURS[MISSED])
        else:
            box, label = drawn(found.boxes[detection]), found.labels[detection]
            text = f"{classes[label]} {found.scores[detection]:.2f}"
            if thing == UNMATCHED:
                outcome = FALSE
            elif truth.labels[thing] == label:
                outcome = FOUND
            else:
                outcome = CONFUSED
                text += f", is {classes[truth.labels[thing]]}"
            _solid(canvas, box, COLOURS[outcome])
        if outcome != FOUND or len(pairs) <= _FEW:
            captions.append((box, text, COLOURS[outcome]))
    for caption in captions:
        _caption(canvas, *caption)
    return canvas


def _bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return blue, green, red


def _corners(box: NDArray[np.floating]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (round(float(side)) for side in box)
    return x1, y1, x2, y2


def _solid(canvas: NDArray[np.uint8], box: NDArray[np.floating], colour: str) -> None:
    x1, y1, x2, y2 = _corners(box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), (0, 0, 0), 4)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), _bgr(colour), 2)


def _dashed(canvas: NDArray[np.uint8], box: NDArray[np.floating], colour: str) -> None:
    x1, y1, x2, y2 = _corners(box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), (0, 0, 0), 2)
    for start, end in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2))):
        for side in (0, 1):
            # The opposite side is the same line moved across the box.
            move = np.array([0, y2 - y1] if start[1] == end[1] else [x1 - x2, 0]) * side
            points = np.linspace(start, end, max(2, int(np.hypot(*np.subtract(end, start)) / 5)))
            points = np.round(points + move).astype(int)
            for first, second in zip(points[:-1:2], points[1::2], strict=False):
                cv2.line(canvas, first.tolist(), second.tolist(), _bgr(colour), 2)


def _caption(canvas: NDArray[np.uint8], box: NDArray[np.floating], text: str, colour: str) -> None:
    x1, y1, _, _ = _corners(box)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (width, height), base = cv2.getTextSize(text, font, size, 1)
    x1 = max(0, min(x1, canvas.shape[1] - width))
    # The caption sits on the box, or inside it where the image ends.
    bottom = y1 if y1 > height + base else y1 + height + base
    cv2.rectangle(
        canvas, (x1, bottom - height - base), (x1 + width, bottom), _bgr(colour), cv2.FILLED
    )
    cv2.putText(canvas, text, (x1, bottom - base // 2 - 1), font, size, (0, 0, 0), 1, cv2.LINE_AA)
