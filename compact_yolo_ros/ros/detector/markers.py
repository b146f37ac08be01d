# SPDX-License-Identifier: Apache-2.0
"""Where the objects of one camera are, as markers for RViz and Foxglove.

The markers of an image take the places of those before: their numbers are the same, and what is
left over is deleted. Each lives for two seconds, in case that nothing follows. The trail of an
object is made of dots, one for each image: a viewer places them with the camera's pose at their own
time, so that they stay there while the camera moves. A line would need all its points in one frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Vector3
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from compact_yolo_ros.detection.detections import NO_TRACK, Detections
from compact_yolo_ros.detection.drawing import object_colours, object_names
from compact_yolo_ros.detection.position import Positions

BOXES, LABELS, TRACKS = "boxes", "labels", "tracks"
"""Namespaces: what a viewer shows or hides together."""
LIFETIME = 2
"""Seconds: markers of a node that ended vanish, and trails are as long."""
MOST_DOTS = 1000
"""Images that have dots at the same time."""
THIN = 0.01
"""Metres, least side of a box: RViz refuses one of zero."""
TEXT = 0.15
"""Metres, height of a label."""
DOT = 0.06
"""Metres, diameter of a dot."""
RAY = Vector3(x=0.01, y=0.04, z=0.06)
"""Metres: diameters of shaft and head of a ray, and length of its head."""
UP = {0: (0, -1), 90: (-1, 0), 180: (0, 1), 270: (1, 0)}
"""By the rotation that makes an image upright: where above is, along x and y before that."""
WHITE = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)


class MarkerWriter:
    """Makes the messages of one camera."""

    def __init__(self, classes: Sequence[str]) -> None:
        """Begin with the next image; ``classes`` is the name of each label."""
        self._classes = classes
        self._shown = 0
        self._images = 0

    def write(
        self, header: Header, detections: Detections, where: Positions, rotation: int
    ) -> MarkerArray:
        """The markers for an image.

        Args:
            header: of the image; markers are in its frame, at its stamp.
            detections: all objects of the image.
            where: where some of them are.
            rotation: degrees clockwise by which the image is turned to be upright.
        """
        found = detections[where.places]
        colours = [_colour(bgr) for bgr in object_colours(found)]
        names = object_names(found, self._classes)
        array = MarkerArray()
        for place, (colour, name) in enumerate(zip(colours, names, strict=True)):
            point, size = where.points[place], where.sizes[place]
            array.markers += [
                _body(header, place, point, size, colour),
                _label(header, place, _above(point, size, rotation), _text(name, point, size)),
            ]
        for place in range(len(found), self._shown):
            array.markers += [_deleted(header, name, place) for name in (BOXES, LABELS)]
        self._shown = len(found)
        if found.ids is not None:
            self._add_dots(array, header, found.ids, where, colours)
        return array

    def _add_dots(
        self,
        array: MarkerArray,
        header: Header,
        ids: NDArray[np.int64],
        where: Positions,
        colours: Sequence[ColorRGBA],
    ) -> None:
        """Add a dot for each object that has a track and is known to be somewhere."""
        shown = np.flatnonzero((ids != NO_TRACK) & where.sizes.any(1))
        if not len(shown):
            return
        dots = _marker(header, TRACKS, self._images % MOST_DOTS, Marker.SPHERE_LIST)
        dots.scale = Vector3(x=DOT, y=DOT, z=DOT)
        dots.points = [_point(where.points[place]) for place in shown]
        dots.colors = [colours[place] for place in shown.tolist()]
        array.markers.append(dots)
        self._images += 1


def _body(
    header: Header,
    number: int,
    point: NDArray[np.float64],
    size: NDArray[np.float64],
    colour: ColorRGBA,
) -> Marker:
    """A box that lets what is inside be seen; a ray where only the direction is known."""
    if not size.any():
        ray = _marker(header, BOXES, number, Marker.ARROW)
        ray.points = [Point(), _point(point)]
        ray.scale, ray.color = RAY, colour
        return ray
    box = _marker(header, BOXES, number, Marker.CUBE)
    box.pose.position = _point(point)
    box.scale.x, box.scale.y, box.scale.z = np.maximum(size, THIN).tolist()
    box.color = ColorRGBA(r=colour.r, g=colour.g, b=colour.b, a=0.4)
    return box


def _label(header: Header, number: int, point: NDArray[np.float64], text: str) -> Marker:
    label = _marker(header, LABELS, number, Marker.TEXT_VIEW_FACING)
    label.pose.position = _point(point)
    label.scale.z, label.color = TEXT, WHITE
    label.text = text
    return label


def _text(name: str, point: NDArray[np.float64], size: NDArray[np.float64]) -> str:
    """The name of an object, and how far it is where that is known."""
    return f"{name}, {np.linalg.norm(point):.1f} m" if size.any() else name


def _above(
    point: NDArray[np.float64], size: NDArray[np.float64], rotation: int
) -> NDArray[np.float64]:
    """Where the label of an object is, in the optical frame."""
    up = np.array([*UP[rotation], 0.0])
    above: NDArray[np.float64] = point + up * (np.abs(up) @ size / 2 + TEXT)
    return above


def _deleted(header: Header, name: str, number: int) -> Marker:
    return Marker(header=header, ns=name, id=number, action=Marker.DELETE)


def _marker(header: Header, name: str, number: int, kind: int) -> Marker:
    lifetime = Duration(sec=LIFETIME)
    return Marker(header=header, ns=name, id=number, type=kind, lifetime=lifetime)


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return Point(x=x, y=y, z=z)


def _colour(bgr: tuple[int, int, int]) -> ColorRGBA:
    blue, green, red = (value / 255 for value in bgr)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)
