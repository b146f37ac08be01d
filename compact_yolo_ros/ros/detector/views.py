# SPDX-License-Identifier: Apache-2.0
"""How the network sees the images of each camera, from the values of the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, TypeVar

from compact_yolo_ros.detection.view import PLAIN, Area, View, parse_tiles
from compact_yolo_ros.ros.detector.camera_names import camera_names

Item = TypeVar("Item")


def read_views(values: Mapping[str, Any]) -> dict[str, View]:
    """The view of each camera that does not see whole images as they are.

    Raises:
        ValueError: a value cannot be used, or there are not as many as cameras.
    """
    cameras = camera_names(values["cameras"])
    rotations = _of_each("rotation", values["rotation"] or [PLAIN.rotation], cameras)
    rois = _of_each("roi", roi_areas(values["roi"]), cameras)
    tiles = _of_each("tiles", [parse_tiles(text) for text in values["tiles"]] or [(1, 1)], cameras)
    views = map(View, rotations, rois, tiles, repeat(values["tile_overlap"], len(cameras)))
    return {name: view for name, view in zip(cameras, views, strict=True) if not view.is_plain}


def roi_areas(numbers: Sequence[int]) -> list[Area]:
    """Areas of four numbers each; the whole image without any.

    Raises:
        ValueError: their number is another one.
    """
    if len(numbers) % 4:
        raise ValueError(
            f"roi has {len(numbers)} numbers: give x, y, width and height, for all cameras or for "
            "each of them"
        )
    areas = [Area(*numbers[place : place + 4]) for place in range(0, len(numbers), 4)]
    return areas or [PLAIN.roi]


def _of_each(name: str, items: Sequence[Item], cameras: Sequence[str]) -> Sequence[Item]:
    """An item for each camera: its own, or the one for all."""
    if len(items) == 1:
        return [*items] * len(cameras)
    if len(items) != len(cameras):
        raise ValueError(
            f"{name} is given for {len(items)} cameras, and there are {len(cameras)}: give one for "
            "all, or one for each in the order of cameras"
        )
    return items
