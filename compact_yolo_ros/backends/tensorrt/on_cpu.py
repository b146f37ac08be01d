# SPDX-License-Identifier: Apache-2.0
"""An input size whose engine is wrong: ONNX Runtime runs it, beside the engines of other sizes."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from compact_yolo_ros.backends.backend import Candidates
from compact_yolo_ros.backends.onnxruntime import OnnxRuntimeBackend
from compact_yolo_ros.backends.tensorrt.cuda_graph import DriverLibrary
from compact_yolo_ros.backends.tensorrt.network import COMPUTE, PARTS
from compact_yolo_ros.model.store import ModelFile

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions


def options_on_cpu(model: ModelFile, options: RunOptions) -> RunOptions:
    """The options with which ONNX Runtime runs the file as it is."""
    return options.change(precision=model.card.precision, in_flight=1, dla_core=-1)


class NetworkOnCpu:
    """A model at one input size on the CPU; see ``Network``, whose place it takes."""

    warning = ""

    def __init__(self, model: ModelFile, options: RunOptions) -> None:
        """Open the model.

        Args:
            model: the file.
            options: the engine's, of one input size.

        Raises:
            BackendError: ONNX Runtime is missing, or refuses the model.
        """
        self._backend = OnnxRuntimeBackend(model, options_on_cpu(model, options))
        self.input: np.ndarray = self._backend.input
        self.precision = self._backend.precision

    def capture(self, library: DriverLibrary) -> None:
        """Nothing: it has no CUDA graph."""

    def forget_graphs(self) -> None:
        """Nothing."""

    def start(self, images: int) -> None:
        """Run on the first ``images`` of ``input``; raises BackendError."""
        began = perf_counter()
        self._answer = self._backend.run(images)
        self._seconds = perf_counter() - began

    def finish(self, images: int) -> tuple[Candidates, dict[str, float]]:
        """The answer of that run, and the seconds of its parts."""
        return self._answer, dict.fromkeys(PARTS, 0.0) | {COMPUTE: self._seconds}
