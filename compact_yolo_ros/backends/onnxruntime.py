# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU: the backend that is always there."""

from __future__ import annotations

import numpy as np

from compact_yolo_ros.backends.backend import (
    OUTPUTS,
    BackendError,
    Candidates,
    Request,
    Size,
    warm_up,
)
from compact_yolo_ros.backends.cpu import CpuBackend
from compact_yolo_ros.backends.libraries import imported
from compact_yolo_ros.support.error_text import one_line


class OnnxRuntimeBackend(CpuBackend):
    """Runs the network with ONNX Runtime's CPU provider; see ``Backend`` for the attributes."""

    name = "onnxruntime"

    def __init__(self, request: Request, spinning: bool = False) -> None:
        """Open the model and run it at every size, so that images find memory in place.

        Args:
            request: the model and how to run it.
            spinning: within a run, threads wait for work in a loop instead of asleep: faster on
                cores that nobody else uses, slower on others (docs/runtimes.md has figures).

        Raises:
            BackendError: ONNX Runtime is missing, or refuses the model.
        """
        ort = imported("onnxruntime", "ONNX Runtime")
        super().__init__(request)
        self._inputs = {
            size: np.zeros((request.batch, *size, 3), np.uint8) for size in request.sizes
        }
        self.resize(request.input_size)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        # Between two images, spinning threads would burn the cores of everything else.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # With fixed dimensions it is a little faster. One session for all sizes is 1 to 3 % slower
        # than one for each, and takes less than half of their memory.
        fixed = {}
        if len(self._inputs) == 1:
            fixed = {"height": request.input_size[0], "width": request.input_size[1]}
        if request.batch == 1:
            fixed["batch"] = 1
        for name, size in fixed.items():
            options.add_free_dimension_override_by_name(name, size)
        try:
            self._session = ort.InferenceSession(
                str(request.model.path), options, providers=["CPUExecutionProvider"]
            )
            self.sizes = warm_up(self, request)
        except Exception as error:  # ONNX Runtime raises a family of unrelated exception types
            raise BackendError(
                f"ONNX Runtime cannot run {request.model.path}: {one_line(error)}"
            ) from None

    def run(self, images: int = 1) -> Candidates:
        """Run the network on the first ``images`` of ``input``."""
        session = self._session
        try:
            boxes, scores, labels = session.run(OUTPUTS, {"images": self.input[:images]})
        except Exception as error:  # see above
            raise BackendError(f"the run failed: {one_line(error)}") from None
        return boxes, scores, labels

    def resize(self, size: Size) -> None:
        """Run at another of its ``sizes`` from now on."""
        self.input = self._inputs[size]

    def close(self) -> None:
        """Release the session."""
        del self._session
