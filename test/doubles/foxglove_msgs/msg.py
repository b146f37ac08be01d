# SPDX-License-Identifier: Apache-2.0
"""A double of the messages of foxglove_msgs 3.1 that an image is annotated with.

It has their fields and, as rclpy, refuses other names and other types; it cannot be published.
Where the real package is, a test compares both.
"""

from __future__ import annotations

from typing import Any

from builtin_interfaces.msg import Time


class _Message:
    """A message; ``FIELDS`` has the type of each field, in a list of one that of a sequence."""

    FIELDS: dict[str, Any] = {}

    def __init__(self, **given: Any) -> None:
        for name, kind in self.FIELDS.items():
            setattr(self, name, given.pop(name, [] if isinstance(kind, list) else kind()))
        assert not given, f"{type(self).__name__} has no {list(given)}"

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self.FIELDS[name]
        if isinstance(kind, list):
            assert all(type(item) is kind[0] for item in value), (name, value)
        else:
            assert type(value) is kind, (name, value)
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)


class Color(_Message):
    FIELDS = {"r": float, "g": float, "b": float, "a": float}


class Point2(_Message):
    FIELDS = {"x": float, "y": float}


class CircleAnnotation(_Message):
    FIELDS = {
        "timestamp": Time,
        "position": Point2,
        "diameter": float,
        "thickness": float,
        "fill_color": Color,
        "outline_color": Color,
    }


class PointsAnnotation(_Message):
    UNKNOWN, POINTS, LINE_LOOP, LINE_STRIP, LINE_LIST = range(5)
    FIELDS = {
        "timestamp": Time,
        "type": int,
        "points": [Point2],
        "outline_color": Color,
        "outline_colors": [Color],
        "fill_color": Color,
        "thickness": float,
    }


class TextAnnotation(_Message):
    FIELDS = {
        "timestamp": Time,
        "position": Point2,
        "text": str,
        "font_size": float,
        "text_color": Color,
        "background_color": Color,
    }


class ImageAnnotations(_Message):
    FIELDS = {
        "circles": [CircleAnnotation],
        "points": [PointsAnnotation],
        "texts": [TextAnnotation],
    }
