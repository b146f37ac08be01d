# SPDX-License-Identifier: Apache-2.0
"""Batches of augmented samples: the same for one seed, epoch and step, however a run is cut up."""

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
    """Yield the batches of one epoch from ``first_step`` on; ``key`` is (seed, epoch).

    Each step has one of ``sizes`` (pixels), drawn for all processes alike. ``batch_size`` counts
    the images of all processes. With ``shard`` (rank, world) a batch is the rank's part of them;
    the parts in the order of ranks are the batch of a single process. A view depends on the key
    and its image's index only, so neither ``first_step``, ``workers`` nor ``shard`` changes it.

    Raises ValueError if a batch cannot be shared equally.
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
    # Numbered apart from the views: those are (seed, epoch, index), padded with a zero.
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
    # A signal to the process group is the trainer's to answer: it still needs this worker's batch.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
