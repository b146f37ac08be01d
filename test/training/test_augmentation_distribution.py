# SPDX-License-Identifier: Apache-2.0
"""How often and how much random views change: measured on many views of painted images."""

from __future__ import annotations

import colorsys
import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from compact_yolo_ros.pixels.letterbox import PADDING
from training.data.augmentation import Augmentation, augment, crop_boxes, random_view, warp
from training.data.sample import Sample

VIEWS = 400
QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
PLAIN = Augmentation(
    scale=(1, 1), aspect=0, flip=0, hue=0, saturation=0, value=0, mosaic_scale=(1, 1)
)
BOX = np.array([[10, 20, 30, 50]], np.float32)


def painted(height: int, width: int, colour: tuple[int, int, int] = (200, 80, 40)) -> Sample:
    image = np.empty((height, width, 3), np.uint8)
    image[:] = colour
    return Sample(image, BOX, np.array([0]), "painted")


def boxes(shape: tuple[int, int], reference: int, how: Augmentation) -> np.ndarray:
    """The one box (VIEWS, 4) of views of an image that is 60 high and 100 wide."""
    rng = np.random.default_rng(1)
    sample = painted(60, 100)
    views = [random_view(sample, shape, reference, how.scale, how, rng) for _ in range(VIEWS)]
    return np.concatenate([view.boxes for view in views])


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Five standard deviations of a quantile are allowed, and no value outside."""
    rounding = 1e-5 * max(abs(low), abs(high), high - low)
    assert low - rounding <= values.min() and values.max() <= high + rounding
    share = (np.quantile(values, QUANTILES) - low) / (high - low)
    limits = 5 * np.sqrt(QUANTILES * (1 - QUANTILES) / len(values))
    assert (np.abs(share - QUANTILES) < limits).all(), share


@pytest.mark.parametrize("probability", [0, 0.2, 0.5, 1])
def test_views_are_mirrored_as_often_as_asked(probability: float) -> None:
    x1, _, x2, _ = boxes((60, 100), 100, replace(PLAIN, flip=probability)).T
    mirrored = x1 > 50
    np.testing.assert_allclose(x1[mirrored], 100 - 30, atol=1e-4)
    np.testing.assert_allclose(x2[~mirrored], 30, atol=1e-4)
    spread = np.sqrt(probability * (1 - probability) / VIEWS)
    assert abs(mirrored.mean() - probability) <= 5 * spread


def test_the_pixels_are_mirrored_with_the_boxes() -> None:
    sample = painted(60, 100)
    sample.image[:, :50] = 0
    how = replace(PLAIN, flip=1)
    view = random_view(sample, (60, 100), 100, (1, 1), how, np.random.default_rng(0))
    np.testing.assert_array_equal(view.image, sample.image[:, ::-1])


def test_sizes_are_uniform_in_their_logarithm() -> None:
    how = replace(PLAIN, scale=(0.5, 2.0))
    x1, y1, x2, y2 = boxes((110, 110), 50, how).T
    assert_uniform(np.log2((x2 - x1) / (20 / 2)), -1, 1)
    np.testing.assert_allclose((y2 - y1) / (x2 - x1), 30 / 20, rtol=1e-4)


def test_shapes_are_uniform_in_their_logarithm_and_keep_the_area() -> None:
    how = replace(PLAIN, aspect=0.5)
    x1, y1, x2, y2 = boxes((110, 110), 50, how).T
    wider = (x2 - x1) / (y2 - y1) / (20 / 30)
    assert_uniform(np.log(wider), -np.log(1.5), np.log(1.5))
    np.testing.assert_allclose((x2 - x1) * (y2 - y1), 20 * 30 / 4, rtol=1e-4)


def of_darknet(rng: np.random.Generator, width: float, height: float) -> tuple[float, float]:
    """Size in a square of side 1 by the formulas of darknet's load_data_detection (2018)."""
    aspect = (width + rng.uniform(-0.3, 0.3) * width) / (height + rng.uniform(-0.3, 0.3) * height)
    scale = rng.uniform(0.25, 2)
    return (scale * aspect, scale) if aspect < 1 else (scale, scale / aspect)


def of_yolo_ret(rng: np.random.Generator, width: float, height: float) -> tuple[float, float]:
    """Size in a square of side 1 by the formulas of the authors' get_random_data."""
    aspect = rng.uniform(0.7, 1.3) / rng.uniform(0.7, 1.3)
    scale = rng.uniform(0.25, 2)
    ratio = max(scale * aspect if aspect < 1 else scale / aspect, 1)
    return (ratio, scale) if aspect < 1 else (scale, ratio)


