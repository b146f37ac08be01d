# SPDX-License-Identifier: Apache-2.0
"""Darknet's weights files: a header, then the values of every convolution in the cfg's order.

The header is int32 major, minor and revision of the format, and the number of images seen in
training, 64 bits wide since version 0.2, 32 before. A convolution with batch normalisation stores
shift, scale, mean, variance (O each) and kernel (O, I/groups, k, k), another one bias (O) and
kernel. All values are little-endian float32.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.darknet.cfg import DarknetError

Array = NDArray[np.float32]
# Added to the variance, as in darknet.
EPS = 1e-5


@dataclass(frozen=True)
class ConvolutionShape:
    """The shape of a convolution's values in a weights file.

    Attributes:
        kernel: (O, I/groups, k, k).
        normalised: whether it has a batch norm.
        line: where it begins in the cfg file.
    """

    kernel: tuple[int, int, int, int]
    normalised: bool
    line: int

    @property
    def vectors(self) -> int:
        """Vectors of O values that stand before the kernel."""
        return 4 if self.normalised else 1

    @property
    def count(self) -> int:
        """Stored values."""
        return self.vectors * self.kernel[0] + math.prod(self.kernel)


@dataclass(frozen=True)
class ConvolutionWeights:
    """Stored values of one convolution.

    Attributes:
        kernel: (O, I/groups, k, k).
        shift: (O,), the bias of a convolution that is not normalised.
        scale, mean, variance: (O,) each; None if it is not normalised.
    """

    kernel: Array
    shift: Array
    scale: Array | None = None
    mean: Array | None = None
    variance: Array | None = None

    def folded(self) -> tuple[Array, Array]:
        """Return kernel and bias of the convolution with its normalisation multiplied in."""
        if self.scale is None or self.mean is None or self.variance is None:
            return self.kernel, self.shift
        factor = self.scale / np.sqrt(self.variance.astype(np.float64) + EPS)
        kernel = self.kernel * factor[:, None, None, None]
        return kernel.astype(np.float32), (self.shift - self.mean * factor).astype(np.float32)


def parse_weights(data: bytes, shapes: Sequence[ConvolutionShape]) -> list[ConvolutionWeights]:
    """Parse a weights file.

    Args:
        data: content of the file.
        shapes: of the convolutions whose values it must hold exactly.

    Raises:
        DarknetError: it is no weights file, is too short or too long, or has values that are not
            finite.
    """
    body = data[_header_size(data) :]
    needed = 4 * sum(shape.count for shape in shapes)
    if len(body) > needed:
        raise DarknetError(
            f"{len(body) - needed} bytes are left over after the last convolution: "
            "the weights are of another network than the cfg"
        )
    # A file that was cut off may end within a value.
    values = np.frombuffer(body[: len(body) // 4 * 4], "<f4")
    weights, start = [], 0
    for shape in shapes:
        part = values[start : start + shape.count]
        if len(part) < shape.count:
            raise DarknetError(
                f"the file ends within the [convolutional] at line {shape.line} of the cfg, "
                f"{needed - len(body)} bytes too early: it is cut off, or of another network"
            )
        weights.append(_convolution(part, shape))
        start += shape.count
    return weights


def _header_size(data: bytes) -> int:
    if len(data) >= 12:
        major, minor, _ = struct.unpack("<3i", data[:12])
        if 0 <= major < 1000 and 0 <= minor < 1000:
            size = 20 if 10 * major + minor >= 2 else 16
            if len(data) >= size:
                return size
    raise DarknetError("the file does not begin with the header of darknet weights")


def _convolution(values: Array, shape: ConvolutionShape) -> ConvolutionWeights:
    outputs = shape.kernel[0]
    vectors = values[: shape.vectors * outputs].reshape(shape.vectors, outputs)
    weights = ConvolutionWeights(values[vectors.size :].reshape(shape.kernel), *vectors)
    with np.errstate(all="ignore"):
        usable = all(np.isfinite(folded).all() for folded in weights.folded())
    if not usable:
        raise DarknetError(
            f"the weights of the [convolutional] at line {shape.line} of the cfg are not finite "
            "numbers: they are of another network, or their training diverged"
        )
    return weights
