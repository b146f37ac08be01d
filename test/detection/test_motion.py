# SPDX-License-Identifier: Apache-2.0
"""The filter of boxes against the textbook's, with whole matrices, and against what is true."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compact_yolo_ros.detection.tracking.motion import BoxMotion

RATE = 30.0


def squared(share: float, state: np.ndarray) -> np.ndarray:
    return (share * state[[2, 3, 2, 3]]) ** 2


@dataclass
class MatrixFilter:
    """Kalman's equations for one box, x = [cx cy w h and their velocities], F, Q, H and R whole."""

    x: np.ndarray
    p: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        position = squared(2 / 20, self.x)
        velocity = squared(10 / 160, self.x) * RATE**2
        self.p = np.diag(np.concatenate([position, velocity]))

    def predict(self, seconds: float) -> None:
        f = np.eye(8)
        f[:4, 4:] = seconds * np.eye(4)
        self.x = f @ self.x
        walk = np.diag(squared(1 / 20, self.x)) * RATE * seconds
        push = np.diag(squared(1 / 160, self.x)) * RATE**3
        q = np.block(
            [
                [walk + push * seconds**3 / 3, push * seconds**2 / 2],
                [push * seconds**2 / 2, push * seconds],
            ]
        )
        self.p = f @ self.p @ f.T + q

    def correct(self, z: np.ndarray) -> None:
        h = np.eye(4, 8)
        r = np.diag(squared(1 / 20, self.x))
        gain = self.p @ h.T @ np.linalg.inv(h @ self.p @ h.T + r)
        self.x = self.x + gain @ (z - h @ self.x)
        self.p = (np.eye(8) - gain @ h) @ self.p


def corners(centred: np.ndarray) -> np.ndarray:
    return np.concatenate([centred[:2] - centred[2:] / 2, centred[:2] + centred[2:] / 2])


times = st.lists(st.floats(0, 0.2), min_size=1, max_size=6)


@settings(max_examples=40)
@given(times, st.integers(0, 2**32 - 1))
def test_equals_kalmans_equations(steps, seed) -> None:
    random = np.random.default_rng(seed)
    first = random.uniform([0, 0, 80, 80], [600, 400, 200, 200], (3, 4))
    ours = BoxMotion()
    ours.add(np.stack(list(map(corners, first))))
    theirs = [MatrixFilter(np.concatenate([box, np.zeros(4)])) for box in first]
    for seconds in steps:
        ours.predict(seconds, np.zeros(3, bool))
        for one in theirs:
            one.predict(seconds)
        rows = np.flatnonzero(random.random(3) < 0.7)
        seen = first[rows] + random.normal(0, 3, (len(rows), 4))
        ours.correct(rows, np.stack(list(map(corners, seen))) if len(rows) else np.empty((0, 4)))
        for row, box in zip(rows, seen, strict=True):
            theirs[row].correct(box)
    for row, one in enumerate(theirs):
        np.testing.assert_allclose(ours.state[row], one.x[:4], rtol=1e-9)
        np.testing.assert_allclose(ours.velocity[row], one.x[4:], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(ours.variance[0, row], np.diag(one.p)[:4], rtol=1e-7)
        np.testing.assert_allclose(ours.variance[1, row], np.diag(one.p, 4), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(ours.variance[2, row], np.diag(one.p)[4:], rtol=1e-7)


@given(st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_gap_is_predicted_as_its_parts_are(one, other) -> None:
    """Of a lost box, whose size stays: dropped images make no difference."""
    at_once, in_parts = BoxMotion(), BoxMotion()
    lost = np.ones(1, bool)
    for motion in (at_once, in_parts):
        motion.add(np.array([[10.0, 20.0, 50.0, 90.0]]))
        motion.predict(1 / 30, ~lost)
        motion.correct(np.array([0]), np.array([[15.0, 20.0, 55.0, 92.0]]))
    at_once.predict(one + other, lost)
    in_parts.predict(one, lost)
    in_parts.predict(other, lost)
    np.testing.assert_allclose(at_once.state, in_parts.state)
    np.testing.assert_allclose(at_once.variance, in_parts.variance, rtol=1e-9)


@pytest.mark.parametrize("rate", [5, 30, 60])
def test_velocity_and_box_are_found_at_any_rate(rate) -> None:
    box, pixels_a_second = np.array([100.0, 100.0, 160.0, 220.0]), 90.0
    motion = BoxMotion()
    motion.add(box[None])
    for number in range(1, 3 * rate):
        motion.predict(1 / rate, np.zeros(1, bool))
        moved = box + pixels_a_second * number / rate * np.array([1, 0, 1, 0])
        motion.correct(np.array([0]), moved[None])
    assert motion.velocity[0, 0] == pytest.approx(pixels_a_second, rel=0.03)
    assert motion.velocity[0, 1:] == pytest.approx([0, 0, 0], abs=1e-9)
    np.testing.assert_allclose(motion.boxes()[0], moved, atol=1.0)


def test_the_estimate_is_steadier_than_what_is_measured() -> None:
    random = np.random.default_rng(0)
    box, noise = np.array([100.0, 100.0, 160.0, 220.0]), 3.0
    motion, errors = BoxMotion(), []
    motion.add(box[None])
    for _ in range(200):
        motion.predict(1 / 30, np.zeros(1, bool))
        motion.correct(np.array([0]), (box + random.normal(0, noise, 4))[None])
        errors.append(motion.boxes()[0] - box)
    assert np.std(errors[50:]) < 0.9 * noise
