# SPDX-License-Identifier: Apache-2.0
"""What a calibrated camera sees: from pixels to rays, without the distortion of its lens.

Rays are in the camera's optical frame (REP 103): x to the right, y down, z forwards. Models of
lenses are those of sensor_msgs/CameraInfo (REP 104), computed by OpenCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PIXEL_CENTRE = 0.5
"""A calibration counts from the middle of the first pixel, boxes count from its corner."""
LENSES = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""Numbers of coefficients that each distortion model has."""
FISHEYE = "equidistant"
STEEPEST = 20.0
"""Largest x / z and y / z of a ray (87 degrees)."""
MISSED = 2.0
"""Pixels by which the lens may show a ray beside the point that it was found for. OpenCV gives
nonsense of points that no ray reaches, as the black corners of a fisheye: even rays to the other
side."""
_CRITERIA = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 40, 1e-9)


class CalibrationError(ValueError):
    """A CameraInfo that says nothing of where pixels look; the sentence says why."""


@dataclass(frozen=True)
class CameraModel:
    """A camera whose lens is known.

    Attributes:
        size: width and height of its images in pixels.
        focal: focal length along x and y in pixels.
        centre: principal point in pixels, from the middle of the first pixel.
        lens: distortion model; empty for none.
        coefficients: of that model, as OpenCV has them.
    """

    size: tuple[int, int]
    focal: tuple[float, float]
    centre: tuple[float, float]
    lens: str = ""
    coefficients: tuple[float, ...] = ()

    def rays(self, points: Floats) -> Floats:
        """Where points of the image lie at a distance of one along z.

        Args:
            points: (n, 2) x y in pixels, from the corner of the first one, as boxes have them.

        Returns:
            (n, 2) x / z and y / z; NaN for what this lens cannot show.
        """
        middle = np.asarray(points, np.float64) - PIXEL_CENTRE
        if not self.lens or not len(middle):
            return (middle - self.centre) / self.focal
        matrix = np.array(
            [[self.focal[0], 0, self.centre[0]], [0, self.focal[1], self.centre[1]], [0, 0, 1]]
        )
        coefficients = np.array(self.coefficients)
        rays = _undistorted(middle[:, None], matrix, coefficients, self.lens)[:, 0]
        with np.errstate(invalid="ignore"):
            seen = (np.abs(rays) < STEEPEST).all(1, keepdims=True)
        shown = _distorted(np.where(seen, rays, 0.0), matrix, coefficients, self.lens)
        seen &= (np.abs(shown - middle) < MISSED).all(1, keepdims=True)
        return np.where(seen, rays, np.nan)


def _distorted(rays: Floats, matrix: Floats, coefficients: Floats, lens: str) -> Floats:
    """Points (n, 2) where a lens shows rays (n, 2)."""
    project = cv2.fisheye.projectPoints if lens == FISHEYE else cv2.projectPoints
    places = np.column_stack([rays, np.ones(len(rays))])[:, None]
    points, _ = project(places, np.zeros(3), np.zeros(3), matrix, coefficients)
    return np.asarray(points, np.float64)[:, 0]


def _undistorted(points: Floats, matrix: Floats, coefficients: Floats, lens: str) -> Floats:
    """Rays of (n, 1, 2) points."""
    if lens == FISHEYE:
        # With its own criteria, of ten steps: OpenCV 4.5.4, of Ubuntu 22.04, takes no others.
        rays = cv2.fisheye.undistortPoints(points, matrix, coefficients)
    elif hasattr(cv2, "undistortPointsIter"):  # before OpenCV 5
        rays = cv2.undistortPointsIter(
            points, matrix, coefficients, np.eye(3), np.eye(3), _CRITERIA
        )
    else:
        rays = cv2.undistortPoints(points, matrix, coefficients, criteria=_CRITERIA)
    return np.asarray(rays, np.float64)


def read_camera_info(info: Any, *, rectified: bool = False) -> CameraModel:
    """Read a sensor_msgs/CameraInfo.

    As in image_geometry, the calibration is for all pixels of the sensor; ``roi`` and ``binning``
    say which of them the image has.

    Args:
        info: the message.
        rectified: the images are without distortion already, so that the matrix P is theirs.

    Raises:
        CalibrationError: the camera is not calibrated, or its model is not known.
    """
    matrix, row = (info.p, 4) if rectified else (info.k, 3)
    numbers = [float(matrix[place]) for place in (0, row + 1, 2, row + 2)]
    if not np.isfinite(numbers).all() or min(numbers[:2]) <= 0:
        name = "P" if rectified else "K"
        raise CalibrationError(
            f"the CameraInfo has no focal length in {name}: calibrate the camera, or have its "
            "driver load the calibration"
        )
    across, down = max(1, info.binning_x), max(1, info.binning_y)
    roi = info.roi
    width, height = roi.width or info.width, roi.height or info.height
    lens, coefficients = ("", ()) if rectified else _lens(info.distortion_model, info.d)
    return CameraModel(
        size=(width // across, height // down),
        focal=(numbers[0] / across, numbers[1] / down),
        centre=(
            _binned(numbers[2] - roi.x_offset, across),
            _binned(numbers[3] - roi.y_offset, down),
        ),
        lens=lens,
        coefficients=coefficients,
    )


def _binned(place: float, by: int) -> float:
    """A place along a side where ``by`` pixels have become one; from the middle of the first."""
    return (place + PIXEL_CENTRE) / by - PIXEL_CENTRE


def _lens(name: str, coefficients: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """The distortion model and its coefficients; none if all of them are zero."""
    numbers = tuple(map(float, coefficients))
    if not any(numbers):
        return "", ()
    if len(numbers) not in LENSES.get(name, ()) or not np.isfinite(numbers).all():
        raise CalibrationError(
            f"the CameraInfo has distortion_model '{name[:40]}' with {len(numbers)} coefficients: "
            f"{', '.join(LENSES)} are known, or rectify the images"
        )
    return name, numbers
