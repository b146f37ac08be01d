# SPDX-License-Identifier: Apache-2.0
"""Positions from depth and from heights, against scenes whose truth is exact."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from compact_yolo_ros.detection.camera_model import (
    CalibrationError,
    CameraModel,
    read_camera_info,
)
from compact_yolo_ros.detection.position import bearings, heights_of, positions

WIDTH, HEIGHT = 640, 480
K = np.array([[525.0, 0, 319.5], [0, 520.0, 239.5], [0, 0, 1]])
CAMERA = CameraModel((WIDTH, HEIGHT), (525.0, 520.0), (319.5, 239.5))
LENSES = {
    "plumb_bob": (-0.28, 0.09, 0.0006, -0.0004, -0.013),
    "rational_polynomial": (0.32, -0.4, 0.0005, -0.0007, 0.21, 0.68, -0.45, 0.14),
    "equidistant": (-0.03, 0.008, -0.006, 0.001),
}


def information(**changes: Any) -> SimpleNamespace:
    """A CameraInfo."""
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    fields: dict[str, Any] = {
        "width": WIDTH,
        "height": HEIGHT,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": K.ravel(),
        "p": np.hstack([K, np.zeros((3, 1))]).ravel(),
        "binning_x": 0,
        "binning_y": 0,
        "roi": roi,
    }
    return SimpleNamespace(**{**fields, **changes})


def box_of(centre: Any, width: float, height: float) -> np.ndarray:
    """The box of an upright rectangle that faces the camera, as a pinhole sees it."""
    x, y, z = centre
    left, right = 525 * (x - width / 2) / z + 320, 525 * (x + width / 2) / z + 320
    top, bottom = 520 * (y - height / 2) / z + 240, 520 * (y + height / 2) / z + 240
    return np.array([left, top, right, bottom], np.float32)


def pixels_of(box: np.ndarray) -> tuple[slice, slice]:
    x1, y1, x2, y2 = np.round(box).astype(int)
    return slice(max(y1, 0), y2), slice(max(x1, 0), x2)


def wall(z: float = 12.0) -> np.ndarray:
    """Depths of a wall that runs away to the right, from z to half as far again."""
    row = np.linspace(z, 1.5 * z, WIDTH, dtype=np.float32)
    return np.repeat(row[None], HEIGHT, 0)


def as_millimetres(depth: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(depth), depth * 1000, 0).round().astype(np.uint16)


@pytest.mark.parametrize("z", [1.0, 2.5, 5.0, 10.0])
@pytest.mark.parametrize("stored", [np.float32, as_millimetres])
def test_an_object_before_background_with_holes_and_clutter(z, stored) -> None:
    """Half of its box is wall, a third are holes, a pole stands before it, the sensor is noisy."""
    random = np.random.default_rng(round(10 * z))
    truth, size = np.array([0.1 * z, -0.05 * z, z]), (0.18 * z, 0.3 * z)
    box = box_of(truth, *size)
    rows, columns = pixels_of(box)
    depth = wall()
    part = depth[rows, columns]
    part[:] = np.where(random.random(part.shape) < 0.5, z, part)
    part[:, part.shape[1] // 2 : part.shape[1] // 2 + part.shape[1] // 12] = 0.6 * z
    part *= 1 + 0.004 * random.standard_normal(part.shape).astype(np.float32)
    part[random.random(part.shape) < 0.33] = np.nan
    found = positions(box[None], CAMERA, stored(depth))
    assert found.places.tolist() == [0]
    assert np.linalg.norm(found.points[0] - truth) < 0.01 * np.linalg.norm(truth)
    np.testing.assert_allclose(found.sizes[0, :2], size, rtol=0.01)
    assert found.sizes[0, 2] < 0.05 * z


@pytest.mark.parametrize("behind", [0.3, 0.5, 2.0])
def test_a_wall_close_behind_is_not_taken_for_the_object(behind) -> None:
    box = box_of((0, 0, 3), 0.5, 1.7)
    depth = np.full((HEIGHT, WIDTH), 3.0 + behind, np.float32)
    rows, columns = pixels_of(box)
    depth[rows, columns][:, ::3] = 3.0
    assert positions(box[None], CAMERA, depth).points[0, 2] == pytest.approx(3.0)


def test_the_leg_of_a_table_before_a_chair_is_not_taken_for_it() -> None:
    box = box_of((0, 0, 3), 0.5, 0.9)
    depth = np.full((HEIGHT, WIDTH), 3.0, np.float32)
    rows, columns = pixels_of(box)
    inner = (columns.stop - columns.start) // 2
    depth[rows, columns][:, inner // 2 : inner // 2 + round(0.27 * inner)] = 2.0
    assert positions(box[None], CAMERA, depth).points[0, 2] == pytest.approx(3.0)


def test_a_sphere_is_as_far_as_what_is_seen_of_it() -> None:
    radius, centre = 0.1, np.array([0.4, 0.3, 2.0])
    rays = np.dstack(
        [
            *np.meshgrid((np.arange(WIDTH) - 319.5) / 525, (np.arange(HEIGHT) - 239.5) / 520),
            np.ones((HEIGHT, WIDTH)),
        ]
    )
    square, along = (rays**2).sum(2), rays @ centre
    inside = along**2 - square * (centre @ centre - radius**2)
    with np.errstate(invalid="ignore"):
        z = (along - np.sqrt(inside)) / square
    depth = np.where(inside > 0, z, 6.0).astype(np.float32)
    seen = np.argwhere(inside > 0)
    (y1, x1), (y2, x2) = seen.min(0), seen.max(0) + 1
    found = positions(np.array([[x1, y1, x2, y2]], np.float32), CAMERA, depth)
    nearest = centre * (1 - radius / np.linalg.norm(centre))
    assert np.linalg.norm(found.points[0] - nearest) < 0.01 * np.linalg.norm(nearest)
    np.testing.assert_allclose(found.sizes[0, :2], 2 * radius, rtol=0.06)
    assert 0 < found.sizes[0, 2] < radius


def test_what_has_no_depth_is_left_out_and_the_order_stays() -> None:
    depth = np.full((HEIGHT, WIDTH), 4.0, np.float32)
    depth[:, 300:] = np.nan
    boxes = np.array(
        [[400, 100, 450, 200], [100, 100, 101, 101], [0, 0, 299, 480], [639.6, 479.5, 640, 480]],
        np.float32,
    )
    assert positions(boxes, CAMERA, depth).places.tolist() == [1, 2]
    nothing = positions(np.empty((0, 4), np.float32), CAMERA, depth)
    assert len(nothing) == 0 and nothing.points.shape == (0, 3)
    height = np.array([1.8, np.nan, np.nan, np.nan])
    found = positions(boxes, CAMERA, depth, height)
    assert found.places.tolist() == [0, 1, 2]
    assert found.points[0, 2] == pytest.approx(1.8 * 520 / 100)
    assert found.covariances[0, 2, 2] > found.covariances[1, 2, 2]


def test_the_covariance_is_that_of_repeated_measurements() -> None:
    random = np.random.default_rng(3)
    box, noise = box_of((1.0, 0.5, 4), 0.6, 1.2), 0.15
    shift = 0.6 * 525 / 4 / 20, 1.2 * 520 / 4 / 20
    points = []
    for _ in range(2000):
        x, y = shift * random.standard_normal(2)
        z = 4 + noise * random.standard_normal()
        u, v = (box[:2] + box[2:]) / 2 + (x, y)
        points.append(((u - 320) / 525 * z, (v - 240) / 520 * z, z))
    depth = 4 + noise * random.standard_normal((HEIGHT, WIDTH)).astype(np.float32)
    # A layer as deep as the noise, so that all of it is seen.
    found = positions(box[None], CAMERA, depth.clip(3.87, 4.13))
    spread = found.covariances[0]
    assert np.linalg.eigvalsh(spread).min() > 0
    np.testing.assert_allclose(
        spread / spread[2, 2], np.cov(np.transpose(points)) / noise**2, atol=0.2
    )


@pytest.mark.parametrize("name", LENSES)
def test_a_lens_does_not_move_objects(name) -> None:
    camera = read_camera_info(information(distortion_model=name, d=LENSES[name]))
    truth = np.array([[0.9, -0.5, 2.0], [-1.5, 0.8, 4.0], [0.0, 0.0, 5.0]])
    half = 0.15
    boxes = []
    for point in truth:
        sides = point + np.array([[-half, 0, 0], [half, 0, 0], [0, -half, 0], [0, half, 0]])
        project = cv2.fisheye.projectPoints if name == "equidistant" else cv2.projectPoints
        seen, _ = project(sides[:, None], np.zeros(3), np.zeros(3), K, np.array(LENSES[name]))
        (left, right, top, bottom) = seen.reshape(4, 2) + 0.5
        boxes.append([left[0], top[1], right[0], bottom[1]])
    box_array = np.array(boxes, np.float32)
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    for box, (_, _, z) in zip(box_array, truth, strict=True):
        depth[pixels_of(box)] = z
    found = positions(box_array, camera, depth)
    error = np.linalg.norm(found.points - truth, axis=1)
    assert (error < 0.01 * np.linalg.norm(truth, axis=1)).all()
    np.testing.assert_allclose(found.sizes[:, :2], 2 * half, rtol=0.02)
    pinhole = positions(box_array, CAMERA, depth)
    assert np.linalg.norm(pinhole.points - truth, axis=1).max() > 0.02


def test_rays_are_those_that_the_lens_was_projected_with() -> None:
    random = np.random.default_rng(0)
    rays = random.uniform(-0.55, 0.55, (50, 2))
    points = np.column_stack([rays, np.ones(50)])[:, None]
    for name, coefficients in LENSES.items():
        camera = read_camera_info(information(distortion_model=name, d=coefficients))
        project = cv2.fisheye.projectPoints if name == "equidistant" else cv2.projectPoints
        seen, _ = project(points, np.zeros(3), np.zeros(3), K, np.array(coefficients))
        np.testing.assert_allclose(camera.rays(seen.reshape(-1, 2) + 0.5), rays, atol=1e-5)
    beyond = read_camera_info(information(distortion_model="equidistant", d=LENSES["equidistant"]))
    assert np.isnan(beyond.rays(np.array([[1e5, 240.0]]))).all()


def shown_at(angle: float, name: str, coefficients: tuple[float, ...]) -> float:
    """How far from the middle a lens shows a ray at an angle, by OpenCV's formulas."""
    if name == "equidistant":
        powers = angle ** np.array([2, 4, 6, 8])
        return float(angle * (1 + powers @ coefficients))
    return float(np.tan(angle) * (1 + coefficients[0] * np.tan(angle) ** 2))


