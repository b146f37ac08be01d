# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compact_yolo_ros.model.sizes import Size
from training.data.augmentation import Augmentation, augment, crop_boxes, random_view, warp
from training.data.sample import Sample

PLAIN = Augmentation(
    scale=(1, 1), aspect=0, flip=0, hue=0, saturation=0, value=0, mosaic_scale=(1, 1)
)


def test_a_view_without_augmentation_is_the_letterboxed_image():
    image = np.random.default_rng(0).integers(0, 255, (40, 80, 3), np.uint8)
    sample = Sample(image, np.array([[10, 10, 30, 20]], np.float32), np.array([1]), "a")
    room = np.random.default_rng(1)
    view = random_view(sample, (160, 160), 160, (1, 1), PLAIN, room)
    top = view.boxes[0, 1] - 20
    np.testing.assert_allclose(view.boxes, [[20, 20 + top, 60, 40 + top]], atol=1e-4)
    assert 0 <= top <= 80


def test_scale_1_letterboxes_into_a_rectangle_and_mosaics_fill_it(shapes):
    tall = Sample(
        np.zeros((80, 40, 3), np.uint8), np.array([[0, 0, 40, 80]], np.float32), np.array([1]), "a"
    )
    how = Size(320, 160)
    view = random_view(tall, how.shape, how, (1, 1), PLAIN, np.random.default_rng(0))
    np.testing.assert_allclose(view.boxes[0, [1, 3]], [0, 160], atol=1e-4)
    np.testing.assert_allclose(view.boxes[0, 2] - view.boxes[0, 0], 80, atol=1e-4)
    for seed in range(5):
        view = augment(shapes, 0, how, Augmentation(), 1.0, np.random.default_rng(seed))
        assert view.image.shape == (160, 320, 3)
        assert (view.boxes <= [320, 160, 320, 160]).all() and (view.boxes >= 0).all()
        assert view.image[:, 240:].std() > 1, "the right is drawn, too"


@pytest.mark.parametrize("geometry, shown", [("darknet", (80, 160)), ("yolo_ret", (320, 160))])
def test_published_geometries_take_a_rectangle_for_their_square(geometry, shown):
    box = np.array([[0, 0, 40, 80]], np.float32)
    tall = Sample(np.zeros((80, 40, 3), np.uint8), box, np.array([1]), "a")
    how = replace(PLAIN, geometry=geometry, jitter=0.0, aspect=Augmentation.aspect)
    view = random_view(tall, (160, 320), Size(320, 160), (1, 1), how, np.random.default_rng(0))
    np.testing.assert_allclose(view.boxes[0, 2:] - view.boxes[0, :2], shown, rtol=1e-4)


@given(st.integers(0, 10_000))
def test_boxes_follow_their_object(seed):
    """A bright rectangle is found again where its box says, through any warp."""
    rng = np.random.default_rng(seed)
    image = np.zeros((90, 120, 3), np.uint8)
    left, top = rng.integers(5, 40, 2)
    right, bottom = left + rng.integers(20, 60), top + rng.integers(20, 40)
    image[top:bottom, left:right] = 255
    box = np.array([[left, top, right, bottom]], np.float32)
    sample = Sample(image, box, np.array([0]), "a")
    how = Augmentation(visible=0.5)
    view = random_view(sample, (128, 128), 128, (0.6, 1.6), how, rng)
    bright = np.argwhere(view.image[..., 0] > 160)
    for box in view.boxes:
        found = np.concatenate((bright.min(0)[::-1], bright.max(0)[::-1] + 1))
        np.testing.assert_allclose(box, found, atol=1.6)


def test_mirroring_keeps_pixel_edges_exact():
    image = np.zeros((8, 8, 3), np.uint8)
    image[2:4, 1:4] = 255
    sample = Sample(image, np.array([[1, 2, 4, 4]], np.float32), np.array([0]), "a")
    view = warp(sample, np.array([[-1.0, 0, 8], [0, 1, 0]]), (8, 8), 0.5)
    assert view.boxes.tolist() == [[4, 2, 7, 4]]
    np.testing.assert_array_equal(view.image, image[:, ::-1])


