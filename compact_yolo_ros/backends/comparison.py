# SPDX-License-Identifier: Apache-2.0
"""Whether two backends answer alike on the package's sample images."""

from __future__ import annotations

from compact_yolo_ros.backends import Backend
from compact_yolo_ros.backends.agreement import Agreement, Tolerance, compare
from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.pixels.sample_images import sample_images


def compare_on_samples(backend: Backend, reference: Backend, tolerance: Tolerance) -> Agreement:
    """Run two backends on the package's sample images and compare what they answer.

    Args:
        backend: the one to judge.
        reference: the same file as it is, usually in ONNX Runtime, at the same input size.
        tolerance: how far they may differ.

    Raises:
        BackendError: one of them fails.
    """
    letterbox = Letterbox(reference.input[0], reference.card.resize)
    total = Agreement()
    for image in sample_images():
        letterbox(image, "bgr")
        backend.input[0] = reference.input[0]
        total += compare(backend.run(), reference.run(), tolerance)
    return total
