# SPDX-License-Identifier: Apache-2.0
"""Whether the outputs of two backends agree, within what a precision may change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.backends.backend import Candidates
from compact_yolo_ros.model.sizes import Size

LOWEST_SCORE = 0.1
"""Candidates with lower scores are below every threshold in use."""
USUAL_SIDE = 320
"""Long side of the inputs, in pixels, at which the tolerances were found."""


@dataclass(frozen=True)
class Tolerance:
    """How far the outputs of two backends may differ.

    Attributes:
        pixels: largest difference of each side of a box, in pixels of a network input whose long
            side is ``USUAL_SIDE``.
        score: largest difference of the score.
        share: fraction of the candidates that must be within both.
    """

    pixels: float
    score: float
    share: float

    def at(self, size: Size) -> Tolerance:
        """At another input size: boxes are larger in a larger one, and so is what rounding does."""
        return replace(self, pixels=self.pixels * max(1.0, max(size) / USUAL_SIDE))


TOLERANCES = {
    "fp32": Tolerance(pixels=0.05, score=0.001, share=0.99),
    "fp16": Tolerance(pixels=0.5, score=0.02, share=0.97),
    "bf16": Tolerance(pixels=5.0, score=0.1, share=0.97),
    "int8": Tolerance(pixels=8.0, score=0.2, share=0.9),
}
"""By precision, against ONNX Runtime on the CPU (with the FP32 or the INT8 file).

On the sample images, FP16 in ONNX Runtime differed by at most 0.2 pixels and 0.012 of score, and
INT8 in OpenVINO was within the tolerance for 127 of 129 candidates. With the inputs and weights of
all convolutions rounded to bfloat16, at least 99 % of each model's candidates were within it. The
share is below 1 because a near tie between two classes may flip.
"""


@dataclass(frozen=True)
class Agreement:
    """How many candidates were compared and agree, and how far the agreeing ones differ.

    Attributes:
        compared: expected candidates with at least ``LOWEST_SCORE``.
        agreeing: those with a counterpart of the same class within the tolerance.
        pixels: largest difference of a box among the agreeing ones, in input pixels.
        score: largest difference of a score among them.
    """

    compared: int = 0
    agreeing: int = 0
    pixels: float = 0.0
    score: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        """Merge the results of two images."""
        return Agreement(
            self.compared + other.compared,
            self.agreeing + other.agreeing,
            max(self.pixels, other.pixels),
            max(self.score, other.score),
        )

    def suffices(self, tolerance: Tolerance) -> bool:
        """Whether enough candidates agree; without candidates nothing is proved."""
        return self.compared > 0 and self.agreeing >= tolerance.share * self.compared


def compare(found: Candidates, expected: Candidates, tolerance: Tolerance) -> Agreement:
    """Find the counterpart of every expected candidate, whatever its rank.

    Args:
        found: output for one image: boxes (1, K, 4) xyxy, scores (1, K), labels (1, K).
        expected: the output to compare it with, of the same shapes.
        tolerance: how far a counterpart may differ.
    """
    kept = expected[1][0] >= LOWEST_SCORE
    boxes, scores, labels = (part[0][kept] for part in expected)
    pixels = _distances(boxes, found[0][0])
    score = np.abs(scores[:, None] - found[1][0][None])
    distance = np.maximum(pixels / tolerance.pixels, score / tolerance.score)
    distance[labels[:, None] != found[2][0][None]] = np.inf
    nearest = distance.argmin(1)
    rows = np.flatnonzero(distance.min(1) <= 1)
    columns = nearest[rows]
    return Agreement(
        compared=int(kept.sum()),
        agreeing=len(rows),
        pixels=float(pixels[rows, columns].max(initial=0)),
        score=float(score[rows, columns].max(initial=0)),
    )


def _distances(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest difference of a side, of each box from each other one (N, M)."""
    sides = zip(boxes.T, others.T, strict=True)
    # Side by side: NumPy takes ten times as long for the largest of four neighbours in memory.
    return reduce(np.maximum, (np.abs(np.subtract.outer(one, other)) for one, other in sides))