def test_what_is_left_of_a_dropped_object_is_ignored():
    """It can be seen, so it must not be learnt as background."""
    boxes = np.array([[2, 2, 12, 12], [0, 10, 10, 20], [30, 0, 34, 2]], np.float32)
    sample = Sample(np.zeros((40, 40, 3), np.uint8), boxes, np.array([0, 1, 2]), "a")
    shifted = warp(sample, np.array([[1.0, 0, -8], [0, 1, 0]]), (40, 40), 0.3)
    assert shifted.labels.tolist() == [0, 2]
    assert shifted.ignored.tolist() == [[0, 10, 2, 20]]
    halved = warp(sample, np.array([[0.5, 0, 0], [0, 0.5, 0]]), (40, 40), 0.3)
    assert halved.labels.tolist() == [0, 1]
    assert not len(halved.ignored), "one pixel is not seen"


def test_cropping_drops_boxes_of_which_little_is_left():
    boxes = np.array([[-9, 0, 1, 10], [-5, 0, 5, 10], [3, 3, 4, 9]], np.float32)
    kept, mask = crop_boxes(boxes, (20, 20), visible=0.3)
    assert mask.tolist() == [False, True, False]
    assert kept.tolist() == [[0, 0, 5, 10]]


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_views_are_valid_and_depend_on_the_seed_only(shapes, mosaic):
    how = Augmentation()
    views = [augment(shapes, 3, 96, how, mosaic, np.random.default_rng(s)) for s in (5, 5, 6)]
    np.testing.assert_array_equal(views[0].image, views[1].image)
    assert not np.array_equal(views[0].image, views[2].image)
    for view in views:
        assert view.image.shape == (96, 96, 3) and view.image.dtype == np.uint8
        assert len(view.boxes) == len(view.labels)
        assert (view.boxes >= 0).all() and (view.boxes <= 96).all()
        assert (view.boxes[:, 2:] > view.boxes[:, :2]).all()


@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0]))
@example(21, 1.0)
def test_ignored_boxes_go_where_equal_objects_go(seed, mosaic):
    """Objects that are ignored as well stay in both tables, in the same places."""
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(4):
        corners = np.sort(rng.uniform(0, 60, (3, 2, 2)), axis=1).reshape(3, 4).astype(np.float32)
        image = np.full((60, 60, 3), number, np.uint8)
        labels = np.arange(3, dtype=np.int64)
        certain = np.array([0.2, 0.4, 0.6], np.float32) if number else None
        unlabelled = frozenset({number})
        samples.append(Sample(image, corners, labels, "", corners, certain, unlabelled))
    view = augment(samples, 0, 64, Augmentation(visible=0), mosaic, rng)
    np.testing.assert_array_equal(view.boxes, view.ignored)
    assert (view.boxes >= 0).all() and (view.boxes <= 64).all()
    if mosaic:
        if view.unlabelled == {0}:  # four times the first, which is certain
            view = replace(view, confidence=np.ones(len(view.boxes), np.float32))
        assert len(view.confidence) == len(view.boxes) == len(view.labels)
        known = {0: (0.2, 1.0), 1: (0.4, 1.0), 2: (0.6, 1.0)}
        for label, certain in zip(view.labels, view.confidence, strict=True):
            assert np.isclose(known[label], certain).any(), "a box keeps its own confidence"
        assert 0 in view.unlabelled and view.unlabelled <= {0, 1, 2, 3}
    else:
        assert view.confidence is None and view.unlabelled == {0}


def test_an_ignored_box_is_kept_even_if_little_of_it_is_left():
    box = np.array([[0, 0, 100, 10]], np.float32)
    image = np.zeros((10, 100, 3), np.uint8)
    sample = Sample(image, np.zeros((0, 4)), np.zeros(0, int), "", ignored=box)
    view = warp(sample, np.array([[1.0, 0, -90], [0, 1, 0]]), (10, 100), 0.3)
    assert len(view.boxes) == 0 and view.ignored.tolist() == [[0, 0, 10, 10]]


def test_a_class_unlabelled_in_one_image_is_unlabelled_in_the_mosaic(shapes):
    samples = [replace(s, unlabelled=frozenset({i})) for i, s in enumerate(shapes[:4])]
    rng = np.random.default_rng(0)
    view = augment(samples, 0, 96, PLAIN, 1.0, rng)
    others = np.random.default_rng(0)
    others.random()
    assert view.unlabelled == {0, *others.integers(4, size=3).tolist()}
    assert view.confidence is None, "all are certain"


