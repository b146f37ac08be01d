# SPDX-License-Identifier: Apache-2.0
"""Random views of labelled images: one affine warp of image and boxes, and changes of colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.letterbox import PADDING
from compact_yolo_ros.pixels.reduction import Halving
from training.data.input_sizes import as_size
from training.data.sample import Mosaic, Sample

# The largest value of every setting that is a single number; the smallest is 0.
LARGEST = {
    "aspect": np.inf,
    "flip": 1,
    "hue": 1,
    "saturation": 1,
    "value": 1,
    "visible": 1,
    "contrast": 1,
    "jitter": 0.9,
}
Geometry = Literal["logarithmic", "darknet", "yolo_ret"]


@dataclass(frozen=True)
class Augmentation:
    """How much random views differ from the letterboxed image.

    Attributes:
        geometry: how size and shape of the image in the view are drawn, see ``random_view``.
        scale: range of the size, relative to the letterboxed image.
        aspect: largest relative change of width over height, with geometry logarithmic.
        jitter: largest relative change of a side, with the other geometries.
        flip: probability of mirroring left and right.
        hue: largest change, in half turns.
        saturation, value: largest relative change.
        mosaic_scale: as ``scale``, for each image of a mosaic.
        visible: a cropped box is kept if at least this share of its area is left; else what is left
            is ignored.
        gamma: range of the exponent on the pixels (of 0..1), drawn uniformly.
        contrast: largest relative change of the distance to the channel's mean.
        jpeg: range of the quality that the view is compressed with; None leaves it as it is.
    """

    scale: tuple[float, float] = (0.6, 1.6)
    aspect: float = 0.2
    flip: float = 0.5
    hue: float = 0.03
    saturation: float = 0.5
    value: float = 0.4
    mosaic_scale: tuple[float, float] = (0.4, 1.1)
    visible: float = 0.3
    gamma: tuple[float, float] = (1.0, 1.0)
    contrast: float = 0.0
    jpeg: tuple[int, int] | None = None
    geometry: Geometry = "logarithmic"
    jitter: float = 0.3

    def __post_init__(self) -> None:
        # Recipes are YAML, whose ranges are lists.
        for name in ("scale", "mosaic_scale", "gamma", "jpeg"):
            limits = getattr(self, name)
            if limits is None and name == "jpeg":
                continue
            if len(limits) != 2 or not 0 < limits[0] <= limits[1] < np.inf:
                raise ValueError(f"{name} must be a range [low, high] above 0")
            object.__setattr__(self, name, tuple(limits))
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            if not 0 <= value <= largest or value == np.inf:
                limits = "0 or more" if largest == np.inf else f"from 0 to {largest}"
                raise ValueError(f"{name} must be {limits}, not {value}")
        if self.geometry not in (known := get_args(Geometry)):
            raise ValueError(f"geometry must be one of {', '.join(known)}, not {self.geometry!r}")
        unread, reading = "aspect", "logarithmic"
        if self.geometry == "logarithmic":
            unread, reading = "jitter", "darknet or yolo_ret"
        if getattr(self, unread) != getattr(Augmentation, unread):
            raise ValueError(f"{unread} goes with geometry {reading} only")
        if self.jpeg and self.jpeg[1] > 100:
            raise ValueError("jpeg: its quality is at most 100")

    def largest_zoom(self, mosaic: bool) -> float:
        """Return how large an image can be in a view, relative to the letterboxed image.

        What the published geometries stretch beyond that is left out.

        Args:
            mosaic: whether there are mosaics.
        """
        largest = max(self.scale[1], self.mosaic_scale[1]) if mosaic else self.scale[1]
        stretch = float(np.sqrt(1 + self.aspect)) if self.geometry == "logarithmic" else 1.0
        return largest * stretch


def augment(
    samples: Sequence[Sample],
    index: int,
    size: int | Size,
    how: Augmentation,
    mosaic: float,
    rng: Generator,
) -> Sample:
    """Return a random view of an image.

    Args:
        samples: all images.
        index: of the image.
        size: of the view in pixels; a number is the side of a square.
        how: the augmentation.
        mosaic: probability that the view is a mosaic of this and three random images.
        rng: source of randomness.
    """
    size = as_size(size)
    if rng.random() >= mosaic:
        view = random_view(samples[index], size.shape, size, how.scale, how, rng)
    else:
        others = rng.integers(len(samples), size=3)
        view = _mosaic([samples[i] for i in (index, *others)], size, how, rng)
    return replace(view, image=_recolour(view.image, how, rng))


def random_view(
    sample: Sample,
    shape: tuple[int, int],
    reference: int | Size,
    scale: tuple[float, float],
    how: Augmentation,
    rng: Generator,
) -> Sample:
    """Return a random view of one image, without changes of colour.

    Size and shape of the image in it depend on ``how.geometry``; its place is any, and what does
    not fit is cut off. "logarithmic": the scale is drawn log-uniformly, and the aspect apart from
    it, the area staying. The others draw the scale s uniformly and 1 + j from the jitter for each
    side, to repeat what was published. "darknet" (load_data_detection of 2018): the jittered image,
    letterboxed and scaled by s. "yolo_ret" (get_random_data of the authors): the image is stretched
    to the jittered reference, whatever its own shape; s scales its longer side, the shorter one is
    no shorter than the view.

    Args:
        sample: the image.
        shape: (height, width) of the view in pixels.
        reference: scale 1 letterboxes the image into an input of this size in pixels; a number is
            the side of a square.
        scale: range of the scale.
        how: the augmentation.
        rng: source of randomness.
    """
    reference = as_size(reference)
    height, width = sample.image.shape[:2]
    if how.geometry == "logarithmic":
        fitting = min(reference.width / width, reference.height / height)
        zoom = fitting * np.exp(rng.uniform(*np.log(scale)))
        stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log1p(how.aspect))
        zoom_x, zoom_y = zoom * stretch, zoom / stretch
    else:
        # Shares of the reference's sides: in them, the reference is a square of side 1.
        sides = height / reference.height, width / reference.width
        shown_x, shown_y = _published_size(*sides, scale, how, rng)
        zoom_x, zoom_y = shown_x / sides[1], shown_y / sides[0]
    # The room is negative where the image is larger than the view: then it is a crop.
    room_x, room_y = shape[1] - width * zoom_x, shape[0] - height * zoom_y
    left, top = rng.uniform(0, 1, 2) * (room_x, room_y)
    if rng.random() < how.flip:
        zoom_x, left = -zoom_x, left + width * zoom_x
    return warp(sample, np.array([[zoom_x, 0, left], [0, zoom_y, top]]), shape, how.visible)


def _published_size(
    height: float, width: float, scale: tuple[float, float], how: Augmentation, rng: Generator
) -> tuple[float, float]:
    """Return width and height of an image in the view; here and there as shares of the
    reference's sides.
    """
    x, y = 1 + rng.uniform(-how.jitter, how.jitter, 2)
    factor = rng.uniform(*scale)
    if how.geometry == "darknet":
        longer = max(width * x, height * y)
        return factor * width * x / longer, factor * height * y / longer
    shorter = max(1.0, factor * min(x / y, y / x))
    return (shorter, factor) if x < y else (factor, shorter)


def warp(
    sample: Sample, matrix: NDArray[np.float64], shape: tuple[int, int], visible: float
) -> Sample:
    """Warp a labelled image and crop it.

    An ignored box is kept however little of it is left, because that part is not background.

    Args:
        sample: the image.
        matrix: axis-aligned affine map (2, 3) in the coordinates of boxes: 0 is the edge of the
            first pixel.
        shape: (height, width) of the result in pixels.
        visible: a box is kept if at least this share of its area is left, and ignored if less is.
    """
    image, centred = _halved(sample, matrix)
    # OpenCV counts from pixel centres: its origin lies half a pixel inside ours.
    centred[:, 2] += (
        0.5 * (centred[0, 0] + centred[0, 1] - 1),
        0.5 * (centred[1, 0] + centred[1, 1] - 1),
    )
    border = (PADDING, PADDING, PADDING)
    image = cv2.warpAffine(image, centred, shape[::-1], flags=cv2.INTER_LINEAR, borderValue=border)
    warped = _warp_boxes(sample.boxes, matrix)
    boxes, keep = crop_boxes(warped, shape, visible)
    # What is left of an object that is dropped can be seen: it is no background.
    rests = np.concatenate((_warp_boxes(sample.ignored, matrix), warped[~keep]))
    ignored, _ = crop_boxes(rests, shape, visible=0)
    return replace(
        sample,
        image=image,
        boxes=boxes.astype(np.float32),
        labels=sample.labels[keep],
        ignored=ignored.astype(np.float32),
        confidence=None if sample.confidence is None else sample.confidence[keep],
    )


def _halved(
    sample: Sample, matrix: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return an image and the map of its coordinates; a large one is halved as in the node.

    The map is a copy. How large the image is in the view says how often it is halved.
    """
    if not sample.large:
        return sample.image, matrix.copy()
    height, width = sample.image.shape[:2]
    shown = abs(matrix[0, 0]) * width, abs(matrix[1, 1]) * height
    image = Halving()(sample.image, (max(1, round(shown[0])), max(1, round(shown[1]))))
    return image, matrix * (width / image.shape[1], height / image.shape[0], 1)


