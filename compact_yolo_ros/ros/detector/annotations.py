# SPDX-License-Identifier: Apache-2.0
"""The objects in the images of one camera, as annotations that Foxglove draws over them.

They are in pixels of the published image, with its origin in the upper left corner of the first
pixel, and carry its stamp, by which Foxglove finds the image that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from builtin_interfaces.msg import Time
from foxglove_msgs.msg import Color, ImageAnnotations, Point2, PointsAnnotation, TextAnnotation
from numpy.typing import NDArray
from std_msgs.msg import Header

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.drawing import colour_of, object_colours, object_names
from compact_yolo_ros.detection.tracking.trails import Trail, Trails
from compact_yolo_ros.pixels.image_header import time_of

LINE, FONT = 1 / 320, 1 / 40
"""Thickness of lines and height of letters, as share of the image's longer side."""
BLACK = Color(r=0.0, g=0.0, b=0.0, a=1.0)


class AnnotationWriter:
    """Makes the messages of one camera."""

    def __init__(self, classes: Sequence[str]) -> None:
        """Begin with the next image; ``classes`` is the name of each label."""
        self._classes = classes
        self._trails = Trails()

    def write(
        self,
        header: Header,
        size: tuple[int, int],
        detections: Detections,
        tracks: Detections | None,
    ) -> ImageAnnotations:
        """The annotations of an image.

        Args:
            header: of the image.
            size: its width and height in pixels.
            detections: objects that get a box and a label.
            tracks: objects with a track, whose trails are drawn; None if nothing is tracked.
        """
        stamp, longer = header.stamp, max(size)
        line, font = longer * LINE, longer * FONT
        trails = self._trails.add(time_of(header), tracks) if tracks else []
        message = ImageAnnotations()
        if hasattr(message, "timestamp"):  # newer versions have one for all
            message.timestamp = stamp
        message.points = [_trail(stamp, trail, line) for trail in trails]
        colours = [_colour(bgr) for bgr in object_colours(detections)]
        names = object_names(detections, self._classes)
        for box, colour, name in zip(detections.boxes, colours, names, strict=True):
            message.points.append(_box(stamp, box, colour, line))
            message.texts.append(_label(stamp, box, colour, name, font))
        return message


def _trail(stamp: Time, trail: Trail, line: float) -> PointsAnnotation:
    colour = _colour(colour_of(trail.track))
    return _lines(stamp, PointsAnnotation.LINE_STRIP, trail.points.tolist(), colour, line)


def _box(stamp: Time, box: NDArray[np.float32], colour: Color, line: float) -> PointsAnnotation:
    x1, y1, x2, y2 = box.tolist()
    corners = (x1, y1), (x2, y1), (x2, y2), (x1, y2)
    return _lines(stamp, PointsAnnotation.LINE_LOOP, corners, colour, line)


def _lines(
    stamp: Time, kind: int, points: Iterable[Sequence[float]], colour: Color, line: float
) -> PointsAnnotation:
    return PointsAnnotation(
        timestamp=stamp,
        type=kind,
        points=[Point2(x=x, y=y) for x, y in points],
        outline_color=colour,
        thickness=line,
    )


def _label(
    stamp: Time, box: NDArray[np.float32], colour: Color, name: str, font: float
) -> TextAnnotation:
    """A label on a box, or inside it where the image ends."""
    x1, y1, *_ = box.tolist()
    return TextAnnotation(
        timestamp=stamp,
        position=Point2(x=x1, y=y1 if y1 > font else y1 + font),
        text=name,
        font_size=font,
        text_color=BLACK,
        background_color=colour,
    )


def _colour(bgr: tuple[int, int, int]) -> Color:
    blue, green, red = (value / 255 for value in bgr)
    return Color(r=red, g=green, b=blue, a=1.0)
