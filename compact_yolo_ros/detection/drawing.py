# SPDX-License-Identifier: Apache-2.0
"""Drawing detections into a picture, for people."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.detections import NO_TRACK, Detections
from compact_yolo_ros.pixels.decoding import DecodedImage, bgr_copy

if TYPE_CHECKING:
    from compact_yolo_ros.detection.tracking.trails import Trail

_GOLDEN_RATIO = 0.618033988749895


def colour_of(number: int) -> tuple[int, int, int]:
    """A bright BGR colour; neighbouring numbers get hues far apart."""
    red, green, blue = colorsys.hsv_to_rgb((0.08 + number * _GOLDEN_RATIO) % 1.0, 0.85, 1.0)
    return round(blue * 255), round(green * 255), round(red * 255)


def object_colours(detections: Detections) -> list[tuple[int, int, int]]:
    """The BGR colour of each object: that of its track, so that a change is seen, or its class."""
    labels = detections.labels.tolist()
    ids = labels if detections.ids is None else detections.ids.tolist()
    return [
        colour_of(label if track == NO_TRACK else track)
        for label, track in zip(labels, ids, strict=True)
    ]


def object_names(detections: Detections, classes: Sequence[str]) -> list[str]:
    """Class, number of the track if there is one, and score of each object."""
    count = len(detections)
    ids = [NO_TRACK] * count if detections.ids is None else detections.ids.tolist()
    rows = zip(detections.labels.tolist(), ids, detections.scores.tolist(), strict=True)
    return [
        f"{classes[label]} {score:.2f}"
        if track == NO_TRACK
        else f"{classes[label]} {track} {score:.2f}"
        for label, track, score in rows
    ]


def draw_detections(
    image: NDArray[np.uint8], detections: Detections, classes: Sequence[str]
) -> None:
    """Draw boxes with class, track and score into ``image``, (h, w, 3) uint8 BGR, in place."""
    scale = max(image.shape[:2]) / 640
    line = _line_width(image)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, max(0.35, 0.5 * scale)
    colours, names = object_colours(detections), object_names(detections, classes)
    for box, colour, text in zip(detections.boxes, colours, names, strict=True):
        x1, y1, x2, y2 = (round(float(side)) for side in box)
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, line)
        (width, height), base = cv2.getTextSize(text, font, size, 1)
        # The caption sits on the box, or inside it where the picture ends.
        bottom = y1 if y1 > height + base else y1 + height + base
        cv2.rectangle(image, (x1, bottom - height - base), (x1 + width, bottom), colour, cv2.FILLED)
        cv2.putText(image, text, (x1, bottom - base // 2), font, size, (0, 0, 0), 1, cv2.LINE_AA)


def draw_trails(image: NDArray[np.uint8], trails: Iterable[Trail]) -> None:
    """Draw the trails of tracked objects into ``image``, (h, w, 3) uint8 BGR, in place."""
    line = _line_width(image)
    for trail in trails:
        points = np.rint(trail.points).astype(np.int32)
        cv2.polylines(image, [points], False, colour_of(trail.track), line, cv2.LINE_AA)


def _line_width(image: NDArray[np.uint8]) -> int:
    width: int = max(1, round(max(image.shape[:2]) / 320))
    return width


def annotated(
    image: DecodedImage,
    detections: Detections,
    classes: Sequence[str],
    longest: int = 0,
    trails: Sequence[Trail] = (),
) -> NDArray[np.uint8]:
    """A copy of an image with its detections drawn.

    Args:
        image: stays as it is; one that was decoded smaller than needed is decoded again.
        detections: boxes in pixels of the image.
        classes: name of each label.
        longest: most pixels of the longer side, 0 for the size of the image.
        trails: of tracked objects, in pixels of the image.

    Returns:
        (h, w, 3) uint8 BGR, in the proportions of the image.
    """
    width, height = image.size
    image = image.at_least(longest)
    scale = longest / max(height, width)
    if 0 < scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA)
        image = DecodedImage(np.asarray(pixels, np.uint8), image.colour)
        factors = np.array([size[0] / width, size[1] / height] * 2, np.float32)
        detections = replace(detections, boxes=detections.boxes * factors)
        trails = [each._replace(points=each.points * factors[:2]) for each in trails]
    canvas = bgr_copy(image)
    draw_trails(canvas, trails)
    draw_detections(canvas, detections, classes)
    return canvas