# 5, 50 and 95 % of the area of an object, over that in the letterboxed image, as the formulas have
# them for images of these sizes
@pytest.mark.parametrize(
    "geometry, formula, size, areas",
    [
        ("darknet", of_darknet, (640, 480), (0.11, 1.20, 3.8)),
        ("yolo_ret", of_yolo_ret, (500, 375), (0.45, 1.51, 4.1)),
    ],
)
def test_sizes_are_drawn_as_published(monkeypatch, geometry, formula, size, areas) -> None:
    width, height = size
    sample, rng, zooms = painted(height, width), np.random.default_rng(0), []

    def note(sample: Sample, matrix: np.ndarray, *_: object) -> Sample:
        zooms.append((abs(matrix[0, 0]), abs(matrix[1, 1])))
        return sample

    monkeypatch.setattr("training.data.augmentation.warp", note)
    how = Augmentation(geometry=geometry, scale=(0.25, 2.0), jitter=0.3, flip=0.5)
    for _ in range(20_000):
        random_view(sample, (320, 320), 320, how.scale, how, rng)
    ours = np.array(zooms) * (width, height) / 320
    theirs = np.array([formula(rng, width, height) for _ in range(20_000)])
    letterboxed = height / width  # the area of the image in a square of side 1
    found = np.quantile(ours.prod(1) / letterboxed, [0.05, 0.5, 0.95])
    np.testing.assert_allclose(found, areas, rtol=0.05)
    at = np.linspace(0.02, 0.98, 25)
    for measure in (lambda s: s[:, 0], lambda s: s[:, 1], lambda s: s[:, 0] / s[:, 1]):
        found, expected = (np.quantile(measure(sizes), at) for sizes in (ours, theirs))
        np.testing.assert_allclose(found, expected, rtol=0.05)


def test_an_image_lies_anywhere_in_a_larger_view() -> None:
    """Along both axes, and independently of each other."""
    x1, y1, _, _ = boxes((90, 250), 100, PLAIN).T
    assert_uniform(x1 - 10, 0, 150)
    assert_uniform(y1 - 20, 0, 30)
    assert abs(np.corrcoef(x1, y1)[0, 1]) < 5 / np.sqrt(VIEWS)


def test_a_smaller_view_shows_any_part_of_an_image() -> None:
    how = replace(PLAIN, visible=0)
    rng = np.random.default_rng(2)
    sample = replace(painted(60, 100), boxes=np.array([[0, 0, 100, 60]], np.float32))
    # a pixel says where it is: its column plus twice its row
    place = np.arange(100) + 2 * np.arange(60)[:, None]
    sample.image[:] = place[..., None]
    found = []
    for _ in range(VIEWS):
        view = random_view(sample, (30, 40), 100, (1, 1), how, rng)
        assert view.boxes.tolist() == [[0, 0, 40, 30]]
        found.append(float(view.image[0, 0, 0]))
    # the first pixel has columns 0 to 60 and rows 0 to 30
    assert 0 <= min(found) < 15 and 105 < max(found) <= 121
    assert abs(np.mean(found) - 60) < 5 * np.sqrt((60**2 + 60**2) / 12 / VIEWS)


def test_pixels_lie_where_resizing_puts_them() -> None:
    """Their centres are half a pixel inside, along both axes."""
    sample = painted(20, 30)
    sample.image[:] = np.random.default_rng(0).integers(0, 256, (20, 30, 3))
    view = warp(sample, np.array([[2.0, 0, 0], [0, 3, 0]]), (60, 60), 0.3)
    expected = cv2.resize(sample.image, (60, 60), interpolation=cv2.INTER_LINEAR)
    # the edges are mixed with the padding
    inside = np.s_[3:-3, 2:-2]
    error = np.abs(view.image[inside].astype(int) - expected[inside])
    # warping rounds places to 1/32 of a pixel
    assert error.max() <= 255 / 32 + 4


def test_what_lies_outside_the_image_is_padding() -> None:
    how = replace(PLAIN, scale=(0.5, 0.5))
    view = random_view(painted(60, 100), (100, 100), 100, how.scale, how, np.random.default_rng(0))
    outside = (view.image == PADDING).all(2).sum()
    # the edges of the image are mixed with the padding
    assert abs(outside - (100 * 100 - 50 * 30)) < 2 * (50 + 30)


def colours(how: Augmentation, colour: tuple[int, int, int]) -> np.ndarray:
    """Hue in degrees, saturation and value in 0..1 (VIEWS, 3) of views of one colour."""
    rng = np.random.default_rng(3)
    sample = painted(8, 8, colour)
    views = [augment([sample], 0, 8, how, 0.0, rng).image[4, 4] / 255 for _ in range(VIEWS)]
    return np.array([colorsys.rgb_to_hsv(*view) for view in views]) * (360, 1, 1)


