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


class _Views(Dataset):
    """Augmented views of one epoch; every view has a random generator of its own."""

    def __init__(
        self,
        samples: Sequence[Sample],
        size: int,
        how: Augmentation,
        mosaic: float,
        key: tuple[int, int],
    ) -> None:
        self.samples, self.size, self.how, self.mosaic, self.key = samples, size, how, mosaic, key

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((*self.key, index))
        return augment(self.samples, index, self.size, self.how, self.mosaic, rng)


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Return the full batches in one pass over the samples (at least one)."""
    return max(1, samples // batch_size)


def epoch_batches(
    samples: Sequence[Sample],
    size: int,
    batch_size: int,
    how: Augmentation,
    mosaic: float,
    key: tuple[int, int],
    first_step: int = 0,
    workers: int = 1,
) -> Iterator[Batch]:
    """Yield the batches of one epoch from ``first_step`` on; ``key`` is (seed, epoch)."""
    order = np.random.default_rng(key).permutation(len(samples))
    steps = steps_per_epoch(len(samples), batch_size)
    batches = [order[i * batch_size : (i + 1) * batch_size].tolist() for i in range(steps)]
    loader = DataLoader(
        _Views(samples, size, how, mosaic, key),
        batch_sampler=batches[first_step:],
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_start_worker,
        prefetch_factor=8 if workers else None,
    )
    yield from loader


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)
    # A signal to the process group is the trainer's to answer: it still needs this worker's batch.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
