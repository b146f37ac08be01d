# SPDX-License-Identifier: Apache-2.0
"""The protocol every runtime fulfils, and what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import check_side
from compact_yolo_ros.model.store import ModelFile

BACKENDS = ("auto", "tensorrt", "onnxruntime", "openvino")
PRECISIONS = ("auto", "fp32", "fp16", "int8")
OUTPUTS = ("boxes", "scores", "labels")

Size = tuple[int, int]
"""(height, width) of a network input in pixels."""
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


class BackendLost(BackendError):
    """The device, or what holds its memory, is gone: no later run can succeed."""


class EngineMissing(BackendError):
    """There is a GPU, but the engine for this model has not been built yet."""


@dataclass(frozen=True)
class Request:
    """A model and how it shall be run.

    Attributes:
        model: the file.
        input_size: the one to begin with.
        precision: one of ``PRECISIONS`` without ``auto``.
        batch: most images a run.
        threads: CPU threads; 0 chooses.
        dla_core: core of a Jetson's deep learning accelerator; -1 is the GPU.
        engine_cache: folder of TensorRT engines; None is the user's own.
        more_sizes: others that the backend can be resized to.
    """

    model: ModelFile
    input_size: Size
    precision: str
    batch: int = 1
    threads: int = 0
    dla_core: int = -1
    engine_cache: Path | None = None
    more_sizes: tuple[Size, ...] = ()

    def __post_init__(self) -> None:
        for size in self.sizes:
            for side in size:
                check_side(side)
        if self.batch < 1:
            raise ValueError(f"a batch of {self.batch} images is not usable: give 1 or more")

    @property
    def sizes(self) -> tuple[Size, ...]:
        """All sizes, each once, the one to begin with first."""
        return tuple(dict.fromkeys((self.input_size, *self.more_sizes)))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the input to begin with."""
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
    """One network, opened at one input size or several.

    It is used by one thread at a time; ``input`` belongs to it and is overwritten for every image.
    The memory for all sizes is taken when it is opened, and each has been run.

    Attributes:
        name: the runtime, one of ``BACKENDS`` without ``auto``.
        device: what it runs on, for people: ``CPU``, or the name of the GPU.
        precision: number format found in the opened network.
        threads: CPU threads a run uses.
        card: the model card.
        input: (N, H, W, 3) uint8, RGB: write the images here before ``run``.
        sizes: the sizes it can be resized to, with the seconds that a run took when it was opened;
            0 where there is only one.
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
    sizes: dict[Size, float]
    choice: str
    warning: str
    device_times: dict[str, float]

    def run(self, images: int = 1) -> Candidates:
        """Run the network on the first ``images`` of ``input``.

        The arrays returned are overwritten by the next run.

        Raises:
            BackendLost: the device is gone.
            BackendError: the runtime failed.
        """

    def resize(self, size: Size) -> None:
        """Run at another of its ``sizes`` from now on: ``input`` is another array then."""

    def close(self) -> None:
        """Release the runtime's memory; the backend cannot be used afterwards."""


def warm_up(backend: Backend, request: Request) -> dict[Size, float]:
    """Run a backend at every size, the one to begin with last; return what ``sizes`` holds.

    So the first image of every size finds memory and caches in place.

    Raises:
        BackendError: the runtime failed.
    """
    seconds = dict.fromkeys(request.sizes, 0.0)
    for size in reversed(request.sizes):
        backend.resize(size)
        backend.run(request.batch)
        if len(seconds) > 1:
            began = perf_counter()
            backend.run(request.batch)
            seconds[size] = perf_counter() - began
    return seconds
