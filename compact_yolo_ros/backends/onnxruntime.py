# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU: the backend that is always there."""

from __future__ import annotations

import os

import numpy as np

from compact_yolo_ros.backends.backend import OUTPUTS, BackendError, Candidates, Request
from compact_yolo_ros.backends.installing import install_line

MAX_DEFAULT_THREADS = 4
"""Small networks stop gaining beyond a few threads, and a robot has other work for its cores."""


def default_threads() -> int:
    """Threads used when the user does not say: the cores this process may use, at most four."""
    return min(MAX_DEFAULT_THREADS, len(os.sched_getaffinity(0)))


class OnnxRuntimeBackend:
    """Runs the network with ONNX Runtime's CPU provider; see ``Backend`` for the attributes."""

    name = "onnxruntime"
    device = "CPU"

    def __init__(self, request: Request) -> None:
        """Open the model and run it once, so that the first image finds memory in place.

        Raises:
            BackendError: ONNX Runtime is missing, or refuses the model.
        """
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise BackendError(
                f"ONNX Runtime cannot be imported ({error})", install_line("onnxruntime")
            ) from None

        request.require_file_precision()
        self.card = request.model.card
        self.precision = request.precision
        self.threads = request.threads or default_threads()
        self.input = np.zeros(request.shape, np.uint8)
        self.choice = self.warning = ""
        self.device_times: dict[str, float] = {}
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads burn the cores of everything else on the robot between two frames.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A session with free dimensions is about 15 % slower than one with fixed ones.
        fixed = {"height": request.input_size[0], "width": request.input_size[1]}
        if request.batch == 1:
            fixed["batch"] = 1
        for name, size in fixed.items():
            options.add_free_dimension_override_by_name(name, size)
        try:
            self._session = ort.InferenceSession(
                str(request.model.path), options, providers=["CPUExecutionProvider"]
            )
            self.run(request.batch)
        except Exception as error:  # ONNX Runtime raises a family of unrelated exception types
            raise BackendError(f"ONNX Runtime cannot run {request.model.path}: {error}") from None

    def run(self, images: int = 1) -> Candidates:
        """Run the network on the first ``images`` of ``input``."""
        boxes, scores, labels = self._session.run(OUTPUTS, {"images": self.input[:images]})
        return boxes, scores, labels

    def close(self) -> None:
        """Release the session."""
        del self._session
