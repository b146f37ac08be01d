# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from compact_yolo_ros.model.sizes import Size
from training.data.augmentation import Augmentation
from training.data.batch import collate
from training.data.loading import epoch_batches
from training.data.sample import Mosaic, Sample

PLAIN = Augmentation(
    scale=(1, 1), aspect=0, flip=0, hue=0, saturation=0, value=0, mosaic_scale=(1, 1)
)


def test_an_epoch_has_every_image_once(shapes):
    numbered = [
        Sample(np.full_like(s.image, i), s.boxes, s.labels, "") for i, s in enumerate(shapes)
    ]
    batches = list(epoch_batches(numbered, (96,), 4, PLAIN, 0.0, (0, 0), workers=0))
    seen = [int(image[48, 48, 0]) for batch in batches for image in batch.images]
    assert sorted(seen) == list(range(16))
    other = next(epoch_batches(numbered, (96,), 4, PLAIN, 0.0, (0, 1), workers=0))
    assert [int(i[48, 48, 0]) for i in other.images] != seen[:4], "epochs are shuffled differently"


def test_views_of_an_image_differ_between_epochs(shapes):
    views = [
        next(epoch_batches(shapes[:1], (64,), 1, Augmentation(), 0.0, (0, epoch), workers=0)).images
        for epoch in (0, 1)
    ]
    assert not views[0].equal(views[1])


def test_a_resumed_epoch_continues_with_the_same_batches(shapes):
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


def partial_labels(shapes):
    """Samples with all that targets can hold."""
    return [
        Sample(
            s.image,
            s.boxes,
            s.labels,
            s.name,
            s.boxes[:1],
            np.full(len(s.boxes), 0.5 + i / 40, np.float32),
            frozenset({i % 3}),
        )
        for i, s in enumerate(shapes)
    ]


