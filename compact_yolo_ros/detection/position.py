# SPDX-License-Identifier: Apache-2.0
"""Where objects are in space: from a depth image that fits the camera's, or from their height.

A box shows its object, what is behind it, and sometimes what is in front of it; depth images have
holes. So the depth of an object is that of a layer: of the valid pixels in the middle half of the
box's width and height, the nearest layer of ``LAYER`` metres and ``LAYER_SHARE`` of the depth that
holds ``ENOUGH`` of them counts, and where none does, the fullest. The depth is the median of the
layer, and the extent along z goes from its 5th to its 95th percentile: it is that of the surface
that is seen. Width and height are those of the box at that depth.

All is in the camera's optical frame (REP 103): x to the right, y down, z forwards, in metres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.camera_model import CameraModel, Floats
from compact_yolo_ros.pixels.depth import Depth

INNER = 0.5
"""Share of the box's width and height, around its middle, whose depths count."""
LAYER, LAYER_SHARE = 0.2, 0.02
"""How deep a layer is: metres for the object, and a share of its depth for the sensor's noise."""
ENOUGH = 0.3
"""Share of the valid pixels from which on a layer is the object, and not something before it."""
FEWEST, FEWEST_SHARE = 4, 0.05
"""Valid pixels, and share of all in the inner part, below which the depth is not known."""
SIDE = 32
"""Most pixels along each side that are looked at; of larger boxes each second, third and so on."""

BOX_NOISE = 1 / 20
"""Standard deviation of a box's centre and sides, as share of the side; as in tracking."""
DEPTH_NOISE = 0.01
"""Least standard deviation of a depth, as share of it: that of a calibrated RGB-D camera."""
HEIGHT_NOISE = 0.1
"""Standard deviation of a class's height, as share of it."""
UNKNOWN_RANGE = 1e3
"""Standard deviation along z, in metres, of an object of which only the direction is known."""
_SHARES = np.array([0.05, 0.1587, 0.5, 0.8413, 0.95])
"""Percentiles of a layer: its ends, one standard deviation of a normal distribution to each side of
the middle, and the middle."""


@dataclass(frozen=True)
class Positions:
    """Objects in space, those of ``places`` among the detections of an image.

    Attributes:
        places: (n,) their positions among the detections.
        points: (n, 3) x y z in metres.
        sizes: (n, 3) extents in metres; zeros where only the direction is known, and then the
            point is at a depth of one metre.
        covariances: (n, 3, 3) of the points in square metres.
    """

    places: NDArray[np.intp]
    points: Floats
    sizes: Floats
    covariances: Floats

    def __len__(self) -> int:
        return len(self.places)


class _Sight(NamedTuple):
    """The directions of boxes: (n, 2) of the centre, and (n, 2) between opposite sides."""

    centre: Floats
    extent: Floats


def positions(
    boxes: NDArray[np.float32],
    camera: CameraModel,
    depth: Depth,
    heights: NDArray[np.float64] | None = None,
    rotation: int = 0,
) -> Positions:
    """Find objects in a depth image; those whose depth is not known are left out.

    Args:
        boxes: (n, 4) x1 y1 x2 y2 in pixels.
        camera: what took the image.
        depth: (h, w) along z, aligned to the camera's image and of its size: millimetres as
            uint16, or metres as float32; zero, infinite or NaN where it is not known.
        heights: (n,) metres of the objects, from which the depth follows where the image does not
            have it; NaN for those of unknown height.
        rotation: degrees clockwise, a multiple of 90, by which the image is turned to be upright.
    """
    layers = np.array([_layer(_inner(depth, box)) for box in boxes]).reshape(-1, 3)
    z, deviation, thickness = layers.T
    sight = _sight(boxes, camera)
    deviation = np.hypot(deviation, DEPTH_NOISE * z)
    if heights is not None:
        far, uncertain = _of_heights(sight, heights, rotation)
        missing = np.isnan(z)
        z, deviation = np.where(missing, far, z), np.where(missing, uncertain, deviation)
        thickness = np.where(missing, 0.0, thickness)
    return _placed(sight, z, deviation, thickness)


def bearings(
    boxes: NDArray[np.float32],
    camera: CameraModel,
    heights: NDArray[np.float64],
    rotation: int = 0,
) -> Positions:
    """Find in which direction objects are and, where their height is known, how far.

    Args:
        boxes: (n, 4) x1 y1 x2 y2 in pixels.
        camera: what took the image.
        heights: (n,) metres of the objects; NaN for those of unknown height.
        rotation: degrees clockwise, a multiple of 90, by which the image is turned to be upright.
    """
    sight = _sight(boxes, camera)
    z, deviation = _of_heights(sight, heights, rotation)
    is_direction = np.isnan(z)
    z = np.where(is_direction, 1.0, z)
    deviation = np.where(is_direction, UNKNOWN_RANGE, deviation)
    found = _placed(sight, z, deviation, np.zeros(len(z)))
    found.sizes[is_direction[found.places]] = 0
    return found


