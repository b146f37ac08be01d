# SPDX-License-Identifier: Apache-2.0
"""The check of what a network puts out, made once when it is opened.

What reads the outputs of an image trusts them: a label outside the classes would be published under
another class's name, and scores that do not descend would lose objects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.backends.backend import OUTPUTS, BackendError, Candidates

TOLERANCE = 1e-3
"""By which a score may leave 0 to 1, or exceed the one before it: a few steps of float16."""
_TYPES = {"boxes": ("float32",), "scores": ("float32",), "labels": ("int32", "int64")}


def check_outputs(found: Candidates, images: int, classes: int) -> None:
    """Check the outputs for a number of images against ``Candidates``.

    Args:
        found: of a run.
        images: how many it was run on.
        classes: number of classes that the card names.

    Raises:
        BackendError: they are something else.
    """
    boxes, scores, labels = found
    problem = (
        _wrong_type(found)
        or _wrong_shape(found, images)
        or _wrong_values(boxes, scores)
        or _wrong_labels(labels, classes)
    )
    if problem:
        raise BackendError(
            f"the network {problem}", "export the model with `python -m training.export`"
        )


def _wrong_type(found: Candidates) -> str:
    for name, values in zip(OUTPUTS, found, strict=True):
        if str(values.dtype) not in _TYPES[name]:
            return f"puts out {name} as {values.dtype}, not {_TYPES[name][0]}"
    return ""


def _wrong_shape(found: Candidates, images: int) -> str:
    boxes, scores, labels = (values.shape for values in found)
    count = scores[1] if len(scores) == 2 else 0
    if count and (boxes, scores, labels) == ((images, count, 4), (images, count), (images, count)):
        return ""
    return (
        f"puts out boxes, scores and labels of shapes {boxes}, {scores} and {labels} for a "
        f"batch of {images}, not (N, K, 4), (N, K) and (N, K)"
    )


def _wrong_values(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> str:
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        return "puts out boxes or scores that are not finite numbers"
    least, largest = float(scores.min()), float(scores.max())
    if least < -TOLERANCE or largest > 1 + TOLERANCE:
        return f"puts out scores from {least:g} to {largest:g}, not within 0 to 1"
    if (np.diff(scores, axis=1) > TOLERANCE).any():
        return "puts out scores that do not descend"
    return ""


def _wrong_labels(labels: NDArray[np.int32], classes: int) -> str:
    least, largest = int(labels.min()), int(labels.max())
    if least >= 0 and largest < classes:
        return ""
    return f"puts out labels from {least} to {largest}, but its card names {classes} classes"