@pytest.mark.parametrize(
    ("name", "coefficients", "widest"),
    [
        # of a RealSense T265, whose image is a circle in 848 x 800 pixels
        ("equidistant", (-0.007, 0.043, -0.041, 0.007), 1.5),
        # of a web camera, calibrated without k2: no ray gets beyond an x of 0.609
        ("plumb_bob", (-0.4, 0.0, 0.0, 0.0), 0.7),
    ],
)
def test_where_no_ray_gets_to_there_is_none(
    name: str, coefficients: tuple[float, ...], widest: float
) -> None:
    camera = CameraModel((848, 800), (285.0, 285.0), (423.5, 399.5), name, coefficients)
    angles = np.linspace(0, widest, 200)
    reached = np.array([shown_at(angle, name, coefficients) for angle in angles])
    assert (np.diff(reached) > 0).all()
    directions = np.array([[1, 0], [-1, 0], [0.6, 0.8], [0.6, -0.8]])
    for direction in directions:
        points = (424, 400) + 285 * reached[:, None] * direction
        rays = camera.rays(points)
        seen = np.isfinite(rays).all(1)
        assert seen[angles < 0.9 * widest].all()
        truth = np.tan(angles)[:, None] * direction
        np.testing.assert_allclose(rays[seen], truth[seen], rtol=0.03, atol=1e-6)
        beyond = np.linspace(1.05 * max(reached[-1], 0.609), 3, 300)
        assert np.isnan(camera.rays((424, 400) + 285 * beyond[:, None] * direction)).all()


