# SPDX-License-Identifier: Apache-2.0
"""Whether two backends answer alike on the package's sample images."""

from __future__ import annotations

from collections.abc import Sequence

from compact_yolo_ros.backends.agreement import Agreement, Tolerance, compare
from compact_yolo_ros.backends.backend import Backend
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.pixels.sample_images import sample_images


def compare_on_samples(
    backend: Backend,
    reference: Backend,
    tolerance: Tolerance,
    batches: Sequence[int] = (1,),
) -> Agreement:
    """Run two backends on the package's sample images and compare what they answer.

    Args:
        backend: the one to judge.
        reference: the same file as it is, usually in ONNX Runtime, at the same input size.
        tolerance: how far they may differ, before ``Tolerance.at``.
        batches: numbers of images in a run of ``backend``; all of them are one sample, and the last
            one's answer is compared.

    Raises:
        BackendError: one of them fails.
    """
    letterbox = Letterbox(reference.input[0], reference.card.resize)
    height, width = reference.input.shape[1:3]
    tolerance = tolerance.at(Size(width, height))
    total = Agreement()
    for image in sample_images():
        letterbox(image, "bgr")
        expected = reference.run()
        for images in batches:
            backend.input[:images] = reference.input[0]
            boxes, scores, labels = backend.run(images)
            last = boxes[images - 1 :], scores[images - 1 :], labels[images - 1 :]
            total += compare(last, expected, tolerance)
    return total
