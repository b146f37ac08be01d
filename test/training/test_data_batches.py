# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.data.augmentation import Augmentation
from training.data.batch import collate
from training.data.loading import epoch_batches
from training.data.sample import Sample

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
        for field in ("objects", "ignored", "unlabelled"):
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
