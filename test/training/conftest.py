# SPDX-License-Identifier: Apache-2.0
"""Small synthetic data for the tests of training."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from training.data.sample import Sample

CLASSES = ("disc", "square")


@pytest.fixture(autouse=True)
def _one_thread():
    # the machine is shared with other test processes, and threads waiting for each other cost more
    torch.set_num_threads(1)
    torch.manual_seed(0)


def draw(rng: np.random.Generator, size: int = 96) -> Sample:
    """A grey picture with one or two large, bright shapes."""
    image = np.full((size, size, 3), 90, np.uint8)
    boxes, labels = [], []
    for left in rng.permutation([4, size // 2 + 2])[: rng.integers(1, 3)]:
        side = int(rng.integers(size // 4, size // 2 - 6))
        top = int(rng.integers(2, size - side - 2))
        label = int(rng.integers(2))
        if label == 0:
            centre = (int(left) + side // 2, top + side // 2)
            cv2.circle(image, centre, side // 2, (250, 240, 40), -1)
        else:
            corner = (int(left) + side - 1, top + side - 1)
            cv2.rectangle(image, (int(left), top), corner, (30, 60, 240), -1)
        boxes.append((left, top, left + side, top + side))
        labels.append(label)
    return Sample(image, np.array(boxes, np.float32), np.array(labels, np.int64), "drawn")


@pytest.fixture(scope="session")
def shapes() -> list[Sample]:
    rng = np.random.default_rng(0)
    return [draw(rng) for _ in range(16)]
