# SPDX-License-Identifier: Apache-2.0
"""The Kalman filter that follows boxes, all of them at once.

The state is that of SORT (Bewley et al., "Simple online and realtime tracking", ICIP 2016): a box
and its velocity, which is constant but for noise. As in BoT-SORT (Aharon et al., arXiv 2206.14651,
section 3.1) the box is centre, width and height, and each noise is a share of the width or height.
No coordinate depends on another, so a track has four filters of two numbers instead of one of
eight, and no matrix is inverted.

The noise is given for images at ``NOMINAL_RATE``, as the papers have it. Here time is in seconds,
and noise grows with it (Bar-Shalom et al., "Estimation with applications to tracking and
navigation", section 6.2, continuous white noise): to predict over a gap once, or in steps, is the
same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOMINAL_RATE = 30.0
"""Images a second at which the noise is that of the papers."""
POSITION_NOISE = 1 / 20
"""Standard deviation of a measured side, and of its change from image to image, as share of the
box."""
VELOCITY_NOISE = 1 / 160
"""That of the velocity's change from image to image, in boxes an image."""
SMALLEST = 1.0
"""Pixels of a side, below which the noise does not get smaller."""

Floats = NDArray[np.float64]

_POSITION_RATE = NOMINAL_RATE * POSITION_NOISE**2  # variance a second, of a box of one pixel
_VELOCITY_RATE = NOMINAL_RATE**3 * VELOCITY_NOISE**2
_FIRST_POSITION = (2 * POSITION_NOISE) ** 2
_FIRST_VELOCITY = (10 * VELOCITY_NOISE * NOMINAL_RATE) ** 2


class BoxMotion:
    """Estimates of n boxes.

    Attributes:
        state: (n, 4) centre x, centre y, width, height in pixels.
        velocity: (n, 4) the same a second.
        variance: (3, n, 4) of the state, of both together, of the velocity.
    """

    def __init__(self) -> None:
        """Start without boxes."""
        self.state: Floats = np.empty((0, 4))
        self.velocity: Floats = np.empty((0, 4))
        self.variance: Floats = np.empty((3, 0, 4))

    def boxes(self) -> Floats:
        """The estimates (n, 4) as x1 y1 x2 y2."""
        half = np.maximum(self.state[:, 2:], SMALLEST) / 2
        centre = self.state[:, :2]
        return np.concatenate([centre - half, centre + half], 1)

    def predict(self, seconds: float, lost: NDArray[np.bool_]) -> None:
        """Let time pass; boxes that are ``lost`` (n,) keep their size."""
        self.velocity[lost, 2:] = 0.0
        self.state += seconds * self.velocity
        scale = _squared_size(self.state)
        of_state, joint, of_velocity = self.variance
        noise = _VELOCITY_RATE * scale
        of_state += seconds * (2 * joint + seconds * of_velocity + _POSITION_RATE * scale)
        of_state += seconds**3 / 3 * noise
        joint += seconds * of_velocity + seconds**2 / 2 * noise
        of_velocity += seconds * noise

    def correct(self, rows: NDArray[np.intp], boxes: Floats) -> None:
        """Take measured boxes (k, 4) into account, each of the box in one of ``rows`` (k,)."""
        state = self.state[rows]
        of_state, joint, of_velocity = self.variance[:, rows]
        total = of_state + POSITION_NOISE**2 * _squared_size(state)
        surprise = _measured(boxes) - state
        self.state[rows] = state + of_state / total * surprise
        self.velocity[rows] += joint / total * surprise
        self.variance[2, rows] = of_velocity - joint**2 / total
        self.variance[:2, rows] *= 1 - of_state / total

    def add(self, boxes: Floats) -> None:
        """Begin to follow boxes (k, 4), which get the last rows."""
        state = _measured(boxes)
        scale = _squared_size(state)
        variance = np.stack([_FIRST_POSITION * scale, 0 * scale, _FIRST_VELOCITY * scale])
        self.state = np.concatenate([self.state, state])
        self.velocity = np.concatenate([self.velocity, np.zeros_like(state)])
        self.variance = np.concatenate([self.variance, variance], 1)

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Forget all other boxes; ``kept`` is (n,)."""
        self.state, self.velocity = self.state[kept], self.velocity[kept]
        self.variance = self.variance[:, kept]


def _measured(boxes: Floats) -> Floats:
    """Centre and size of boxes."""
    size = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] + size / 2, size], 1)


def _squared_size(state: Floats) -> Floats:
    """(n, 4) what the variances are a share of: x and width go with the width, the rest with the
    height.
    """
    size = np.maximum(state[:, 2:], SMALLEST) ** 2
    return np.concatenate([size, size], 1)
