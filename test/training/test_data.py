# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.letterbox import Placement
from training.data.augmentation import Augmentation, augment, crop_boxes, random_view, warp
from training.data.batch import collate
from training.data.dataset import DataError, open_split, read_classes
from training.data.loading import epoch_batches
from training.data.sample import Sample
from training.data.yolo_txt import parse_labels

PLAIN = Augmentation(
    scale=(1, 1), aspect=0, flip=0, hue=0, saturation=0, value=0, mosaic_scale=(1, 1)
)


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
    image = np.zeros((40, 80, 3), np.uint8)
    image[..., 2] = 200
    cv2.imwrite(str(tmp_path / "images/train/a.png"), image)
    cv2.imwrite(str(tmp_path / "images/train/b.png"), image + 1)
    (tmp_path / "labels/train/a.txt").write_text("1 0.5 0.5 0.25 0.5\n0 0 0 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return tmp_path


def test_a_data_set_is_read_as_rgb_and_pixels(folder):
    first, second = open_split(folder / "data.yaml", "train")
    assert first.image[0, 0].tolist() == [200, 0, 0]
    assert first.boxes.tolist() == [[30, 10, 50, 30], [0, 0, 20, 10]]
    assert first.labels.tolist() == [1, 0]
    assert len(second.boxes) == 0, "a picture without a label file has no objects"


def test_class_names_may_be_a_map(folder):
    (folder / "data.yaml").write_text("names: {0: cat, 1: dog}\n")
    assert read_classes(folder / "data.yaml") == ("cat", "dog")


@pytest.mark.parametrize(
    "line", ["2 .5 .5 .1 .1", "0 .5 .5 .1", "0 .5 .5 nan .1", "0.5 0 0 1 1", "x"]
)
def test_a_bad_label_names_its_file(folder, line):
    (folder / "labels/train/b.txt").write_text(line)
    found = open_split(folder / "data.yaml", "train")
    assert [s.name for s in found] == ["a"]
    assert [bad.path.name for bad in found.bad_files] == ["b.txt"]


def test_missing_things_are_named(folder):
    with pytest.raises(DataError, match="test"):
        open_split(folder / "data.yaml", "test")
    with pytest.raises(DataError, match="no images"):
        open_split(folder / "data.yaml", "val")


@given(
    st.tuples(st.integers(16, 900), st.integers(16, 900)),
    st.lists(st.tuples(*[st.floats(0.01, 0.99)] * 4), max_size=5),
)
def test_labels_come_back_through_the_letterbox(shape, rows):
    lines = [f"0 {(a + c) / 2} {(b + d) / 2} {abs(a - c)} {abs(b - d)}" for a, b, c, d in rows]
    boxes = parse_labels(lines, *shape, classes=1)[:, 1:]
    place = Placement.fit(shape, (320, 320))
    np.testing.assert_allclose(place.to_source(place.to_input(boxes)), boxes, atol=0.01)


def test_a_view_without_chance_is_the_letterboxed_image():
    image = np.random.default_rng(0).integers(0, 255, (40, 80, 3), np.uint8)
    sample = Sample(image, np.array([[10, 10, 30, 20]], np.float32), np.array([1]), "a")
    room = np.random.default_rng(1)
    view = random_view(sample, (160, 160), 160, (1, 1), PLAIN, room)
    top = view.boxes[0, 1] - 20
    np.testing.assert_allclose(view.boxes, [[20, 20 + top, 60, 40 + top]], atol=1e-4)
    assert 0 <= top <= 80


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


def test_cropping_drops_what_is_hardly_seen():
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


def test_an_epoch_shows_every_picture_once(shapes):
    numbered = [
        Sample(np.full_like(s.image, i), s.boxes, s.labels, "") for i, s in enumerate(shapes)
    ]
    batches = list(epoch_batches(numbered, (96,), 4, PLAIN, 0.0, (0, 0), workers=0))
    seen = [int(image[48, 48, 0]) for batch in batches for image in batch.images]
    assert sorted(seen) == list(range(16))
    other = next(epoch_batches(numbered, (96,), 4, PLAIN, 0.0, (0, 1), workers=0))
    assert [int(i[48, 48, 0]) for i in other.images] != seen[:4], "epochs are shuffled differently"


def test_a_picture_looks_different_in_every_epoch(shapes):
    views = [
        next(epoch_batches(shapes[:1], (64,), 1, Augmentation(), 0.0, (0, epoch), workers=0)).images
        for epoch in (0, 1)
    ]
    assert not views[0].equal(views[1])


def test_a_resumed_epoch_goes_on_with_the_same_batches(shapes):
    whole = list(epoch_batches(shapes, (64,), 4, Augmentation(), 0.5, (0, 2), workers=0))
    rest = list(epoch_batches(shapes, (64,), 4, Augmentation(), 0.5, (0, 2), 2, workers=1))
    assert len(rest) == 2
    for a, b in zip(whole[2:], rest, strict=True):
        assert a.images.equal(b.images) and a.targets.objects.equal(b.targets.objects)


def test_batches_number_their_images():
    samples = [
        Sample(np.zeros((4, 4, 3), np.uint8), np.full((n, 4), n, np.float32), np.full(n, n), "")
        for n in (1, 0, 2)
    ]
    batch = collate(samples)
    assert batch.targets.objects[:, :3].tolist() == [[0, 1, 1], [2, 2, 2], [2, 2, 2]]
