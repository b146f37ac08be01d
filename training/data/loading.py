# SPDX-License-Identifier: Apache-2.0
"""Batches of augmented samples: the same for a seed, epoch and step, also in a resumed run."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from training.data.augmentation import Augmentation, augment
from training.data.batch import Batch, collate
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

    def __getitem__(self, index_and_size: tuple[int, int]) -> Sample:
        index, size = index_and_size
        rng = np.random.default_rng((*self.key, index))
        return augment(self.samples, index, size, self.augmentation, self.mosaic, rng)


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Return the full batches in one pass over the samples (at least one)."""
    return max(1, samples // batch_size)


def epoch_batches(
    samples: Sequence[Sample],
    sizes: Sequence[int],
    batch_size: int,
    augmentation: Augmentation,
    mosaic: float,
    key: tuple[int, int],
    first_step: int = 0,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield the batches of one epoch.

    A view of an image depends on ``key`` and the image's index only, so that ``first_step``,
    ``workers`` and ``shard`` do not change it.

    Args:
        samples: the training images.
        sizes: sides of the square input in pixels; one is drawn for each step, the same in all
            processes.
        batch_size: images in a step, of all processes together.
        augmentation: how views are made.
        mosaic: probability of a mosaic.
        key: (seed, epoch).
        first_step: the steps before it are left out.
        workers: loader processes.
        shard: (rank, number of processes). The parts in the order of ranks are the batch of a
            single process.

    Raises:
        ValueError: a batch cannot be shared equally by the processes.
    """
    steps = steps_per_epoch(len(samples), batch_size)
    rank, world = shard
    share, rest = divmod(min(batch_size, len(samples)), world)
    if rest:
        raise ValueError(
            f"a batch of {share * world + rest} images cannot be shared equally by {world}"
            " processes: choose a multiple as batch size"
        )
    order = np.random.default_rng(key).permutation(len(samples)).tolist()
    # Another key than those of the views, which are (seed, epoch, index) padded with a zero.
    drawn = np.random.default_rng((*key, 0, 1)).choice(sizes, steps).tolist()
    batches = []
    for step in range(first_step, steps):
        first = step * batch_size + rank * share
        batches.append([(index, drawn[step]) for index in order[first : first + share]])
    loader = DataLoader(
        _Views(samples, augmentation, mosaic, key),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_start_worker,
        prefetch_factor=8 if workers else None,
        # A forked worker shares the decoded images; another start method would copy them.
        multiprocessing_context="fork" if workers else None,
    )
    yield from loader


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    # The trainer handles signals to the process group, and still needs the batch of this worker.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