def _warp_boxes(boxes: NDArray[np.floating], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    corners = boxes.reshape(-1, 2, 2) * matrix[[0, 1], [0, 1]] + matrix[:, 2]
    return np.concatenate((corners.min(1), corners.max(1)), 1)


def crop_boxes(
    boxes: NDArray[np.floating], shape: tuple[int, int], visible: float, smallest: float = 2.0
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Clip boxes to an image and drop those of which too little is left.

    Args:
        boxes: (n, 4) as x1 y1 x2 y2 in pixels.
        shape: (height, width) of the image.
        visible: a box is kept if at least this share of its area is left ...
        smallest: ... and each side is at least this many pixels.

    Returns:
        The boxes that are kept, and their mask (n,).
    """
    height, width = shape
    clipped = boxes.clip(0, (width, height, width, height))
    sides = clipped[:, 2:] - clipped[:, :2]
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    keep = (sides.min(1) >= smallest) & (sides.prod(1) >= visible * area)
    return clipped[keep], keep


def _mosaic(samples: Sequence[Sample], size: Size, how: Augmentation, rng: Generator) -> Sample:
    x, y = (round(place) for place in rng.uniform(0.3, 0.7, 2) * size)
    width, height = size
    canvas = np.empty((*size.shape, 3), np.uint8)
    corners = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    views = []
    for sample, (left, top, right, bottom) in zip(samples, corners, strict=True):
        view = random_view(sample, (bottom - top, right - left), size, how.mosaic_scale, how, rng)
        canvas[top:bottom, left:right] = view.image
        shift = np.array((left, top, left, top), np.float32)
        views.append(replace(view, boxes=view.boxes + shift, ignored=view.ignored + shift))
    certain = all(view.confidence is None for view in views)
    unlabelled = tuple(view.unlabelled for view in views)
    return Sample(
        canvas,
        np.concatenate([view.boxes for view in views]),
        np.concatenate([view.labels for view in views]),
        samples[0].name,
        np.concatenate([view.ignored for view in views]),
        None if certain else np.concatenate([_confidence(view) for view in views]),
        frozenset().union(*unlabelled),
        mosaic=Mosaic((x, y), unlabelled) if any(unlabelled) else None,
    )


def _confidence(view: Sample) -> NDArray[np.float32]:
    return np.ones(len(view.boxes), np.float32) if view.confidence is None else view.confidence


def _recolour(image: NDArray[np.uint8], how: Augmentation, rng: Generator) -> NDArray[np.uint8]:
    """Change hue, saturation and value, then gamma, contrast and compression, as in YOLO-ReT."""
    shift = rng.uniform(-1, 1) * how.hue * 90
    saturation, value = 1 + rng.uniform(-1, 1, 2) * (how.saturation, how.value)
    if how.hue or how.saturation or how.value:
        image = _change_hsv(image, shift, saturation, value)
    # A setting that is off draws no random number, so that the views stay the same.
    if how.gamma != (1.0, 1.0):
        image = _change_gamma(image, rng.uniform(*how.gamma))
    if how.contrast:
        image = _change_contrast(image, 1 + rng.uniform(-1, 1) * how.contrast)
    if how.jpeg:
        image = _compress(image, int(rng.integers(*how.jpeg, endpoint=True)))
    return image


def _change_hsv(
    image: NDArray[np.uint8], shift: float, saturation: float, value: float
) -> NDArray[np.uint8]:
    levels = np.arange(256)
    table = np.stack(((levels + shift) % 180, levels * saturation, levels * value), 1).clip(0, 255)
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table.astype(np.uint8)[None])
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def _change_gamma(image: NDArray[np.uint8], gamma: float) -> NDArray[np.uint8]:
    table = 255 * (np.arange(256) / 255) ** gamma
    return np.asarray(cv2.LUT(image, table.round().astype(np.uint8)))


def _change_contrast(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    mean = np.array(cv2.mean(image)[:3])
    table = (np.arange(256)[:, None] - mean) * factor + mean
    return np.asarray(cv2.LUT(image, table.round().clip(0, 255).astype(np.uint8)[None]))


def _compress(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    # The codec's colour model weighs channels, so their order matters.
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return np.asarray(cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
