# SPDX-License-Identifier: Apache-2.0
"""The row of a backend in the table of backends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compact_yolo_ros.backends.backend import MissingEngine, Opened
from compact_yolo_ros.backends.libraries import Library

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions
    from compact_yolo_ros.model.store import ModelFile

Opener = Callable[["ModelFile", "RunOptions", bool], Opened | MissingEngine]
"""Opens a model with resolved options. If the third argument is true, it builds an engine that is
missing, which takes minutes. Raises BackendError; imports the runtime's library only now."""


@dataclass(frozen=True)
class BackendInfo:
    """One backend: all that the choice, the doctor, the benchmark and the docs need to know.

    Attributes:
        name: what the option ``backend`` calls it.
        title: what people call the runtime.
        runs_on: ``CPU`` or ``GPU``.
        open: see ``Opener``.
        libraries: what it imports.
        automatic: whether ``auto`` may take it without having timed it.
        has_dla: whether it runs on a Jetson's deep learning accelerator.
        batches: whether several images take less time together than one after the other.
        converts: precisions in which it can run an FP32 file, on hardware that has them.
        widens: precisions in which it can run an FP16 file, on hardware that has them.
        slow: for a precision that it runs slower than FP32, what to do instead.
    """

    name: str
    title: str
    runs_on: str
    open: Opener
    libraries: tuple[Library, ...]
    automatic: bool = False
    has_dla: bool = False
    batches: bool = False
    converts: tuple[str, ...] = ()
    widens: tuple[str, ...] = ()
    slow: tuple[tuple[str, str], ...] = ()

    def precisions_of(self, held: str) -> tuple[str, ...]:
        """Precisions in which it can run a file that holds one, that one first."""
        others = {"fp32": self.converts, "fp16": self.widens}
        return (held, *others.get(held, ()))
