# SPDX-License-Identifier: Apache-2.0
"""TensorRT on an NVIDIA GPU: building, inspecting, caching and running engines."""

from compact_yolo_ros.backends.info import BackendInfo
from compact_yolo_ros.backends.libraries import ONNX
from compact_yolo_ros.backends.tensorrt.cuda import PYCUDA
from compact_yolo_ros.backends.tensorrt.library import TENSORRT
from compact_yolo_ros.backends.tensorrt.run import TensorRTBackend, open_tensorrt

INFO = BackendInfo(
    name=TensorRTBackend.name,
    title=TENSORRT.name,
    runs_on="GPU",
    open=open_tensorrt,
    libraries=(TENSORRT, PYCUDA, ONNX),
    automatic=True,
    has_dla=True,
    converts=("fp16",),
)
