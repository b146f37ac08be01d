# SPDX-License-Identifier: Apache-2.0
"""TensorRT on an NVIDIA GPU: building, inspecting, caching and running engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compact_yolo_ros.backends.backend import MissingEngine, Opened
from compact_yolo_ros.backends.info import BackendInfo
from compact_yolo_ros.backends.libraries import ONNX
from compact_yolo_ros.backends.tensorrt.cuda import PYCUDA
from compact_yolo_ros.backends.tensorrt.library import TENSORRT, library

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions
    from compact_yolo_ros.model.store import ModelFile


def _open(model: ModelFile, options: RunOptions, build: bool) -> Opened | MissingEngine:
    library()
    # Imported late: most machines have no TensorRT, and ask for it at every start.
    from compact_yolo_ros.backends.tensorrt.run import open_tensorrt

    return open_tensorrt(model, options, build)


INFO = BackendInfo(
    name="tensorrt",
    title=TENSORRT.name,
    runs_on="GPU",
    open=_open,
    libraries=(TENSORRT, PYCUDA, ONNX),
    automatic=True,
    has_dla=True,
    batches=True,
    converts=("fp16",),
)