# hue 144 degrees, saturation 0.5, value 0.5: no limit is reached, and no channel is like another
COLOUR = (64, 128, 90)
HUE, SATURATION, VALUE = np.array(colorsys.rgb_to_hsv(*(c / 255 for c in COLOUR))) * (360, 1, 1)
# OpenCV's table has 2 degrees a step, and the image 1/255
STEP = 2.5 / 255


@pytest.mark.parametrize("colour", [COLOUR, (128, 90, 64), (64, 90, 128)])
def test_hues_change_by_up_to_the_given_share_of_a_half_turn(colour: tuple) -> None:
    """0.25 of 180 degrees to either side; the rest of the colour stays."""
    hue, saturation, value = colours(replace(PLAIN, hue=0.25), colour).T
    own = 360 * colorsys.rgb_to_hsv(*(c / 255 for c in colour))[0]
    change = (hue - own + 180) % 360 - 180
    assert -45 - 4 < change.min() < -40 and 40 < change.max() < 45 + 4
    assert_uniform(change.clip(-45, 45), -45, 45)
    np.testing.assert_allclose(saturation, 0.5, atol=2 * STEP)
    np.testing.assert_allclose(value, 128 / 255, atol=STEP)


def test_a_positive_change_turns_red_to_yellow() -> None:
    """Channels are red, green, blue: a mix-up would turn red to magenta."""
    sample = painted(8, 8, (200, 0, 0))
    seen = set()
    for seed in range(40):
        pixel = augment(
            [sample], 0, 8, replace(PLAIN, hue=0.3), 0.0, np.random.default_rng(seed)
        ).image[4, 4]
        # the first draw decides whether there is a mosaic; the places and mirroring are next
        draws = np.random.default_rng(seed)
        draws.random(), draws.uniform(), draws.uniform(), draws.uniform(0, 1, 2), draws.random()
        change = draws.uniform(-1, 1)
        if abs(change) > 0.1:
            seen.add((change > 0, pixel[1] > pixel[2]))
    assert seen == {(True, True), (False, False)}


def test_saturations_change_by_up_to_the_given_share() -> None:
    hue, saturation, value = colours(replace(PLAIN, saturation=0.4), COLOUR).T
    assert_uniform((saturation / SATURATION).clip(0.6, 1.4), 0.6, 1.4)
    assert np.abs(saturation / SATURATION - 1).max() < 0.4 + 2 * STEP / SATURATION
    np.testing.assert_allclose(hue, HUE, atol=8)
    np.testing.assert_allclose(value, VALUE, atol=STEP)


def test_values_change_by_up_to_the_given_share() -> None:
    hue, saturation, value = colours(replace(PLAIN, value=0.8), COLOUR).T
    assert_uniform((value / VALUE).clip(0.2, 1.8), 0.2, 1.8)
    assert np.abs(value / VALUE - 1).max() < 0.8 + STEP / VALUE
    bright = value > 0.3
    np.testing.assert_allclose(saturation[bright], SATURATION, atol=4 * STEP)
    np.testing.assert_allclose(hue[bright], HUE, atol=8)


def test_the_changes_of_colour_are_independent() -> None:
    found = colours(replace(PLAIN, hue=0.1, saturation=0.5, value=0.5), COLOUR)
    apart = np.corrcoef(found.T) - np.eye(3)
    assert np.abs(apart).max() < 5 / np.sqrt(VIEWS)


def test_exponents_are_uniform_in_their_range() -> None:
    value = colours(replace(PLAIN, gamma=(0.5, 2.0)), COLOUR)[:, 2]
    exponents = np.log(value) / np.log(VALUE)
    assert_uniform(exponents.clip(0.5, 2.0), 0.5, 2.0)
    assert exponents.min() > 0.48 and exponents.max() < 2.02


def test_contrast_changes_by_up_to_the_given_share_about_the_mean_of_each_channel() -> None:
    sample = painted(8, 8)
    dark, bright = np.array([40, 100, 220]), np.array([160, 140, 140])
    sample.image[:4], sample.image[4:] = dark, bright
    rng, factors = np.random.default_rng(4), []
    for _ in range(VIEWS):
        view = augment([sample], 0, 8, replace(PLAIN, contrast=0.5), 0.0, rng).image.astype(int)
        np.testing.assert_allclose(view.mean((0, 1)), (dark + bright) / 2, atol=1)
        factors.append((view[6, 0] - view[1, 0]) / (bright - dark))
    factors = np.array(factors)
    np.testing.assert_allclose(factors[:, 0], factors[:, 2], atol=0.03)
    assert_uniform(factors[:, 0].clip(0.5, 1.5), 0.5, 1.5)
    assert np.abs(factors[:, 0] - 1).max() < 0.51


