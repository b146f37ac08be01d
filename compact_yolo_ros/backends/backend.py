# SPDX-License-Identifier: Apache-2.0
"""The protocol every runtime fulfils, and what opening one returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import InputSize, Size

OUTPUTS = ("boxes", "scores", "labels")

Candidates = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]
"""boxes (N, K, 4) xyxy in input pixels, scores (N, K) descending, labels (N, K)."""


class BackendError(RuntimeError):
    """A runtime is missing, or cannot run this model with these options.

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


class Backend(Protocol):
    """One network, opened at one input size or several.

    One thread uses it at a time; ``input`` belongs to it and is overwritten for every image.
    The memory for all sizes is allocated when it is opened, and each size has been run once.

    Attributes:
        name: the runtime, a key of ``BACKENDS``.
        device: what it runs on, for people: ``CPU``, or the name of the GPU.
        precision: number format found in the opened network.
        threads: CPU threads a run uses.
        card: the model card.
        input: (N, H, W, 3) uint8, RGB: write the images here before ``run``.
        in_flight: runs that may be under way at once, see ``start``.
        sizes: the sizes it can be resized to, with the seconds that a run took when it was opened;
            0 where there is only one, infinite where a larger one is known to be faster.
        device_times: seconds of the parts of the last run by name; empty where the runtime does
            not measure them.
        details: what else is worth telling of how it runs, by name; empty for most.
    """

    name: str
    device: str
    precision: str
    threads: int
    card: ModelCard
    input: NDArray[np.uint8]
    in_flight: int
    sizes: dict[Size, float]
    device_times: dict[str, float]
    details: dict[str, str]

    def run(self, images: int = 1) -> Candidates:
        """Run the network on the first ``images`` of ``input``.

        The next run overwrites the returned arrays.

        Raises:
            BackendLost: the device is gone.
            BackendError: the runtime failed.
        """

    def start(self, images: int = 1) -> None:
        """Begin a run, with at most ``in_flight`` of them under way.

        With more than one, ``input`` is another array afterwards: the next images can be written
        and started while this run goes on.

        Raises:
            BackendLost, BackendError: see ``run``.
        """

    def finish(self) -> Candidates:
        """Wait for the run that was started first, and return what it found.

        The arrays are overwritten by the run that is started ``in_flight`` runs later.

        Raises:
            BackendLost, BackendError: see ``run``.
        """

    def resize(self, size: Size) -> None:
        """Run at another of its ``sizes`` from now on: ``input`` is another array then."""

    def close(self) -> None:
        """Release the runtime's memory; the backend cannot be used afterwards.

        Once more does nothing.
        """


@dataclass(frozen=True)
class Opened:
    """A backend, and why it is this one.

    Attributes:
        backend: the opened network.
        choice: why this runtime was chosen, for people.
        warning: what differs from the options, for people; empty if nothing does.
        inputs: what the backend's sizes were made from, the one to begin with first.
    """

    backend: Backend
    choice: str = ""
    warning: str = ""
    inputs: tuple[InputSize, ...] = ()


@dataclass(frozen=True)
class MissingEngine:
    """There is a GPU, but the engine for this model has not been built yet.

    Attributes:
        reason: which engine is missing, for people.
    """

    reason: str
