# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU: the backend that is always there."""

from __future__ import annotations

import os

import numpy as np

from compact_yolo_ros.backends.backend import BackendError, Candidates
from compact_yolo_ros.model_store import ModelFile

OUTPUTS = ["boxes", "scores", "labels"]
MAX_DEFAULT_THREADS = 4
"""Small networks stop gaining beyond a few threads, and a robot has other work for its cores."""


def default_threads() -> int:
    """Threads used when the user does not say: the cores this process may use, at most four."""
    return min(MAX_DEFAULT_THREADS, len(os.sched_getaffinity(0)))


class OnnxRuntimeBackend:
    """Runs the network with ONNX Runtime's CPU provider; see ``Backend`` for the attributes."""

    name = "onnxruntime"
    device = "CPU"

    def __init__(self, model: ModelFile, input_size: tuple[int, int], threads: int = 0) -> None:
        """Open ``model`` at ``input_size`` (height, width); raises BackendError."""
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise BackendError(
                f"ONNX Runtime cannot be imported ({error}): pip install onnxruntime"
            ) from None

        self.card = model.card
        self.precision = model.card.precision
        self.threads = threads or default_threads()
        self.input = np.zeros((1, *input_size, 3), np.uint8)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads burn the cores of everything else on the robot between two frames.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A session with free dimensions is about 15 % slower than one with fixed ones.
        for name, size in zip(("batch", "height", "width"), self.input.shape, strict=False):
            options.add_free_dimension_override_by_name(name, size)
        try:
            self._session = ort.InferenceSession(
                str(model.path), options, providers=["CPUExecutionProvider"]
            )
            self.run()
        except Exception as error:  # ONNX Runtime raises a family of unrelated exception types
            raise BackendError(f"ONNX Runtime cannot run {model.path}: {error}") from None

    def run(self) -> Candidates:
        """Run the network on ``input``."""
        boxes, scores, labels = self._session.run(OUTPUTS, {"images": self.input})
        return boxes, scores, labels

    def close(self) -> None:
        """Release the session."""
        del self._session
