# SPDX-License-Identifier: Apache-2.0
"""OpenVINO on the CPU: an optional backend, faster than ONNX Runtime on some x86 machines."""

from __future__ import annotations

from functools import cache
from typing import Any

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


class OpenVinoBackend(CpuBackend):
    """Runs the network with OpenVINO's CPU plugin; see ``Backend`` for the attributes."""

    name = "openvino"

    def __init__(self, request: Request) -> None:
        """Open the model and run it at every size.

        Raises:
            BackendError: OpenVINO is missing, or refuses the model.
        """
        openvino = imported("openvino", "OpenVINO")
        super().__init__(request)
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            # Otherwise CPUs with bfloat16 units silently compute in it.
            "INFERENCE_PRECISION_HINT": "f32",
            # Pinned threads of two processes share a core, and leave another one idle.
            "ENABLE_CPU_PINNING": False,
        }
        batch = 1 if request.batch == 1 else openvino.Dimension(1, request.batch)
        try:
            core = _core()
            self._networks = {}
            for size in request.sizes:
                model = core.read_model(str(request.model.path))
                model.reshape({"images": openvino.PartialShape([batch, *size, 3])})
                runner = core.compile_model(model, "CPU", properties).create_infer_request()
                pixels = np.zeros((request.batch, *size, 3), np.uint8)
                # The tensors look at ``pixels``: no copy on the way in.
                tensors = [
                    openvino.Tensor(pixels[:images], shared_memory=True)
                    for images in range(1, request.batch + 1)
                ]
                self._networks[size] = (runner, pixels, tensors)
            self.sizes = warm_up(self, request)
        except Exception as error:  # OpenVINO raises RuntimeError and pybind11's own types
            raise BackendError(
                f"OpenVINO cannot run {request.model.path}: {_last_line(error)}"
            ) from None

    def run(self, images: int = 1) -> Candidates:
        """Run the network on the first ``images`` of ``input``."""
        request, pixels = self._request, self._tensors[images - 1]
        try:
            request.set_input_tensor(pixels)
            request.infer()
        except Exception as error:  # see above
            raise BackendError(f"the run failed: {_last_line(error)}") from None
        boxes, scores, labels = (request.get_tensor(name).data for name in OUTPUTS)
        return boxes, scores, labels

    def resize(self, size: Size) -> None:
        """Run at another of its ``sizes`` from now on."""
        self._request, self.input, self._tensors = self._networks[size]

    def close(self) -> None:
        """Release the networks."""
        del self._request, self._tensors, self._networks


def _last_line(error: Exception) -> str:
    """What is wrong: the lines before it say in which source files of OpenVINO it was found."""
    return str(error).strip().rpartition("\n")[2]


@cache
def _core() -> Any:
    """Return the one core of the process.

    The CPU plugin of a core sets the stack on which signals are handled, and frees it when the
    core goes. Of two cores, the second would bring back the freed stack of the first: the next
    signal, SIGINT or SIGTERM for instance, would then be a segmentation fault.
    """
    import openvino

    return openvino.Core()
