# SPDX-License-Identifier: Apache-2.0
"""Which range of every activation 8 bits shall cover, from pictures.

Histograms are kept while the pictures pass, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from compact_yolo_ros.pixels.letterbox import Letterbox
from training.data.sample import Sample
from training.quantisation.qdq_graph import LARGEST, SMALLEST

BINS = 2048
# Of large maps only so many values enter the histogram; the maximum is always exact.
VALUES = 200_000


class Histogram:
    """Magnitudes of one activation. The range doubles when a larger value comes.

    Attributes:
        counts: (BINS,) from zero up to ``range``.
        largest: largest magnitude seen.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS)
        self.range = SMALLEST
        self.largest = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values of any shape."""
        magnitudes = np.abs(values.reshape(-1))
        largest = float(magnitudes.max(initial=0))
        self.largest = max(self.largest, largest)
        while largest > self.range:
            self.counts = np.append(self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2))
            self.range *= 2
        magnitudes = magnitudes[:: max(1, magnitudes.size // VALUES)]
        bins = (magnitudes * (BINS / self.range)).astype(np.int32)
        self.counts += np.bincount(bins.clip(max=BINS - 1), minlength=BINS)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Upper ends of the bins."""
        return np.arange(1, BINS + 1, dtype=np.float64) * (self.range / BINS)


def largest(histogram: Histogram) -> float:
    """Cover everything seen."""
    return histogram.largest


def percentile(histogram: Histogram, share: float = 0.9999) -> float:
    """Cover ``share`` of the magnitudes."""
    passed = np.cumsum(histogram.counts)
    bin_ = int(np.searchsorted(passed, share * passed[-1]))
    return min(histogram.largest, float(histogram.edges[bin_]))


def least_squares(histogram: Histogram) -> float:
    """Take the range whose rounding and saturation together have the least mean square."""
    values = histogram.edges - histogram.range / BINS / 2
    ranges = histogram.largest * np.linspace(0.05, 1, 96)
    steps = ranges[:, None] / LARGEST
    rounded = np.minimum(np.rint(values / steps), LARGEST) * steps
    errors = ((rounded - values) ** 2 * histogram.counts).sum(1)
    return float(ranges[errors.argmin()])


def entropy(histogram: Histogram) -> float:
    """Take the range whose 128 levels keep most information (least Kullback-Leibler divergence).

    Source: S. Migacz, 8-bit Inference with TensorRT, GTC 2017.
    """
    counts, levels = histogram.counts.copy(), LARGEST + 1
    counts[0] = 0  # what an activation cut off is exact at any scale, and would outweigh all else
    used = int(np.ceil(histogram.largest / histogram.range * BINS))
    best, chosen = np.inf, used
    for bins in range(min(levels, used), used + 1, 8):
        clipped = counts[:bins].copy()
        clipped[-1] += counts[bins:].sum()
        group = np.arange(bins) * levels // bins
        filled = counts[:bins] > 0
        total = np.bincount(group, counts[:bins], levels)
        members = np.bincount(group, filled, levels)
        quantised = np.where(filled, (total / np.maximum(members, 1))[group], 0)
        p, q = clipped / clipped.sum(), quantised / max(quantised.sum(), 1)
        both = (p > 0) & (q > 0)
        # what the reference has and the approximation lacks costs as much as a tiny share would
        divergence = (p[both] * np.log(p[both] / q[both])).sum() + p[(p > 0) & (q == 0)].sum() * 20
        if divergence < best:
            best, chosen = divergence, bins
    return min(histogram.largest, float(histogram.edges[chosen - 1]))


METHODS: Mapping[str, Callable[[Histogram], float]] = {
    "largest": largest,
    "percentile": percentile,
    "least-squares": least_squares,
    "entropy": entropy,
}


def letterboxed(
    samples: Iterable[Sample], sizes: Sequence[int], resize: Literal["letterbox", "stretch"]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the samples as the node sees them, (1, S, S, 3) uint8 RGB, the sizes in turn."""
    for number, sample in enumerate(samples):
        size = sizes[number % len(sizes)]
        image = np.empty((1, size, size, 3), np.uint8)
        Letterbox(image[0], resize)(sample.image, "rgb")
        yield image


def observe(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    images: Iterable[NDArray[np.uint8]],
    threads: int = 1,
) -> dict[str, Histogram]:
    """Run the float ``model`` on ``images`` and return the histogram of every tensor."""
    session = open_session(model, tensors, threads)
    histograms = {name: Histogram() for name in tensors}
    for image in images:
        for name, values in zip(tensors, session.run(tensors, {"images": image}), strict=True):
            histograms[name].add(values)
    return histograms


def open_session(
    model: onnx.ModelProto, outputs: Sequence[str], threads: int = 1
) -> onnxruntime.InferenceSession:
    """Open ``model`` with further tensors among its outputs, its size left free."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
