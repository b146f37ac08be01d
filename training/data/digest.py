# SPDX-License-Identifier: Apache-2.0
"""A short text that tells one data set from another, whatever its folder is called."""

from __future__ import annotations

import hashlib

import numpy as np

from compact_yolo_ros.labels.ground_truth import GroundTruth
from training.data.dataset import DataSet


def digest_of(*splits: DataSet) -> str:
    """Return what is the same only for the same classes, images and labels, in the same order.

    How far images are reduced does not matter: views of another size need other pixels.
    """
    found = hashlib.blake2b(digest_size=8)
    for split in splits:
        found.update(repr((split.classes, len(split))).encode())
        for entry in split.entries:
            found.update(entry.image.digest)
            found.update(content_of(entry.whole))
    return found.hexdigest()


def content_of(truth: GroundTruth) -> bytes:
    """Return what is the same only for the same labels of an image."""
    confidence = () if truth.confidence is None else truth.confidence
    parts = [
        *(np.asarray(part, "<f4").tobytes() for part in (truth.boxes, truth.ignored, confidence)),
        *(np.asarray(part, "<i8").tobytes() for part in (truth.labels, truth.ignored_classes)),
    ]
    # With the lengths, no two lists of parts are the same bytes.
    head = repr((sorted(truth.unlabelled), [len(part) for part in parts]))
    return head.encode() + b"".join(parts)
