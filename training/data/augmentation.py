# SPDX-License-Identifier: Apache-2.0
"""Random views of labelled images. Geometry is one affine warp an image; boxes follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from compact_yolo_ros.letterbox import PADDING
from training.data.sample import Sample


@dataclass(frozen=True)
class Augmentation:
    """How far random views go from the letterboxed image.

    Attributes:
        scale: range of the size, relative to the letterboxed image, drawn log-uniformly.
        aspect: largest relative change of width over height.
        flip: probability of mirroring left and right.
        hue: largest change, in half turns.
        saturation, value: largest relative change.
        mosaic_scale: as ``scale``, for each image of a mosaic.
        visible: a cropped box is kept if at least this share of its area is left.
    """

    scale: tuple[float, float] = (0.6, 1.6)
    aspect: float = 0.2
    flip: float = 0.5
    hue: float = 0.03
    saturation: float = 0.5
    value: float = 0.4
    mosaic_scale: tuple[float, float] = (0.4, 1.1)
    visible: float = 0.3


def augment(
    samples: Sequence[Sample],
    index: int,
    size: int,
    how: Augmentation,
    mosaic: float,
    rng: Generator,
) -> Sample:
    """Return a random (size, size) view of ``samples[index]``.

    With probability ``mosaic`` it shares the canvas with three random others.
    """
    if rng.random() >= mosaic:
        view = random_view(samples[index], (size, size), size, how.scale, how, rng)
    else:
        others = rng.integers(len(samples), size=3)
        view = _mosaic([samples[i] for i in (index, *others)], size, how, rng)
    image = _recolour(view.image, how, rng)
    return Sample(image, view.boxes, view.labels, view.name)


def random_view(
    sample: Sample,
    shape: tuple[int, int],
    reference: int,
    scale: tuple[float, float],
    how: Augmentation,
    rng: Generator,
) -> Sample:
    """Return a random view of ``shape`` (height, width).

    ``scale`` 1 fits the image into a square of ``reference`` pixels.
    """
    height, width = sample.image.shape[:2]
    zoom = reference / max(height, width) * np.exp(rng.uniform(*np.log(scale)))
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log1p(how.aspect))
    zoom_x, zoom_y = zoom * stretch, zoom / stretch
    # The room is negative where the image is larger than the view: then it is a crop.
    room_x, room_y = shape[1] - width * zoom_x, shape[0] - height * zoom_y
    left, top = rng.uniform(0, 1, 2) * (room_x, room_y)
    if rng.random() < how.flip:
        zoom_x, left = -zoom_x, left + width * zoom_x
    return warp(sample, np.array([[zoom_x, 0, left], [0, zoom_y, top]]), shape, how.visible)


def warp(
    sample: Sample, matrix: NDArray[np.float64], shape: tuple[int, int], visible: float
) -> Sample:
    """Apply an axis-aligned affine map (2, 3) and crop to ``shape`` (height, width).

    The map's coordinates are those of boxes: the image begins at the edge of its first pixel.
    """
    # OpenCV counts from pixel centres: its origin lies half a pixel inside ours.
    centred = matrix.copy()
    centred[:, 2] += (
        0.5 * (matrix[0, 0] + matrix[0, 1] - 1),
        0.5 * (matrix[1, 0] + matrix[1, 1] - 1),
    )
    border = (PADDING, PADDING, PADDING)
    image = cv2.warpAffine(
        sample.image, centred, shape[::-1], flags=cv2.INTER_LINEAR, borderValue=border
    )
    corners = sample.boxes.reshape(-1, 2, 2) * matrix[[0, 1], [0, 1]] + matrix[:, 2]
    boxes = np.concatenate((corners.min(1), corners.max(1)), 1)
    boxes, keep = crop_boxes(boxes, shape, visible)
    return Sample(image, boxes.astype(np.float32), sample.labels[keep], sample.name)


def crop_boxes(
    boxes: NDArray[np.floating], shape: tuple[int, int], visible: float, smallest: float = 2.0
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Clip boxes (n, 4) xyxy to ``shape``; return the kept ones and the mask (n,) of them.

    A box is kept with at least ``visible`` of its area and ``smallest`` pixels a side.
    """
    height, width = shape
    clipped = boxes.clip(0, (width, height, width, height))
    sides = clipped[:, 2:] - clipped[:, :2]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    keep = (sides.min(1) >= smallest) & (sides.prod(1) >= visible * area)
    return clipped[keep], keep


def _mosaic(samples: Sequence[Sample], size: int, how: Augmentation, rng: Generator) -> Sample:
    x, y = rng.uniform(0.3, 0.7, 2) * size
    x, y = round(x), round(y)
    canvas = np.empty((size, size, 3), np.uint8)
    corners = ((0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size))
    boxes, labels = [], []
    for sample, (left, top, right, bottom) in zip(samples, corners, strict=True):
        view = random_view(sample, (bottom - top, right - left), size, how.mosaic_scale, how, rng)
        canvas[top:bottom, left:right] = view.image
        boxes.append(view.boxes + np.array((left, top, left, top), np.float32))
        labels.append(view.labels)
    return Sample(canvas, np.concatenate(boxes), np.concatenate(labels), samples[0].name)


def _recolour(image: NDArray[np.uint8], how: Augmentation, rng: Generator) -> NDArray[np.uint8]:
    shift = rng.uniform(-1, 1) * how.hue * 90
    saturation, value = 1 + rng.uniform(-1, 1, 2) * (how.saturation, how.value)
    levels = np.arange(256)
    table = np.stack(((levels + shift) % 180, levels * saturation, levels * value), 1).clip(0, 255)
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table.astype(np.uint8)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
