# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU: the backend that is always there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compact_yolo_ros.backends.backend import OUTPUTS, BackendError, Candidates, Opened
from compact_yolo_ros.backends.cpu import CpuBackend, require_file_precision
from compact_yolo_ros.backends.info import BackendInfo
from compact_yolo_ros.backends.libraries import Library, imported
from compact_yolo_ros.backends.processor import computes_half
from compact_yolo_ros.backends.warm_up import warm_up
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelFile
from compact_yolo_ros.support.error_text import is_utf8, one_line

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions

ONNX_RUNTIME = Library("ONNX Runtime", "onnxruntime", "onnxruntime")
SLOW_INT8 = (
    "ONNX Runtime runs an int8 file slower than its fp32 file: take that one, or set backend to "
    "openvino"
)
"""It computes between signed Q/DQ nodes, which TensorRT needs, in FP32; see docs/runtimes.md."""


class OnnxRuntimeBackend(CpuBackend):
    """Runs the network with ONNX Runtime's CPU provider; see ``Backend`` for the attributes."""

    name = "onnxruntime"

    def __init__(self, model: ModelFile, options: RunOptions) -> None:
        """Open the model and run it at every size, so that images find memory in place.

        Args:
            model: the file.
            options: resolved.

        Raises:
            BackendError: ONNX Runtime is missing, or refuses the model.
        """
        ort = imported(ONNX_RUNTIME)
        super().__init__(model, options)
        if model.card.precision == "fp16":  # else the weights are converted when it is opened
            self.precision = "fp16" if computes_half() else "fp32"
        if options.precision != self.precision:
            require_file_precision(model, options)
        first = options.sizes[0]
        session = ort.SessionOptions()
        session.intra_op_num_threads = self.threads
        session.inter_op_num_threads = 1
        session.enable_mem_pattern = False  # the block it plans ahead takes 4 MB and no less time
        session.log_severity_level = 3
        spinning = str(int(options.spinning))
        session.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        # Between two images, spinning threads would burn the cores of everything else.
        session.add_session_config_entry("session.force_spinning_stop", "1")
        # With fixed dimensions it is a little faster. One session for all sizes is 1 to 3 % slower
        # than one for each, and takes less than half of their memory.
        fixed = {}
        if len(options.sizes) == 1:
            fixed = {"height": first.height, "width": first.width}
        if options.batch == 1:
            fixed["batch"] = 1
        for name, extent in fixed.items():
            session.add_free_dimension_override_by_name(name, extent)
        try:
            self._inputs = {
                size: np.zeros((options.batch, *size.shape, 3), np.uint8) for size in options.sizes
            }
            self.resize(first)
            self._session = ort.InferenceSession(
                _source(model.path), session, providers=["CPUExecutionProvider"]
            )
            self.sizes = warm_up(self, options)
        except Exception as error:  # ONNX Runtime raises a family of unrelated exception types
            raise BackendError(f"ONNX Runtime cannot run {model.path}: {one_line(error)}") from None

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
        vars(self).pop("_session", None)


def _source(path: Path) -> str | bytes:
    """The path of a file, or its content: ONNX Runtime takes no path that is not UTF-8."""
    text = str(path)
    return text if is_utf8(text) else path.read_bytes()


def _open(model: ModelFile, options: RunOptions, build: bool) -> Opened:
    return Opened(OnnxRuntimeBackend(model, options))


INFO = BackendInfo(
    name=OnnxRuntimeBackend.name,
    title=ONNX_RUNTIME.name,
    runs_on="CPU",
    open=_open,
    libraries=(ONNX_RUNTIME,),
    automatic=True,
    widens=("fp32",),
    slow=(("int8", SLOW_INT8),),
)
