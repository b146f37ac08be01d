# SPDX-License-Identifier: Apache-2.0
"""The libraries that the package uses, and which versions of them are installed."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import NamedTuple


class Library(NamedTuple):
    """A library that the package uses.

    Attributes:
        name: what people call it.
        module: what is imported to find out whether it works.
        distribution: its name on PyPI.
        purpose: what does not work without it; empty if nothing works.
    """

    name: str
    module: str
    distribution: str
    purpose: str = ""


LIBRARIES = (
    Library("NumPy", "numpy", "numpy"),
    Library("OpenCV", "cv2", "opencv-python-headless"),
    Library("ONNX Runtime", "onnxruntime", "onnxruntime"),
    Library("OpenVINO", "openvino", "openvino", "the backend openvino, faster on some x86 CPUs"),
    Library("TensorRT", "tensorrt", "tensorrt", "NVIDIA GPUs"),
    Library("pycuda", "pycuda.driver", "pycuda", "NVIDIA GPUs"),
    Library("onnx", "onnx", "onnx", "FP16 engines of FP32 files"),
    Library("nvidia-ml-py", "pynvml", "nvidia-ml-py", "the power of a graphics card"),
)


def installed_version(library: Library) -> str | None:
    """Return the version, without importing the library; None if it is not known."""
    try:
        return metadata.version(library.distribution)
    except metadata.PackageNotFoundError:
        # What the system's package manager has installed is not listed among Python's packages.
        loaded = sys.modules.get(library.module.partition(".")[0])
        version = getattr(loaded, "__version__", None)
        return None if version is None else str(version)
