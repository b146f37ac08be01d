# SPDX-License-Identifier: Apache-2.0
"""The batch of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.data.sample import Sample


class Targets(NamedTuple):
    """The labels of a batch of N images; boxes are x1 y1 x2 y2 in input pixels, float32.

    Attributes:
        objects: (T, 6): image number, class, box.
        confidence: (T,) in (0, 1], how sure each object is.
        ignored: (K, 5): image number, box; predictions there are neither right nor wrong.
        unlabelled: (U, 3) int64: image number, class that may be there without a box, and in which
            part of a mosaic, as ``Mosaic`` orders them; 0 in other images.
        seams: (S, 3): number of a mosaic, and the point x y where its parts meet.
    """

    objects: Tensor
    confidence: Tensor
    ignored: Tensor
    unlabelled: Tensor
    seams: Tensor

    @classmethod
    def of(cls, objects: Tensor) -> Targets:
        """Return targets of certain objects (T, 6): nothing is ignored, every class is labelled."""
        return cls(
            objects,
            objects.new_ones(len(objects)),
            objects.new_zeros((0, 5)),
            torch.zeros((0, 3), dtype=torch.int64, device=objects.device),
            objects.new_zeros((0, 3)),
        )

    def to(self, device: torch.device) -> Targets:
        """Return the targets on another device."""
        return Targets(*(part.to(device, non_blocking=True) for part in self))


class Batch(NamedTuple):
    """A training batch.

    Attributes:
        images: (N, H, W, 3) uint8, RGB.
        targets: what they show.
    """

    images: Tensor
    targets: Targets


def collate(samples: Sequence[Sample]) -> Batch:
    """Return the batch of samples whose images have one size."""
    objects, confidence, ignored, unlabelled, seams = [], [], [], [], []
    for number, s in enumerate(samples):
        objects.append(np.column_stack((np.full(len(s.labels), number), s.labels, s.boxes)))
        confidence.append(np.ones(len(s.labels)) if s.confidence is None else s.confidence)
        ignored.append(np.column_stack((np.full(len(s.ignored), number), s.ignored)))
        parts = s.mosaic.unlabelled if s.mosaic else [s.unlabelled]
        for part, labels in enumerate(parts):
            unlabelled += [(number, label, part) for label in sorted(labels)]
        seams += [(number, *s.mosaic.seam)] if s.mosaic else []
    tables = (np.concatenate(t).astype(np.float32) for t in (objects, confidence, ignored))
    where = np.array(unlabelled, np.int64).reshape(-1, 3)
    meet = np.array(seams, np.float32).reshape(-1, 3)
    targets = Targets(*(torch.from_numpy(table) for table in (*tables, where, meet)))
    return Batch(torch.from_numpy(np.stack([s.image for s in samples])), targets)