def same(one, other):
    """Whether two lists of batches are equal in everything."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.images.equal(b.images)
        assert all(x.equal(y) for x, y in zip(a.targets, b.targets, strict=True))
    return True


EPOCH = {"sizes": (64, 96), "batch_size": 4, "augmentation": Augmentation(jpeg=(60, 90))}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(shapes, workers):
    samples = partial_labels(shapes)
    alone, shared = (
        list(epoch_batches(samples, **EPOCH, mosaic=0.5, key=(3, 1), workers=number))
        for number in (0, workers)
    )
    assert same(alone, shared)


@pytest.mark.parametrize("world", [2, 4])
def test_the_shards_of_all_processes_are_the_whole_batch(shapes, world):
    samples = partial_labels(shapes)

    def batches(rank, world):
        shard = (rank, world)
        return epoch_batches(
            samples, **EPOCH, mosaic=0.5, key=(3, 1), first_step=1, workers=0, shard=shard
        )

    ranks = [list(batches(rank, world)) for rank in range(world)]
    for step, whole in enumerate(batches(0, 1)):
        parts = [rank[step] for rank in ranks]
        assert torch.cat([part.images for part in parts]).equal(whole.images)
        share = len(whole.images) // world
        for field in ("objects", "ignored", "unlabelled", "seams"):
            tables = [getattr(part.targets, field).clone() for part in parts]
            for rank, table in enumerate(tables):
                table[:, 0] += rank * share
            assert torch.cat(tables).equal(getattr(whole.targets, field))
        confidence = torch.cat([part.targets.confidence for part in parts])
        assert confidence.equal(whole.targets.confidence)


def test_a_batch_that_cannot_be_shared_is_refused(shapes):
    for samples, size in ((shapes, 4), (shapes[:4], 6)):
        with pytest.raises(ValueError, match="4 images"):
            next(epoch_batches(samples, (64,), size, PLAIN, 0.0, (0, 0), workers=0, shard=(0, 3)))


def test_every_size_is_drawn_and_resuming_keeps_the_draw(shapes):
    def sizes(first_step):
        batches = epoch_batches(
            shapes * 4, (64, 96, 128), 4, PLAIN, 0.0, (0, 0), first_step, workers=0
        )
        return [batch.images.shape[1] for batch in batches]

    assert set(sizes(0)) == {64, 96, 128}
    assert sizes(5) == sizes(0)[5:]


def test_the_targets_of_a_batch_worked_out_by_hand():
    image = np.zeros((4, 4, 3), np.uint8)
    boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
    certain = Sample(image, boxes[:1], np.array([2]), "", boxes[1:], None, frozenset({1}))
    empty = Sample(image, boxes[:0], np.zeros(0, np.int64), "", unlabelled=frozenset({2, 0}))
    taught = Sample(image, boxes, np.array([0, 1]), "", boxes, np.array([0.5, 0.25], np.float32))
    parts = tuple(map(frozenset, ((), {1}, (), {2, 0})))
    mosaic = replace(empty, mosaic=Mosaic((3, 2), parts))
    targets = collate([certain, empty, taught, mosaic]).targets
    assert targets.objects.tolist() == [
        [0, 2, 0, 1, 2, 3],
        [2, 0, 0, 1, 2, 3],
        [2, 1, 4, 5, 6, 7],
    ]
    assert targets.confidence.tolist() == [1, 0.5, 0.25]
    assert targets.ignored.tolist() == [[0, 4, 5, 6, 7], [2, 0, 1, 2, 3], [2, 4, 5, 6, 7]]
    whole, parted = [[0, 1, 0], [1, 0, 0], [1, 2, 0]], [[3, 1, 1], [3, 0, 3], [3, 2, 3]]
    assert targets.unlabelled.tolist() == whole + parted
    assert targets.seams.tolist() == [[3, 3, 2]] and targets.seams.dtype == torch.float32
    assert collate([certain]).targets.seams.shape == (0, 3)
    assert targets.objects.dtype == targets.ignored.dtype == torch.float32
    assert targets.unlabelled.dtype == torch.int64


def test_equal_images_of_an_epoch_get_views_of_their_own(shapes):
    batch = next(epoch_batches(shapes[:1] * 4, (64,), 4, Augmentation(), 0.0, (0, 0), workers=0))
    assert len({image.numpy().tobytes() for image in batch.images}) == 4


def test_another_seed_gives_another_order_and_other_views(shapes):
    def first(seed):
        how = Augmentation(hue=0, saturation=0, value=0)
        return next(epoch_batches(shapes, (64,), 16, how, 0.0, (seed, 0), workers=0)).images

    own, other = ({image.numpy().tobytes() for image in first(seed)} for seed in (0, 1))
    assert not own & other


@pytest.mark.parametrize(
    ("images", "batch_size", "lengths"), [(10, 4, [4, 4]), (8, 4, [4, 4]), (3, 8, [3]), (1, 1, [1])]
)
def test_an_epoch_has_the_full_batches_or_one_of_all_images(shapes, images, batch_size, lengths):
    batches = list(epoch_batches(shapes[:images], (64,), batch_size, PLAIN, 0, (0, 0), workers=0))
    assert [len(batch.images) for batch in batches] == lengths


def of_shapes(count=24):
    """Samples of three shapes; every pixel of an image is its number, its box is the whole."""
    sides = [(150, 200), (200, 150), (90, 160)]  # height, width
    return [
        Sample(
            np.full((*sides[i % 3], 3), i + 1, np.uint8),
            np.array([[0, 0, *sides[i % 3][::-1]]], np.float32),
            np.array([0]),
            "",
        )
        for i in range(count)
    ]


def test_fitted_steps_have_inputs_that_hold_like_images_and_waste_little():
    batches = list(epoch_batches(of_shapes(), (320,), 4, PLAIN, 0.0, (0, 0), workers=0, fit=1.0))
    # 320 pixels of 4:3 and 3:4 need 240 rounded up to 256, those of 16:9 need 180 up to 192.
    assert {tuple(b.images.shape[1:3]) for b in batches} == {(256, 320), (320, 256), (192, 320)}
    numbers = [int(image[:, :, 0].mode()[0].mode()[0]) for b in batches for image in b.images]
    assert sorted(numbers) == list(range(1, 25)), "every image once"
    for batch in batches:
        widths = batch.targets.objects[:, 4:6] - batch.targets.objects[:, 2:4]
        assert torch.isclose(widths.max(1).values, torch.tensor(320.0)).all(), "the long side"


def test_images_of_several_shapes_share_an_input_that_holds_them_all():
    (batch,) = epoch_batches(of_shapes(2), (320,), 2, PLAIN, 0.0, (0, 0), workers=0, fit=1.0)
    assert batch.images.shape[1:3] == (320, 320)
    wide = of_shapes(3)[::2]
    (batch,) = epoch_batches(wide, (320,), 2, PLAIN, 0.0, (0, 0), workers=0, fit=1.0)
    assert batch.images.shape[1:3] == (256, 320)


def test_a_share_of_the_steps_fits_and_every_image_comes_once():
    samples, shapes_ = of_shapes(240), []
    numbers = []
    for batch in epoch_batches(samples, (160, 320), 4, PLAIN, 0.5, (0, 3), workers=0, fit=0.5):
        shapes_.append(tuple(batch.images.shape[1:3]))
        numbers.append(len(batch.images))
    squares = sum(height == width for height, width in shapes_)
    assert 15 <= squares <= 45 and sum(numbers) == 240
    rest = epoch_batches(samples, (160, 320), 4, PLAIN, 0.5, (0, 3), 50, workers=0, fit=0.5)
    assert [tuple(b.images.shape[1:3]) for b in rest] == shapes_[50:], "resuming keeps the draw"


def test_the_shards_of_a_fitted_batch_have_one_size():
    def sizes(rank):
        batches = epoch_batches(
            of_shapes(12), (320,), 4, PLAIN, 0, (0, 0), workers=0, shard=(rank, 2), fit=1.0
        )
        return [batch.images.shape[1:] for batch in batches]

    assert sizes(0) == sizes(1)


def test_a_rectangle_is_drawn_as_it_is():
    sizes = (Size(320, 256), 160)
    batches = epoch_batches(of_shapes(), sizes, 2, PLAIN, 0.5, (0, 0), workers=0)
    assert {tuple(b.images.shape[1:3]) for b in batches} == {(256, 320), (160, 160)}


def test_sizes_are_drawn_equally_often(shapes):
    sizes = [
        batch.images.shape[1]
        for epoch in range(20)
        for batch in epoch_batches(shapes, (32, 64), 1, PLAIN, 0.0, (0, epoch), workers=0)
    ]
    # five standard deviations
    assert abs(sizes.count(32) / len(sizes) - 0.5) < 5 * 0.5 / len(sizes) ** 0.5