def test_a_mosaic_says_which_of_its_parts_have_which_labels():
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    samples = [
        Sample(np.full((60, 60, 3), 50 * n, np.uint8), *none, "", unlabelled=frozenset(labels))
        for n, labels in enumerate([(), (1,), (0, 2)])
    ]
    plain = replace(PLAIN, mosaic_scale=(3, 3))  # every part is filled, but for mixed edges
    known = 0
    for seed in range(20):
        view = augment(samples, 0, 96, plain, 1.0, np.random.default_rng(seed))
        if view.mosaic is None:
            assert (view.image == 0).mean() > 0.8, "all four have all labels"
            continue
        x, y = view.mosaic.seam
        parts = view.image[:y, :x], view.image[:y, x:], view.image[y:, :x], view.image[y:, x:]
        for part, unlabelled in zip(parts, view.mosaic.unlabelled, strict=True):
            number = round(np.median(part) / 50)
            assert (abs(part - 50.0 * number) < 3).mean() > 0.8
            assert unlabelled == samples[number].unlabelled
        assert view.unlabelled == frozenset().union(*view.mosaic.unlabelled)
        known += 1
    assert known > 10
    assert augment(samples, 1, 96, PLAIN, 0.0, np.random.default_rng(0)).mosaic is None


@pytest.fixture
def grey():
    ramp = np.tile(np.arange(256, dtype=np.uint8)[:, None], (1, 3))
    image = np.tile(ramp[:, None], (1, 256, 1))
    return Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), "")


def view_of(sample, seed=0, **how):
    return augment([sample], 0, 256, replace(PLAIN, **how), 0.0, np.random.default_rng(seed)).image


def test_gamma_is_a_power_of_the_pixel(grey):
    expected = 255 * (np.arange(256) / 255) ** 2
    np.testing.assert_allclose(view_of(grey, gamma=(2.0, 2.0))[:, 9, 1], expected, atol=0.5)
    for seed in range(20):
        middle = view_of(grey, seed, gamma=(0.8, 2.0))[128, 0, 0]
        assert 255 * 0.502**2 - 1 <= middle <= 255 * 0.502**0.8 + 1


def test_contrast_moves_pixels_about_their_mean(grey):
    seen = set()
    for seed in range(20):
        image = view_of(grey, seed, contrast=0.5).astype(float)
        slope = (image[150, 0, 0] - image[100, 0, 0]) / 50
        assert 0.48 <= slope <= 1.52
        assert abs(image[127, 0, 0] - 127.5) <= 1.5, "the mean stays"
        seen.add(round(slope, 1))
    assert len(seen) > 4


def test_compression_loses_more_with_less_quality(shapes):
    plain = view_of(shapes[0]).astype(float)
    losses = [
        np.abs(view_of(shapes[0], jpeg=(quality, quality)) - plain).mean() for quality in (95, 20)
    ]
    assert 0 < losses[0] < losses[1] < 20
    colour = np.abs(view_of(shapes[0], jpeg=(95, 95)) - plain).mean((0, 1))
    assert colour.max() < 3, "channels keep their order"


def test_a_setting_that_is_off_changes_neither_pixels_nor_other_draws(shapes):
    off = Augmentation(gamma=(1.0, 1.0), contrast=0.0, jpeg=None)
    late = Augmentation(gamma=(1.0, 1.0), contrast=1e-9)
    views = [augment(shapes, 2, 96, how, 0.5, np.random.default_rng(7)) for how in (off, late)]
    np.testing.assert_array_equal(views[0].image, views[1].image)
    np.testing.assert_array_equal(views[0].boxes, views[1].boxes)


@pytest.mark.parametrize(
    "wrong",
    [{"gamma": [2, 1]}, {"jpeg": (0, 90)}, {"jpeg": (90, 101)}, {"scale": [1]}, {"flip": 1.1}],
)
def test_impossible_ranges_are_refused(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}"):
        Augmentation(**wrong)


@pytest.mark.parametrize(
    "unread, sentence",
    [
        ({"jitter": 0.8}, "jitter goes with geometry darknet or yolo_ret only"),
        ({"geometry": "darknet", "aspect": 0.5}, "aspect goes with geometry logarithmic only"),
        ({"geometry": "yolo_ret", "aspect": 0.0}, "aspect goes with geometry logarithmic only"),
    ],
)
def test_a_setting_that_the_geometry_does_not_read_is_refused(unread, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Augmentation(**unread)
    Augmentation(**{**unread, "jitter": 0.3, "aspect": 0.2})


def test_ranges_from_a_file_equal_those_from_code():
    assert Augmentation(gamma=[0.8, 2.0], jpeg=[80, 100]) == Augmentation(
        gamma=(0.8, 2.0), jpeg=(80, 100)
    )