def test_a_fisheye_with_the_opencv_of_ubuntu_22_04(monkeypatch: pytest.MonkeyPatch) -> None:
    """That one, 4.5.4, takes no criteria."""
    undistort = cv2.fisheye.undistortPoints

    def of_4_5_4(points: Any, matrix: Any, coefficients: Any) -> Any:
        return undistort(points, matrix, coefficients)

    monkeypatch.setattr(cv2.fisheye, "undistortPoints", of_4_5_4)
    test_a_lens_does_not_move_objects("equidistant")


def test_directions_and_ranges_from_heights() -> None:
    boxes = np.stack([box_of((1, 0.2, 6), 0.5, 1.7), box_of((-2, 0, 8), 1.8, 1.5)])
    labels = np.array([0, 3], np.int32)
    found = bearings(boxes, CAMERA, heights_of(labels, {0: 1.7}))
    np.testing.assert_allclose(found.points, [[1, 0.2, 6], [-0.25, 0, 1]], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.sizes, [[0.5, 1.7, 0], [0, 0, 0]], rtol=1e-4)
    known, unknown = found.covariances[:, 2, 2] ** 0.5
    assert 0.5 < known < 1 and unknown == 1000
    ray = np.array([-0.25, 0, 1])
    np.testing.assert_allclose(found.covariances[1] @ ray, 1e6 * (ray @ ray) * ray, rtol=1e-2)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_range_from_the_height_holds_for_cameras_mounted_in_any_way(rotation) -> None:
    """Boxes are in the image as it comes: a person lies along x where that is turned by 90."""
    truth, heights = np.array([0.3, -0.2, 4.0]), np.array([1.7])
    width, height = (0.6, 1.7) if rotation % 180 == 0 else (1.7, 0.6)
    boxes = box_of(truth, width, height)[None]
    without_depth = np.zeros((HEIGHT, WIDTH), np.float32)
    for found in (
        bearings(boxes, CAMERA, heights, rotation),
        positions(boxes, CAMERA, without_depth, heights, rotation),
    ):
        np.testing.assert_allclose(found.points[0], truth, rtol=1e-4)
        np.testing.assert_allclose(found.sizes[0], [width, height, 0], rtol=1e-4)
        covariance = found.covariances[0]
        assert covariance[2, 2] ** 0.5 == pytest.approx(4 * np.hypot(0.1, 0.05), rel=1e-4)
        along_ray = covariance[2, 2] * (truth[:2] / 4) ** 2
        sides = (covariance.diagonal()[:2] - along_ray) ** 0.5
        np.testing.assert_allclose(sides, [width / 20, height / 20], rtol=1e-3)


