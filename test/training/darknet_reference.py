# SPDX-License-Identifier: Apache-2.0
"""Darknet's inference in plain loops, after its definitions and not after the code under test.

``run`` draws the weights of a cfg while it computes, and returns both, so that a test can write
them to a file in darknet's format and expect the importer to come to the same numbers.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

import numpy as np

# major, minor, revision, and 64 bits for the images seen
HEADER = struct.pack("<3iQ", 0, 2, 5, 123456)

ACTIVATIONS = {
    "linear": lambda x: x,
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "relu": lambda x: np.where(x > 0, x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log(1 + np.exp(x))),
}

# What the layers of Tinier-YOLO's own darknet read, newest first.
FIXED = {
    "get_squeeze": [-2],
    "merge_expand": [-1, -3],
    "dense": [-1, -6],
    "pass_through0": [8],
    "pass_through1": [-1, -4],
    "pass_through2": [-4],
    "pass_through3": [-1, 8],
}


@dataclass
class Result:
    """Raw maps (C, H, W) of the outputs, candidates, and all weights as darknet stores them.

    ``boxes`` are x1, y1, x2, y2 in input pixels, ``scores`` those of all classes; the order is
    output, y, x, anchor.
    """

    maps: list[np.ndarray] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    weights: bytes = b""


def run(cfg: str, image: np.ndarray, seed: int = 0) -> Result:
    """Compute ``cfg`` with weights drawn from ``seed`` for ``image``, (3, H, W) in 0..1."""
    rng = np.random.default_rng(seed)
    result = Result()
    outputs: list[np.ndarray] = []
    x = image.astype(np.float64)
    for kind, options in _sections(cfg)[1:]:
        get = options.get
        if kind == "convolutional":
            x, stored = _convolutional(x, options, rng)
            result.weights += stored
        elif kind == "maxpool":
            x = _maxpool(x, int(get("size", get("stride", 1))), int(get("stride", 1)))
        elif kind == "route":
            x = _route([outputs[int(n)] for n in get("layers").split(",")], options)
        elif kind in FIXED:
            x = np.concatenate([outputs[n] for n in FIXED[kind]])
        elif kind == "shortcut":
            x = _shortcut(x, [outputs[int(n)] for n in get("from").split(",")])
            x = ACTIVATIONS[get("activation", "linear")](x)
        elif kind == "avgpool":
            x = np.array([[[plane.sum() / plane.size]] for plane in x])
        elif kind in ("scale_channels", "sam"):
            x = _product(x, outputs[int(get("from"))])
            x = ACTIVATIONS[get("activation", "linear")](x)
        elif kind == "upsample":
            x = x.repeat(int(get("stride")), 1).repeat(int(get("stride")), 2)
        elif kind == "reorg":
            x = _reorg(x, int(get("stride")))
        elif kind in ("yolo", "region"):
            result.maps.append(x)
            _decode(kind, x, options, image.shape, result)
        else:
            assert kind == "dropout"
        outputs.append(x)
    return result


def assert_candidates(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, expected: Result
) -> None:
    """Compare 300 candidates with the best expected ones; those of a score may be exchanged."""
    best, wanted = np.max(expected.scores, 1), np.array(expected.boxes)
    count = min(300, len(best))
    np.testing.assert_allclose(scores[:count], np.sort(best)[::-1][:count], atol=1e-4)
    assert not scores[count:].any(), "the rest are none"
    used = np.zeros(len(best), bool)
    for box, score, label in zip(boxes[:count], scores[:count], labels[:count], strict=True):
        alike = (np.abs(best - score) < 2e-4) & (np.argmax(expected.scores, 1) == label) & ~used
        error = np.where(alike, np.abs(wanted - box).max(1), np.inf)
        assert error.min() < 5e-3 + 1e-3 * np.abs(box).max(), f"nothing is at {box}"
        used[error.argmin()] = True


def _sections(cfg: str) -> list[tuple[str, dict[str, str]]]:
    found = re.findall(r"\[(\w+)\]([^\[]*)", cfg)
    return [(kind, dict(re.findall(r"(\S+) *= *(.+)", body))) for kind, body in found]


def _convolutional(x, options, rng):
    filters, size, stride, groups = (
        int(options.get(key, 1)) for key in ("filters", "size", "stride", "groups")
    )
    padding = size // 2 if options.get("pad") == "1" else int(options.get("padding", 0))
    inputs = len(x) // groups
    normalised = options.get("batch_normalize") == "1"
    shift = rng.normal(0, 0.5, filters).astype("<f4")
    scale, variance = rng.uniform(0.5, 1.5, (2, filters)).astype("<f4")
    # small enough for the constant that is added to it to be seen
    variance = (variance * 1e-3).astype("<f4")
    mean = rng.normal(0, 0.05, filters).astype("<f4")
    spread = (0.05 if normalised else 1) / np.sqrt(inputs * size * size)
    kernel = rng.normal(0, spread, (filters, inputs, size, size)).astype("<f4")

    height, width = ((side + 2 * padding - size) // stride + 1 for side in x.shape[1:])
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    y = np.zeros((filters, height, width))
    for f in range(filters):
        first = f // (filters // groups) * inputs
        for c in range(inputs):
            for dy in range(size):
                for dx in range(size):
                    seen = padded[first + c, dy:, dx:][::stride, ::stride][:height, :width]
                    y[f] += float(kernel[f, c, dy, dx]) * seen
    stored = [shift, kernel]
    if normalised:
        deviation = np.sqrt(variance.astype(np.float64) + 0.00001)
        y = (y - mean[:, None, None]) / deviation[:, None, None] * scale[:, None, None]
        stored = [shift, scale, mean, variance, kernel]
    y += shift[:, None, None]
    return ACTIVATIONS[options.get("activation", "logistic")](y), b"".join(
        values.tobytes() for values in stored
    )


def _maxpool(x, size, stride):
    padding = size - 1
    height, width = ((side + padding - size) // stride + 1 for side in x.shape[1:])
    y = np.full((len(x), height, width), -np.inf)
    for i in range(height):
        for j in range(width):
            for n in range(size):
                for m in range(size):
                    row, column = i * stride - padding // 2 + n, j * stride - padding // 2 + m
                    if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                        y[:, i, j] = np.maximum(y[:, i, j], x[:, row, column])
    return y


def _route(maps, options):
    groups, group = int(options.get("groups", 1)), int(options.get("group_id", 0))
    return np.concatenate([np.split(m, groups)[group] for m in maps])


def _shortcut(x, others):
    """Add value by value in flat memory, as far as both go."""
    y = x.copy().ravel()
    for other in others:
        for i, value in enumerate(other.ravel()):
            if i < y.size:
                y[i] += value
    return y.reshape(x.shape)


def _product(factor, scaled):
    """Find the factor of every value: by its channel, by its pixel, or by both."""
    y = np.empty_like(scaled)
    for c, j, i in np.ndindex(scaled.shape):
        place = tuple(min(n, extent - 1) for n, extent in zip((c, j, i), factor.shape, strict=True))
        y[c, j, i] = factor[place] * scaled[c, j, i]
    return y


def _reorg(x, stride):
    """Move numbers in flat memory, index by index."""
    channels, height, width = x.shape
    flat, out = x.ravel(), np.zeros(x.size)
    fewer = channels // stride**2
    for k in range(channels):
        for j in range(height):
            for i in range(width):
                offset = k // fewer
                w2 = i * stride + offset % stride
                h2 = j * stride + offset // stride
                source = w2 + width * stride * (h2 + height * stride * (k % fewer))
                out[i + width * (j + height * k)] = flat[source]
    return out.reshape(channels * stride**2, height // stride, width // stride)


def _decode(kind, x, options, image_shape, result):
    _, net_height, net_width = image_shape
    _, height, width = x.shape
    anchors = [float(v) for v in options["anchors"].split(",")]
    number, classes = int(options["num"]), int(options["classes"])
    mask = [int(v) for v in options.get("mask", ",".join(map(str, range(number)))).split(",")]
    scale = float(options.get("scale_x_y", 1))
    squared = options.get("new_coords") == "1"
    logistic = ACTIVATIONS["logistic"]
    for j in range(height):
        for i in range(width):
            for place, n in enumerate(mask):
                t = x[place * (5 + classes) : (place + 1) * (5 + classes), j, i]
                # with new_coords the layer before has the sigmoid
                p = t if squared else logistic(t)
                cx = (i + p[0] * scale - (scale - 1) / 2) / width
                cy = (j + p[1] * scale - (scale - 1) / 2) / height
                cells = (width, height) if kind == "region" else (net_width, net_height)
                sides = (4 * t[2] ** 2, 4 * t[3] ** 2) if squared else np.exp(t[2:4])
                w = sides[0] * anchors[2 * n] / cells[0]
                h = sides[1] * anchors[2 * n + 1] / cells[1]
                result.boxes.append(
                    [
                        (cx - w / 2) * net_width,
                        (cy - h / 2) * net_height,
                        (cx + w / 2) * net_width,
                        (cy + h / 2) * net_height,
                    ]
                )
                exponents = np.exp(t[5:])
                each = exponents / exponents.sum() if kind == "region" else p[5:]
                result.scores.append(p[4] * each)
