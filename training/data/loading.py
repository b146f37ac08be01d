# SPDX-License-Identifier: Apache-2.0
"""Batches of augmented samples: the same for a seed, epoch and step, also in a resumed run."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from compact_yolo_ros.model.sizes import Size, fitted
from training.data.augmentation import Augmentation, augment
from training.data.batch import Batch, collate
from training.data.dataset import DataSet
from training.data.input_sizes import as_size, holding
from training.data.sample import Sample


class _Views(Dataset[Sample]):
    """Augmented views of one epoch; every view has a random generator of its own."""

    def __init__(
        self,
        samples: Sequence[Sample],
        augmentation: Augmentation,
        mosaic: float,
        key: tuple[int, int],
    ) -> None:
        self.samples, self.augmentation, self.mosaic, self.key = samples, augmentation, mosaic, key

    def __getitem__(self, index_and_size: tuple[int, Size]) -> Sample:
        index, size = index_and_size
        rng = np.random.default_rng((*self.key, index))
        return augment(self.samples, index, size, self.augmentation, self.mosaic, rng)


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Return the full batches in one pass over the samples (at least one)."""
    return max(1, samples // batch_size)


def epoch_batches(
    samples: Sequence[Sample],
    sizes: Sequence[int | Size],
    batch_size: int,
    augmentation: Augmentation,
    mosaic: float,
    key: tuple[int, int],
    first_step: int = 0,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    fit: float = 0.0,
    pinned: bool = False,
) -> Iterator[Batch]:
    """Yield the batches of one epoch.

    A view of an image depends on ``key`` and the image's index only, so that ``first_step``,
    ``workers`` and ``shard`` do not change it.

    Args:
        samples: the training images.
        sizes: of the input in pixels, a number is the side of a square; one is drawn for each step,
            the same in all processes.
        batch_size: images in a step, of all processes together.
        augmentation: how views are made.
        mosaic: probability of a mosaic.
        key: (seed, epoch).
        first_step: the steps before it are left out.
        workers: loader processes.
        shard: (rank, number of processes). The parts in the order of ranks are the batch of a
            single process.
        fit: share of the steps of a square size that fit their images, which then have like shapes:
            the side is the long side of an input that holds each image as at run time.
        pinned: in memory from which a GPU copies while the CPU goes on.

    Raises:
        ValueError: a batch cannot be shared equally by the processes.
    """
    rank, world = shard
    share, rest = divmod(min(batch_size, len(samples)), world)
    if rest:
        raise ValueError(
            f"a batch of {share * world + rest} images cannot be shared equally by {world}"
            " processes: choose a multiple as batch size"
        )
    planned = _plan(samples, [as_size(size) for size in sizes], batch_size, key, fit)
    own = slice(rank * share, (rank + 1) * share)
    batches = [[(index, size) for index in whole[own]] for whole, size in planned[first_step:]]
    loader = DataLoader(
        _Views(samples, augmentation, mosaic, key),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_start_worker,
        pin_memory=pinned,
        prefetch_factor=8 if workers else None,
        # A forked worker shares the decoded images; another start method would copy them.
        multiprocessing_context="fork" if workers else None,
    )
    yield from loader


def _plan(
    samples: Sequence[Sample],
    sizes: Sequence[Size],
    batch_size: int,
    key: tuple[int, int],
    fit: float,
) -> list[tuple[list[int], Size]]:
    """Return the images of every step of an epoch, of all processes, and the size of the input."""
    steps = steps_per_epoch(len(samples), batch_size)
    order = np.random.default_rng(key).permutation(len(samples))
    batches = [order[step * batch_size :][:batch_size] for step in range(steps)]
    # Another key than those of the views, which are (seed, epoch, index) padded with a zero.
    rng = np.random.default_rng((*key, 0, 1))
    drawn = [sizes[number] for number in rng.choice(len(sizes), steps)]
    if fit:
        square = np.array([size.width == size.height for size in drawn])
        fitting = np.flatnonzero(square & (rng.random(steps) < fit))
        _gather_shapes(samples, batches, drawn, fitting, rng)
    return [(batch.tolist(), size) for batch, size in zip(batches, drawn, strict=True)]


def _gather_shapes(
    samples: Sequence[Sample],
    batches: list[NDArray[np.intp]],
    sizes: list[Size],
    steps: NDArray[np.intp],
    rng: Generator,
) -> None:
    """Exchange images between some steps, so that those of a step are alike; fit its size to them.

    Images of one shape stay in their random order, and so do the steps.
    """
    if not len(steps):
        return
    longest = max(sizes[step].width for step in steps)
    images = np.concatenate([batches[step] for step in steps])
    shapes = {index: _image_size(samples, index) for index in images.tolist()}
    alike = sorted(images.tolist(), key=lambda index: fitted(longest, shapes[index]))
    parts = np.split(np.array(alike), len(steps))
    for step, part in zip(rng.permutation(steps), parts, strict=True):
        batches[step] = part
        sizes[step] = holding(sizes[step].width, [shapes[index] for index in part.tolist()])


def _image_size(samples: Sequence[Sample], index: int) -> Size:
    if isinstance(samples, DataSet):  # without loading the image
        image = samples.entries[index].image
        return Size(image.width, image.height)
    height, width = samples[index].image.shape[:2]
    return Size(width, height)


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    # The trainer handles signals to the process group, and still needs the batch of this worker.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
