# SPDX-License-Identifier: Apache-2.0
"""Calibration for INT8: the range of every activation, from example images.

Histograms are filled image by image, so memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.letterbox import Letterbox
from training.data.input_sizes import as_size
from training.data.sample import Sample
from training.quantisation.qdq_graph import LARGEST, SMALLEST

BINS = 2048
# The most values of a map that enter the histogram; the maximum is always exact.
VALUES = 200_000


class Histogram:
    """Magnitudes of one activation. The range doubles when a larger value arrives.

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
    """Return the largest magnitude."""
    return histogram.largest


def percentile(histogram: Histogram, share: float = 0.9999) -> float:
    """Return the magnitude below which ``share`` of all values lie."""
    passed = np.cumsum(histogram.counts)
    bin_ = int(np.searchsorted(passed, share * passed[-1]))
    return min(histogram.largest, float(histogram.edges[bin_]))


def least_squares(histogram: Histogram) -> float:
    """Return the range with the least mean square error of rounding and saturation together."""
    values = histogram.edges - histogram.range / BINS / 2
    ranges = histogram.largest * np.linspace(0.05, 1, 96)
    steps = ranges[:, None] / LARGEST
    rounded = np.minimum(np.rint(values / steps), LARGEST) * steps
    errors = ((rounded - values) ** 2 * histogram.counts).sum(1)
    return float(ranges[errors.argmin()])


def entropy(histogram: Histogram) -> float:
    """Return the range with the least Kullback-Leibler divergence of its 128 levels.

    Source: S. Migacz, 8-bit Inference with TensorRT, GTC 2017.
    """
    counts, levels = histogram.counts.copy(), LARGEST + 1
    counts[0] = 0  # zeros of an activation function are exact at any scale, and would dominate
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
        # a value that only the reference has costs as much as a tiny share of it would
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
    samples: Iterable[Sample],
    sizes: Sequence[int | Size],
    resize: Literal["letterbox", "corner", "stretch"],
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of samples as the node gives them to the network.

    Args:
        samples: with images (H, W, 3) uint8, RGB.
        sizes: of the input in pixels, used in turn; a number is the side of a square.
        resize: as in the model card.

    Yields:
        (1, H, W, 3) uint8, RGB.
    """
    for number, sample in enumerate(samples):
        size = as_size(sizes[number % len(sizes)])
        image = np.empty((1, *size.shape, 3), np.uint8)
        Letterbox(image[0], resize)(sample.image, "rgb")
        yield image


def observe(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    images: Iterable[NDArray[np.uint8]],
    threads: int = 1,
) -> dict[str, Histogram]:
    """Run a float model on images and return the histogram of every tensor.

    Args:
        model: the deployed graph.
        tensors: names of the activations.
        images: (1, H, W, 3) uint8, RGB.
        threads: of ONNX Runtime.
    """
    session = open_session(model, tensors, threads)
    histograms = {name: Histogram() for name in tensors}
    for image in images:
        for name, values in zip(tensors, session.run(tensors, {"images": image}), strict=True):
            histograms[name].add(values)
    return histograms


def open_session(
    model: onnx.ModelProto, outputs: Sequence[str], threads: int = 1
) -> onnxruntime.InferenceSession:
    """Open a model in ONNX Runtime with further tensors among its outputs.

    Args:
        model: the deployed graph; its input size stays free.
        outputs: names of the tensors.
        threads: of ONNX Runtime.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
