# SPDX-License-Identifier: Apache-2.0
"""The result of a detector on one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, best first.

    Attributes:
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels of the source image, origin at its top left.
        scores: (n,) float32 in [0, 1].
        labels: (n,) int32, positions in the model card's ``classes``.

    Raises:
        ValueError: the three arrays do not fit together.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes.shape != (count, 4):
            raise ValueError(f"boxes have shape {self.boxes.shape}, expected ({count}, 4)")
        if self.scores.shape != (count,) or self.labels.shape != (count,):
            raise ValueError(
                f"scores {self.scores.shape} and labels {self.labels.shape} must both be ({count},)"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """No objects."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))
