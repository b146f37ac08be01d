# SPDX-License-Identifier: Apache-2.0
"""How a model is run: one value for the node, the commands and the library."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.backends.registry import AUTO, backend_names
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import (
    ANY_IMAGE,
    InputSize,
    Size,
    check_input_size,
    fitted,
)
from compact_yolo_ros.model.store import ModelError, ModelFile, find_model

PRECISIONS = (AUTO, "fp32", "fp16", "bf16", "int8")
DEFAULT_MODEL = "yolo_ret_m075"
MOST_THREADS = 64
"""Far more would take all memory of a machine, and could not even be stopped."""


@dataclass(frozen=True)
class RunOptions:
    """A model and how to run it.

    Attributes:
        model: name or path, see ``find_model``.
        backend: a key of ``BACKENDS``, or ``auto``: TensorRT if it works here, else what was timed
            to be the fastest on the CPU, else ONNX Runtime.
        precision: one of ``PRECISIONS``; ``auto`` keeps the precision of the file. TensorRT runs an
            FP32 file in FP16, and OpenVINO in FP16 or BF16 where the processor computes in it;
            nothing else is converted.
        input_sizes: the network starts at the first and can be resized to the others without
            delay; a number is the long side of an input that fits the camera; empty is the card's
            default.
        image_sizes: (width, height) in pixels of the images that inputs have to fit; empty if none
            is known yet: then they are squares.
        batch: most images a run.
        threads: CPU threads, at most MOST_THREADS; 0 chooses.
        dla_core: core of a Jetson's deep learning accelerator (TensorRT only); -1 is the GPU.
        engine_cache: folder of TensorRT engines; empty is ~/.cache/compact_yolo_ros/engines.
        spinning: within a run, ONNX Runtime's threads wait for work in a loop instead of asleep:
            faster on cores that nobody else uses, slower on others (docs/runtimes.md).
        in_flight: runs that may be under way at once, so that copies and computation overlap
            (TensorRT only, which takes memory for each of them).
        sha256: SHA-256 of the model's file, in lower case: another file is refused; empty takes any
            file. See ``pinned``.
        timing: whether timings of this machine choose what is left open: if all of ``backend``,
            ``precision`` and ``threads`` are.

    Raises:
        ValueError: a value is out of its range; the message lists what is possible.
    """

    model: str = DEFAULT_MODEL
    backend: str = AUTO
    precision: str = AUTO
    input_sizes: tuple[InputSize, ...] = ()
    image_sizes: tuple[Size, ...] = ()
    batch: int = 1
    threads: int = 0
    dla_core: int = -1
    engine_cache: str = ""
    spinning: bool = False
    in_flight: int = 1
    sha256: str = ""
    timing: bool = True

    def __post_init__(self) -> None:
        if self.backend not in backend_names():
            known = ", ".join(backend_names())
            raise ValueError(f"there is no backend '{self.backend}': give one of {known}")
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise ValueError(f"there is no precision '{self.precision}': give one of {known}")
        sizes = [size if isinstance(size, int) else _size(size) for size in self.input_sizes]
        checked = tuple(dict.fromkeys(map(check_input_size, sizes)))
        object.__setattr__(self, "input_sizes", checked)
        images = tuple(dict.fromkeys(map(_size, self.image_sizes)))
        if any(min(image) < 1 for image in images):
            raise ValueError("an image has no pixels: give image sizes of 1x1 or more")
        object.__setattr__(self, "image_sizes", images)
        if self.batch < 1:
            raise ValueError(f"a batch of {self.batch} images is not usable: give 1 or more")
        if self.in_flight < 1:
            raise ValueError(f"{self.in_flight} runs under way are not usable: give 1 or more")
        if not 0 <= self.threads <= MOST_THREADS:
            raise ValueError(
                f"{self.threads} threads are not usable: give 1 to {MOST_THREADS}, or 0"
            )

    @property
    def sizes(self) -> tuple[Size, ...]:
        """What is opened, the first to begin with: each input size, fitted to all images."""
        images = self.image_sizes or (ANY_IMAGE,)
        pairs = (fitted(size, image) for size in self.input_sizes for image in images)
        return tuple(dict.fromkeys(pairs))

    def change(self, **values: Any) -> RunOptions:
        """Return a copy with some values changed, checked like a new one."""
        return replace(self, **values)

    @property
    def are_for_timing(self) -> bool:
        """Whether timings of this machine may choose the runtime, precision and threads."""
        defaults = RunOptions(self.model, input_sizes=self.input_sizes)
        others = {"engine_cache": "", "image_sizes": (), "batch": 1, "in_flight": 1, "sha256": ""}
        return self.change(**others) == defaults

    def find_model(self) -> ModelFile:
        """Find the model.

        Raises:
            ModelError: it cannot be found, read or trusted, or its file is not that of ``sha256``.
        """
        file = find_model(self.model)
        self.require_pinned(file)
        return file

    def require_pinned(self, file: ModelFile) -> None:
        """Raise ModelError if a file, as it is now, is not that of ``sha256``."""
        if self.sha256 not in ("", file.sha256):
            raise ModelError(
                f"{file.path} has been overwritten since it was opened: set or open the model "
                "again to take it as it is now"
            )

    def pinned(self) -> RunOptions:
        """Return a copy for the model's file as it is now: another one is refused from now on.

        So what is opened later, at another size or by another runtime, is the same network.

        Raises:
            ModelError: the model cannot be found, read or trusted.
        """
        return self.change(sha256=find_model(self.model).sha256)

    def resolved(self, card: ModelCard) -> RunOptions:
        """Return a copy in which nothing is left to a model's card.

        Its ``precision`` is not ``auto``, and ``input_sizes`` has at least one size, all of them
        squares instead of long sides if the model cannot fit cameras. Its ``batch`` is 1 if the
        model takes one image a run.

        Raises:
            BackendError: the model runs at its own size only, and another one is asked for.
        """
        sizes = self.input_sizes or (card.own_input,)
        if not card.fits_cameras:
            sizes = tuple(fitted(size, ANY_IMAGE) for size in sizes)
        others = [size for size in sizes if size != card.own_size]
        if card.fixed_size and others:
            raise BackendError(
                f"{card.name} runs at {card.own_size} only, not at {others[0]}",
                "leave the input size to the model, or export it with dynamic axes",
            )
        return self.change(
            precision=card.precision if self.precision == AUTO else self.precision,
            input_sizes=sizes,
            batch=1 if card.one_image else self.batch,
        )


def _size(sides: tuple[int, int]) -> Size:
    return sides if isinstance(sides, Size) else Size(*sides)
