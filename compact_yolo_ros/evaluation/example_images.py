# SPDX-License-Identifier: Apache-2.0
"""Images with what was found, missed and invented drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.evaluation.matching import NOBODY, Lanes
from compact_yolo_ros.evaluation.result import AREAS
from compact_yolo_ros.evaluation.verdicts import judge
from compact_yolo_ros.labels.ground_truth import GroundTruth

FOUND, MISSED, FALSE, CONFUSED, IGNORED = "found", "missed", "false", "confused", "ignored"
COLOURS = {
    FOUND: "#35c46a",
    MISSED: "#ffd23f",
    FALSE: "#ff4d4d",
    CONFUSED: "#ff8bf0",
    IGNORED: "#9aa4ae",
}
"""As in the legend of the page."""
_FEW = 6
"""With more boxes than this, those that are right go without words."""


@dataclass(frozen=True)
class Picture:
    """An image to show.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        truth: its labels.
        detections: what was found in it.
        caption: shown below it; the image's name if empty.
    """

    image: NDArray[np.uint8]
    truth: GroundTruth
    detections: Detections
    caption: str = ""


def draw(
    picture: Picture,
    classes: Sequence[str],
    score_threshold: float,
    iou_threshold: float = 0.5,
    width: int = 560,
) -> NDArray[np.uint8]:
    """Return the image, at most ``width`` wide, BGR, as a user of those thresholds sees it.

    Objects nothing was found at are dashed; a mix-up shows the class found and the true one.
    """
    truth, found = picture.truth, picture.detections
    scale = min(1.0, width / picture.image.shape[1])
    size = (
        round(picture.image.shape[1] * scale),
        max(1, round(picture.image.shape[0] * scale)),
    )
    canvas = np.ascontiguousarray(cv2.resize(picture.image, size, interpolation=cv2.INTER_AREA))
    lanes = Lanes(np.array([iou_threshold]), np.array([AREAS["all"]]))
    for box in truth.ignored:
        _dashed(canvas, box * scale, COLOURS[IGNORED])
    pairs = judge(truth, found, lanes, score_threshold).pairs
    captions = []
    # Hits come first: what is wrong is drawn over them, and all words over all boxes.
    for thing, detection in pairs:
        if detection == NOBODY:
            box, outcome, text = truth.boxes[thing], MISSED, classes[truth.labels[thing]]
            _dashed(canvas, box * scale, COLOURS[MISSED])
        else:
            box, label = found.boxes[detection], found.labels[detection]
            text = f"{classes[label]} {found.scores[detection]:.2f}"
            if thing == NOBODY:
                outcome = FALSE
            elif truth.labels[thing] == label:
                outcome = FOUND
            else:
                outcome = CONFUSED
                text += f", is {classes[truth.labels[thing]]}"
            _solid(canvas, box * scale, COLOURS[outcome])
        if outcome != FOUND or len(pairs) <= _FEW:
            captions.append((box * scale, text, COLOURS[outcome]))
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
    # The caption sits on the box, or inside it where the picture ends.
    bottom = y1 if y1 > height + base else y1 + height + base
    cv2.rectangle(
        canvas, (x1, bottom - height - base), (x1 + width, bottom), _bgr(colour), cv2.FILLED
    )
    cv2.putText(canvas, text, (x1, bottom - base // 2 - 1), font, size, (0, 0, 0), 1, cv2.LINE_AA)
