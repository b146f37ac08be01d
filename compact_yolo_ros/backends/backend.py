# SPDX-License-Identifier: Apache-2.0
"""The protocol every runtime fulfils, and the choice of one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.model_card import ModelCard, check_input_size
from compact_yolo_ros.model_store import ModelFile

BACKENDS = ("auto", "onnxruntime")
PRECISIONS = ("auto", "fp32")

Candidates = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]
"""boxes (N, K, 4) xyxy in input pixels, scores (N, K) descending, labels (N, K)."""


class BackendError(RuntimeError):
    """A runtime is missing, or cannot run this model as asked."""


class Backend(Protocol):
    """One network, opened at one input size.

    It is used by one thread at a time; ``input`` belongs to it and is overwritten for every image.

    Attributes:
        name: the runtime, one of ``BACKENDS`` without ``auto``.
        device: what it runs on, for people: ``CPU``, or the name of the GPU.
        precision: number format found in the opened network.
        threads: threads a run uses.
        card: the model card.
        input: (N, H, W, 3) uint8, RGB: write the images here before ``run``.
    """

    name: str
    device: str
    precision: str
    threads: int
    card: ModelCard
    input: NDArray[np.uint8]

    def run(self) -> Candidates:
        """Run the network on ``input``.

        Raises:
            BackendError: the runtime failed.
        """

    def close(self) -> None:
        """Release the runtime's memory; the backend cannot be used afterwards."""


def open_backend(
    model: ModelFile,
    *,
    backend: str = "auto",
    precision: str = "auto",
    input_size: tuple[int, int] | None = None,
    threads: int = 0,
) -> Backend:
    """Open ``model`` for images of one size.

    Args:
        model: the file, from ``find_model``.
        backend: one of ``BACKENDS``; ``auto`` takes the fastest one this machine has.
        precision: one of ``PRECISIONS``; ``auto`` takes the file as it is.
        input_size: (height, width) in pixels; None is the card's default, square.
        threads: CPU threads; 0 chooses.

    Raises:
        BackendError: the runtime is not installed, or refuses the model.
        ValueError: an argument is out of its range.
    """
    if backend not in BACKENDS:
        raise ValueError(f"there is no backend '{backend}': give one of {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise ValueError(
            f"there is no precision '{precision}': give one of {', '.join(PRECISIONS)}"
        )
    if precision not in ("auto", model.card.precision):
        raise BackendError(
            f"{model.path.name} holds {model.card.precision} weights, not {precision}: "
            "set precision to auto, or give a file of that precision"
        )
    height, width = input_size or (model.card.default_size, model.card.default_size)
    check_input_size(height)
    check_input_size(width)

    from compact_yolo_ros.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(model, (height, width), threads)