def heights_of(labels: NDArray[np.int32], known: Mapping[int, float]) -> NDArray[np.float64]:
    """The height of each object in metres, by its label; NaN where it is not known."""
    return np.array([known.get(label, np.nan) for label in labels.tolist()], np.float64)


def _placed(sight: _Sight, z: Floats, deviation: Floats, thickness: Floats) -> Positions:
    """Objects at depths ``z``; those of no depth or no direction are left out."""
    places = np.flatnonzero(np.isfinite(z) & np.isfinite(sight.centre + sight.extent).all(1))
    z, deviation, thickness = z[places], deviation[places], thickness[places]
    centre, extent = sight.centre[places], sight.extent[places]
    rays = np.column_stack([centre, np.ones(len(places))])
    points = rays * z[:, None]
    sizes = np.column_stack([extent * z[:, None], thickness])
    covariances = np.einsum("n,ni,nj->nij", deviation**2, rays, rays)
    for axis in range(2):
        covariances[:, axis, axis] += (BOX_NOISE * sizes[:, axis]) ** 2
    return Positions(places, points, sizes, covariances)


def _sight(boxes: NDArray[np.float32], camera: CameraModel) -> _Sight:
    """Where boxes lie at a distance of one: by the middles of their sides."""
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    middles = [np.column_stack(place) for place in ((x1, y), (x2, y), (x, y1), (x, y2))]
    left, right, top, bottom = np.split(camera.rays(np.concatenate(middles)), 4)
    extent = np.column_stack([right[:, 0] - left[:, 0], bottom[:, 1] - top[:, 1]])
    centre = np.column_stack([(left + right)[:, 0] / 2, (top + bottom)[:, 1] / 2])
    return _Sight(centre, extent)


def _of_heights(
    sight: _Sight, heights: NDArray[np.float64], rotation: int
) -> tuple[Floats, Floats]:
    """Depths of objects of known heights, and their standard deviations."""
    upright = 1 if rotation % 180 == 0 else 0  # a height lies along x where a camera is sideways
    with np.errstate(divide="ignore", invalid="ignore"):
        z = heights / sight.extent[:, upright]
    return z, z * np.hypot(HEIGHT_NOISE, BOX_NOISE)


def _inner(depth: Depth, box: NDArray[np.float32]) -> Floats:
    """The inner part of a box as a list of depths in metres, at most ``SIDE`` squared of them."""
    height, width = depth.shape
    rows = _span(float(box[1]), float(box[3]), height)
    columns = _span(float(box[0]), float(box[2]), width)
    scale = 1e-3 if depth.dtype.kind == "u" else 1.0
    part: Floats = depth[rows, columns].astype(np.float64).ravel() * scale
    return part


def _span(start: float, end: float, length: int) -> slice:
    """The pixels of the inner part along a side of ``length`` pixels, at least one of them."""
    middle, half = (start + end) / 2, INNER * (end - start) / 2
    first = min(max(0, int(middle - half)), length - 1)
    last = min(max(first + 1, int(np.ceil(middle + half))), length)
    return slice(first, last, -(-(last - first) // SIDE))


def _layer(depths: Floats) -> tuple[float, float, float]:
    """Median, standard deviation and thickness of the object's layer; NaN where none is seen.

    Args:
        depths: metres; those that are not known are zero, infinite or NaN.
    """
    valid = np.sort(depths[np.isfinite(depths) & (depths > 0)])
    if len(valid) < max(min(FEWEST, len(depths)), FEWEST_SHARE * len(depths)):
        return np.nan, np.nan, np.nan
    ends = np.searchsorted(valid, valid + LAYER + LAYER_SHARE * valid, "right")
    counts = ends - np.arange(len(valid))
    full = np.flatnonzero(counts >= ENOUGH * len(valid))
    nearest = full[0] if len(full) else int(counts.argmax())
    # From there on the layer may begin a little deeper and hold more.
    begin = nearest + int(counts[nearest : ends[nearest]].argmax())
    layer = valid[begin : ends[begin]]
    near, less, median, more, far = layer[np.rint(_SHARES * (len(layer) - 1)).astype(int)]
    return float(median), float(more - less) / 2, float(far - near)