def test_a_part_of_the_sensor_and_binning_keep_the_rays() -> None:
    whole = read_camera_info(information())
    roi = SimpleNamespace(x_offset=100, y_offset=60, width=320, height=240)
    part = read_camera_info(information(roi=roi, binning_x=2, binning_y=2))
    assert part.size == (160, 120)
    points = np.array([[0.0, 0.0], [160, 120], [33, 44]])
    np.testing.assert_allclose(part.rays(points), whole.rays(2 * points + (100, 60)))


def test_rectified_images_have_the_matrix_p() -> None:
    p = np.array([400.0, 0, 300, 0, 0, 410, 200, 0, 0, 0, 1, 0])
    info = information(d=LENSES["plumb_bob"], p=p)
    assert read_camera_info(info, rectified=True) == CameraModel(
        (WIDTH, HEIGHT), (400.0, 410.0), (300.0, 200.0)
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": np.zeros(9)}, "no focal length in K"),
        ({"k": np.full(9, np.nan)}, "no focal length in K"),
        ({"distortion_model": "scaramuzza", "d": [1.0]}, "'scaramuzza' with 1 coefficients"),
        ({"d": [0.1] * 7}, "'plumb_bob' with 7 coefficients"),
        ({"d": [np.nan] * 5}, "plumb_bob"),
    ],
)
def test_a_calibration_that_says_nothing_is_refused(changes, words) -> None:
    with pytest.raises(CalibrationError, match=words):
        read_camera_info(information(**changes))
    assert read_camera_info(information(distortion_model="", d=[])) == CAMERA