def test_compression_is_that_of_the_image_in_red_green_blue() -> None:
    """As another JPEG library has it; with red and blue exchanged, other details are lost."""
    rng = np.random.default_rng(5)
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = rng.integers(0, 2, (64, 64)) * 255
    sample = Sample(image, BOX, np.array([0]), "red noise")
    found = augment([sample], 0, 64, replace(PLAIN, jpeg=(60, 60)), 0.0, rng).image
    content = io.BytesIO()
    Image.fromarray(image).save(content, "jpeg", quality=60)
    expected = np.asarray(Image.open(content)).astype(int)
    assert np.abs(found - expected).mean() < 2


# --- mosaics ---


def mosaic_of(colours: list[tuple[int, int, int]], rng: np.random.Generator) -> Sample:
    how = replace(PLAIN, mosaic_scale=(3, 3), visible=0)
    return augment([painted(100, 100, c) for c in colours], 0, 100, how, 1.0, rng)


@pytest.mark.parametrize("probability", [0, 0.3, 1])
def test_mosaics_are_as_frequent_as_asked(probability: float) -> None:
    rng = np.random.default_rng(6)
    how = replace(PLAIN, mosaic_scale=(3, 3))
    samples = [painted(20, 20, (255, 0, 0))] + [painted(20, 20, (0, 0, 255))] * 29
    views = [augment(samples, 0, 16, how, probability, rng).image for _ in range(VIEWS)]
    share = np.mean([(view[..., 2] > 128).any() for view in views])
    assert abs(share - probability) <= 5 * np.sqrt(probability * (1 - probability) / VIEWS)


def test_the_corner_of_a_mosaic_is_uniform_in_its_middle() -> None:
    rng = np.random.default_rng(7)
    corners = []
    for _ in range(VIEWS):
        own = mosaic_of([(255, 0, 0), (0, 0, 255)], rng).image[..., 0] > 128
        # the image itself is above on the left; others can be the same one
        if own[0, -1] or own[-1, 0] or own[-1, -1]:
            continue
        corners.append((own[0].sum(), own[:, 0].sum()))
        assert own.sum() == np.prod(corners[-1])
    assert len(corners) > VIEWS / 16
    for place in np.array(corners).T:
        assert_uniform(place.clip(30, 70), 30, 70)


def test_the_other_images_of_a_mosaic_are_any() -> None:
    rng = np.random.default_rng(8)
    palette = [(50 * number, 0, 255) for number in range(5)]
    seen = np.zeros(5)
    for _ in range(200):
        image = mosaic_of(palette, rng).image
        assert image[0, 0, 0] == 0, "its own image is the first"
        for place in ((0, -1), (-1, 0), (-1, -1)):
            seen[image[place][0] // 50] += 1
    share = seen / seen.sum()
    assert (np.abs(share - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 600)).all()


def test_images_of_a_mosaic_have_a_scale_of_their_own() -> None:
    rng = np.random.default_rng(9)
    how = replace(PLAIN, scale=(1, 1), mosaic_scale=(0.25, 0.5), visible=1)
    samples = [painted(100, 100) for _ in range(3)]
    widths = []
    for _ in range(VIEWS // 4):
        view = augment(samples, 0, 200, how, 1.0, rng)
        widths += ((view.boxes[:, 2] - view.boxes[:, 0]) / 20 / 2).tolist()
    # the larger ones are cut off more often, so that their boxes are missing
    assert 0.25 - 1e-4 <= min(widths) < 0.27 and 0.48 < max(widths) <= 0.5 + 1e-4


# --- cropping ---


def test_a_box_is_kept_from_the_given_share_and_from_two_pixels() -> None:
    inside = np.array(
        [
            [-7, 0, 3, 10],  # 0.3 of it
            [-7.1, 0, 2.9, 10],  # less
            [5, 5, 7, 9],  # 2 x 4 pixels
            [5, 5, 6.9, 9],  # less
            [5, 5, 9, 7],
            [5, 5, 9, 6.9],
            [18, -2, 26, 8],  # clipped at two sides: 2 x 8 of 8 x 10 pixels
        ]
    )
    kept, mask = crop_boxes(inside, (20, 20), visible=0.3)
    assert mask.tolist() == [True, False, True, False, True, False, False]
    assert kept[0].tolist() == [0, 0, 3, 10]
    kept, mask = crop_boxes(inside[-1:], (20, 20), visible=0.2)
    assert kept.tolist() == [[18, 0, 20, 8]]


def test_height_and_width_of_the_view_are_not_mixed_up() -> None:
    wide = np.array([[25.0, 3, 35, 9], [3, 25, 9, 35]])
    kept, mask = crop_boxes(wide, (12, 40), visible=0.5)
    assert mask.tolist() == [True, False]
    view = random_view(painted(60, 100), (30, 80), 50, (1, 1), PLAIN, np.random.default_rng(0))
    assert view.image.shape == (30, 80, 3)
