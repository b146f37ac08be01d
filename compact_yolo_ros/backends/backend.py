# SPDX-License-Identifier: Apache-2.0
"""The protocol every runtime fulfils, and what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.model_card import ModelCard, check_input_size
from compact_yolo_ros.model_store import ModelFile

BACKENDS = ("auto", "tensorrt", "onnxruntime", "openvino")
PRECISIONS = ("auto", "fp32", "fp16", "int8")
OUTPUTS = ("boxes", "scores", "labels")

Candidates = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]
"""boxes (N, K, 4) xyxy in input pixels, scores (N, K) descending, labels (N, K)."""


class BackendError(RuntimeError):
    """A runtime is missing, or cannot run this model as asked.

    Attributes:
        reason: what is wrong.
        remedy: what to do or type; empty if that is not known.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        """Say what is wrong and, if it is known, what to do or type."""
        super().__init__(f"{reason}: {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy


class EngineMissing(BackendError):
    """There is a GPU, but the engine for this model has not been built yet."""


@dataclass(frozen=True)
class Request:
    """A model and how it shall be run.

    Attributes:
        model: the file.
        input_size: (height, width) in pixels.
        precision: one of ``PRECISIONS`` without ``auto``.
        batch: most images a run.
        threads: CPU threads; 0 chooses.
        dla_core: core of a Jetson's deep learning accelerator; -1 is the GPU.
        engine_cache: folder of TensorRT engines; None is the user's own.
    """

    model: ModelFile
    input_size: tuple[int, int]
    precision: str
    batch: int = 1
    threads: int = 0
    dla_core: int = -1
    engine_cache: Path | None = None

    def __post_init__(self) -> None:
        for side in self.input_size:
            check_input_size(side)
        if self.batch < 1:
            raise ValueError(f"a batch of {self.batch} images is not usable: give 1 or more")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the largest input."""
        return (self.batch, *self.input_size, 3)

    def require_file_precision(self) -> None:
        """Raise BackendError if the file holds another precision: for runtimes that take it as is.

        Precision lives in the graph, and no runtime here changes it silently.
        """
        held = self.model.card.precision
        if self.precision != held:
            raise BackendError(
                f"{self.model.path.name} holds {held} weights, not {self.precision}",
                "set precision to auto, or give a file of that precision",
            )


class Backend(Protocol):
    """One network, opened at one input size.

    It is used by one thread at a time; ``input`` belongs to it and is overwritten for every image.

    Attributes:
        name: the runtime, one of ``BACKENDS`` without ``auto``.
        device: what it runs on, for people: ``CPU``, or the name of the GPU.
        precision: number format found in the opened network.
        threads: CPU threads a run uses.
        card: the model card.
        input: (N, H, W, 3) uint8, RGB: write the images here before ``run``.
        choice: why this runtime was taken, for people.
        warning: what is not as it was asked for, for people; empty if all is.
        device_times: seconds of the parts of the last run by name; empty where nothing is told.
    """

    name: str
    device: str
    precision: str
    threads: int
    card: ModelCard
    input: NDArray[np.uint8]
    choice: str
    warning: str
    device_times: dict[str, float]

    def run(self, images: int = 1) -> Candidates:
        """Run the network on the first ``images`` of ``input``.

        The arrays returned are overwritten by the next run.

        Raises:
            BackendError: the runtime failed.
        """

    def close(self) -> None:
        """Release the runtime's memory; the backend cannot be used afterwards."""
